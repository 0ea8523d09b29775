"""Rollback: one job that takes the champion back, heads, calibration, cut and programme together.

Reads: lake, versions of assignment_policy. Writes: the champion alias, lake champion_changes.
"""

import dagster as dg

from orchestration.assets.snapshots import newest_night
from orchestration.champions import roll_back
from orchestration.lake import Lake
from orchestration.resources import Mlflow


class RollbackConfig(dg.Config):
    """Where to, an empty version meaning the one that the champion replaced, and why."""

    version: str = ""
    reason: str


@dg.op(pool="mlflow_registry")
def withdraw_champion(
    context: dg.OpExecutionContext, config: RollbackConfig, lake: Lake, mlflow: Mlflow
) -> None:
    """Withdraw the champion; the next night that is decided is the other's."""
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    day = newest_night(lake)
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"rollback {day}",
        tags={"dagster/run_id": context.run_id, "reason": config.reason},
    ):
        version = roll_back(
            lake,
            PolicyRegistry(mlflow.tracking_uri),
            day=day,
            cause="rolled_back",
            reason=config.reason,
            to=config.version or None,
        )
    context.log.info(f"version {version} decides from the next night on: {config.reason}")
    context.add_output_metadata({"champion": version, "reason": config.reason})


@dg.job(description="Take the champion back to the version that it replaced, or to a named one.")
def rollback() -> None:
    """Withdraw the champion."""
    withdraw_champion()
