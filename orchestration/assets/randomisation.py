"""Identify: whether the log is randomised as it says, and each offer's unadjusted effect.

Reads: lake marts. Writes: lake randomisation_checks and experiment_effects.
"""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from ml.core.schemas import ExperimentEffects, RandomisationChecks
from ml.pipeline.experiments import estimate_experiment_effects
from ml.pipeline.identify import check_randomisation, is_randomisation_sound
from ml.plots.effects import plot_effects
from orchestration.assets.embedding import embed_figure
from orchestration.assets.snapshots import newest_night, read_snapshot
from orchestration.lake import Lake, describe
from orchestration.resources import ProgrammeFile


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "randomisation_checks",
            deps=["logged_decisions", "customer_features", "realised_outcomes"],
            description="Sample ratios, covariate balance and propensity floor of the log.",
            group_name="identify",
            kinds={"polars"},
        ),
        dg.AssetSpec(
            "experiment_effects",
            deps=["logged_decisions", "customer_features", "realised_outcomes"],
            description="Each offer's unadjusted effect on spend, visits, value and cost.",
            group_name="identify",
            kinds={"polars"},
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "log_is_randomised",
            asset="randomisation_checks",
            description="No sample ratio or balance check fails; else the gate refuses.",
        )
    ],
)
def randomisation(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Check the matured log and report the offers' unadjusted effects."""
    training_date = newest_night(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date)
    settings = programme.read()
    checks = check_randomisation(snapshot.everything, actions=actions, programme=settings)
    effects = estimate_experiment_effects(snapshot.everything, actions=actions)
    failed = checks.filter(~pl.col("is_passed"))
    checked = lake.write(checks, "randomisation_checks", training_date, schema=RandomisationChecks)
    written = lake.write(effects, "experiment_effects", training_date, schema=ExperimentEffects)
    yield dg.MaterializeResult(
        asset_key="randomisation_checks",
        metadata={
            **describe([checked], RandomisationChecks),
            "failed": dg.MetadataValue.json(failed.to_dicts()),
        },
    )
    yield dg.MaterializeResult(
        asset_key="experiment_effects",
        metadata={
            **describe([written], ExperimentEffects),
            "effect_on_spend": embed_figure(
                plot_effects(effects, outcome="spend", currency=settings.currency)
            ),
        },
    )
    yield dg.AssetCheckResult(
        asset_key="randomisation_checks",
        check_name="log_is_randomised",
        passed=is_randomisation_sound(checks),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"checks": checks.height, "failed": failed.height},
    )
