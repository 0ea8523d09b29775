"""Identify: what our decisions share with others: other programmes, and eligibility's boundaries.

Reads: lake marts, raw_assignments. Writes: lake portfolio_effects and boundary_effects.
"""

import dagster as dg
import polars as pl

from ml.core.schemas import BoundaryEffects, PortfolioEffects
from ml.pipeline.eligibility import estimate_boundary_effects
from ml.pipeline.portfolio import estimate_portfolio
from ml.plots.effects import plot_portfolio
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.assets.snapshots import (
    SNAPSHOT,
    find_training_date,
    read_matured,
    read_snapshot,
)
from orchestration.lake import Lake, describe
from orchestration.resources import ProgrammeFile


@dg.asset(
    deps=[*SNAPSHOT, "raw_assignments"],
    group_name="identify",
    kinds={"polars"},
    description=explain(PortfolioEffects),
)
def portfolio_effects(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Set our offers beside each other programme's, and say whether effects may be added."""
    training_date, settings = find_training_date(lake), programme.read()
    snapshot, actions = read_snapshot(lake, programme, training_date)
    others = (
        lake.scan("raw_assignments", until=training_date)
        .filter(pl.col("surface") != (settings.surface or pl.col("surface")))
        .collect()
    )
    effects = estimate_portfolio(
        snapshot.everything, others, control=actions.action_ids[0], programme=settings
    )
    for refusal in effects.filter(outcome="net_value")["refusal"].drop_nulls():
        context.log.warning(refusal)
    written = lake.write(effects, "portfolio_effects", training_date, schema=PortfolioEffects)
    return dg.MaterializeResult(
        metadata={
            **describe([written], PortfolioEffects),
            "effects": tabulate(effects),
            "both_programmes": embed_figure(plot_portfolio(effects, currency=settings.currency)),
        },
        data_version=dg.DataVersion(written.sha256),
    )


@dg.asset(
    deps=SNAPSHOT,
    group_name="identify",
    kinds={"polars"},
    description=explain(BoundaryEffects),
)
def boundary_effects(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Estimate what moving each eligibility rule's boundary would bring."""
    training_date = find_training_date(lake)
    effects = estimate_boundary_effects(
        read_matured(lake, training_date), programme=programme.read()
    )
    written = lake.write(effects, "boundary_effects", training_date, schema=BoundaryEffects)
    return dg.MaterializeResult(
        metadata={**describe([written], BoundaryEffects), "effects": tabulate(effects)},
        data_version=dg.DataVersion(written.sha256),
    )
