"""Learn: the media mix, weekly: what bought media and messages add, and how to split the spend.

Reads: lake media_daily, sales_daily and the marts of decisions. Writes: lake lift_tests,
media_returns, media_contributions and channel_budgets; MLflow runs.
"""

from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec

import dagster as dg
import numpy as np
import polars as pl

from ml.core.errors import ContractError, LiftloopError
from ml.core.media_schemas import ChannelBudgets, LiftTests, MediaContributions, MediaReturns
from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.assets.snapshots import newest_night, read_snapshot
from orchestration.lake import Lake, describe
from orchestration.resources import Mlflow, ProgrammeFile


class MediaMixConfig(dg.Config):
    """How long the chains are: ``n_draws`` each of four, after as many."""

    n_draws: int = 800


NEEDED = "the media mix needs NumPyro: pip install -c constraints.txt '.[media]'"
_CONVERGED = "chains_agree"
_PREDICTS = "weeks_are_predicted"
_TABLES = {
    "lift_tests": LiftTests,
    "media_returns": MediaReturns,
    "media_contributions": MediaContributions,
    "channel_budgets": ChannelBudgets,
}


@dg.multi_asset(
    name="fit_media_mix",
    specs=[
        dg.AssetSpec(
            "media_mix",
            deps=["media_daily", "sales_daily", "logged_decisions", "realised_outcomes"],
            description="What each channel adds to the KPI and would add; a split of the spend.",
            group_name="learn",
            kinds={"numpyro", "mlflow"},
        )
    ],
    check_specs=[
        dg.AssetCheckSpec(
            _CONVERGED,
            asset="media_mix",
            description="R-hat below 1.01, more than 400 effective draws, at most 0.1 % divergent",
        ),
        dg.AssetCheckSpec(
            _PREDICTS,
            asset="media_mix",
            description="At least 80 % of the weeks lie within their 90 % predictive interval",
        ),
    ],
)
def media_mix(
    context: dg.AssetExecutionContext,
    config: MediaMixConfig,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Fit with and without the randomised log's lift tests; write returns and budgets."""
    if find_spec("numpyro") is None:
        raise LiftloopError(NEEDED)
    from ml.media_mix.fitting import MediaMixSettings
    from ml.media_mix.reading import read_contributions, respond
    from ml.pipeline.mix_media import mix_media
    from ml.plots.media_mix import plot_contributions, plot_responses, plot_returns, plot_split
    from ml.tracking.runs import track_run

    night = newest_night(lake)
    snapshot, actions = read_snapshot(lake, programme, night)
    settings = programme.read()
    mixed = mix_media(
        lake.read("media_daily", _newest(lake, "media_daily", night)),
        lake.read("sales_daily", _newest(lake, "sales_daily", night)),
        # Fitted propensities are no randomisation: without logged ones there is no lift test.
        snapshot.training if snapshot.fitted is None else snapshot.training.take(np.arange(0)),
        actions=actions,
        programme=settings,
        as_of=night,
        decided=snapshot.everything.contexts.frame["decision_date"],
        settings=MediaMixSettings(n_warmup=config.n_draws, n_draws=config.n_draws),
        progress=context.log.info,
    )
    mix = mixed.calibrated
    contributions = read_contributions(mix)
    series, split = mix.series, mixed.split
    most = 1.5 * np.maximum(split.current, split.spend)
    grid = np.linspace(0, 1, 60)[:, None] * most  # (G, C)
    added = respond(mix, grid)  # (S, G, C)
    figures = {
        "returns": plot_returns(mixed.returns, currency=settings.currency),
        "contributions": plot_contributions(
            contributions,
            pl.DataFrame({"week": series.weeks, "kpi": series.kpi}),
            currency=settings.currency,
        ),
        "responses": plot_responses(
            {each: (grid[:, c], added[:, :, c]) for c, each in enumerate(series.channels)},
            current=dict(zip(split.channels, split.current.tolist(), strict=True)),
            recommended=dict(zip(split.channels, split.spend.tolist(), strict=True)),
            currency=settings.currency,
        ),
        "split": plot_split(mixed.budgets, currency=settings.currency),
    }
    found = mix.diagnostics
    figures_of_fit = {
        "largest_r_hat": found.largest_r_hat,
        "least_effective_draws": found.least_ess,
        "divergent_share": found.divergent_share,
        "share_within_predictive_interval": found.share_within,
    }
    written = {
        "lift_tests": mixed.lifts,
        "media_returns": mixed.returns,
        "media_contributions": contributions,
        "channel_budgets": mixed.budgets,
    }
    receipts = {
        table: lake.write(rows, table, night, schema=_TABLES[table])
        for table, rows in written.items()
    }
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"media_mix {night}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "media_mix"},
    ) as run:
        run.log_params(
            {
                "weeks": series.n_weeks,
                "channels": len(series.channels),
                "lift_tests": len(mix.tests),
            }
        )
        run.log_metrics(figures_of_fit)
        for name, figure in figures.items():
            run.log_figure(figure, f"{name}.png")
    low, high = np.quantile(split.gain, [0.05, 0.95])
    yield dg.MaterializeResult(
        asset_key="media_mix",
        metadata={
            "mlflow_run": mlflow.link(run.page),
            "weeks": series.n_weeks,
            "gain_of_the_split": dg.MetadataValue.text(
                f"{split.gain.mean():,.0f} {settings.currency} of KPI a week "
                f"[{low:,.0f}, {high:,.0f}] at the same spend"
            ),
            "lift_tests": tabulate(mixed.lifts),
            "budgets": tabulate(mixed.budgets),
            **{name: embed_figure(figure) for name, figure in figures.items()},
            **describe([receipts["media_returns"]], MediaReturns),
        },
        data_version=dg.DataVersion(receipts["media_returns"].sha256),
    )
    for name, passed in ((_CONVERGED, found.has_converged), (_PREDICTS, found.predicts)):
        yield dg.AssetCheckResult(
            asset_key="media_mix",
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=dict(figures_of_fit),
        )


def _newest(lake: Lake, table: str, night: date) -> date:
    days = [day for day in lake.dates(table) if day <= night]
    if not days:
        raise ContractError(f"the lake has no {table} yet: run a night first")
    return days[-1]
