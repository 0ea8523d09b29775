"""Learn, between trainings: the champion's effects brought in line with what matured since a drift.

Reads: lake marts, the champion. Writes: MLflow runs, versions of assignment_policy.
"""

from dataclasses import replace
from datetime import date, timedelta

import dagster as dg

from ml.core.errors import ContractError, PromotionError
from ml.pipeline.learn import describe_heads
from ml.pipeline.monitor import WINDOW_DAYS
from ml.pipeline.recalibrate import compare_heads, recalibrate_policy
from ml.pipeline.snapshots import take_snapshot
from ml.plots.effects import plot_heads
from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.assets.snapshots import SNAPSHOT, find_training_date, read_matured
from orchestration.lake import Lake
from orchestration.resources import Mlflow, ProgrammeFile


class RecalibrationConfig(dg.Config):
    """The first decision date that counts; empty: that of the newest four weeks that matured."""

    since: str = ""


@dg.asset(
    deps=SNAPSHOT,
    group_name="learn",
    kinds={"mlflow"},
    pool="mlflow_registry",
)
def recalibrated_policy(
    context: dg.AssetExecutionContext,
    config: RecalibrationConfig,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
) -> dg.MaterializeResult:
    """Calibrate the champion on recent decisions and register that as the candidate."""
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    registry = PolicyRegistry(mlflow.tracking_uri)
    champion = registry.load_champion()
    if champion is None:
        raise PromotionError("there is no champion yet: run weekly_training")
    training_date, settings = find_training_date(lake), programme.read()
    since = _find_since(config.since, training_date, settings.matured_after_days)
    recent = take_snapshot(
        read_matured(lake, training_date, since=since, has_beliefs=True),
        programme=replace(settings, attributes=champion.policy.attributes),
        actions=champion.policy.actions,
    )
    candidate = recalibrate_policy(
        champion.policy,
        recent,
        programme=settings,
        progress=lambda message: context.log.info(message),
    )
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"recalibrated_policy {training_date}",
        tags={
            "dagster/run_id": context.run_id,
            "dagster/asset": "recalibrated_policy",
            "champion_version": champion.version,
        },
    ) as run:
        run.log_params(
            {
                "training_date": training_date,
                "since": since,
                "n_decisions": recent.training.n_decisions,
                "recalibrated": champion.version,
                "data_hash": recent.data_hash,
            }
        )
        figure = plot_heads(describe_heads(candidate), currency=settings.currency)
        run.log_figure(figure, "effects.png")
        registered = registry.register(
            candidate,
            programme=settings,
            tags={
                "training_date": str(training_date),
                "data_hash": recent.data_hash,
                "recalibrated": champion.version,
                "since": str(since),
            },
        )
    registry.mark_candidate(registered.version)
    return dg.MaterializeResult(
        metadata={
            "candidate": registered.version,
            "recalibrated": champion.version,
            "since": str(since),
            "n_decisions": recent.training.n_decisions,
            "mlflow_run": mlflow.link(run.page),
            "heads": tabulate(compare_heads(champion.policy, candidate)),
            "effects": embed_figure(figure),
        },
        data_version=dg.DataVersion(registered.policy_hash),
    )


def _find_since(text: str, training_date: date, matured_after_days: int) -> date:
    """Return the first decision date that counts."""
    if not text:
        return training_date - timedelta(days=matured_after_days + WINDOW_DAYS)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ContractError(f"since '{text}' is no date: write it as 2026-03-02") from None
