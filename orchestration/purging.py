"""Purging: records of runs that nobody looks at any more leave Dagster's database.

Reads and writes: the Dagster instance. The lake, MLflow and sealed nights are not touched.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

_BATCH = 200


class PurgeConfig(dg.Config):
    """How long records are kept."""

    keep_days: int = 400


@dg.op
def purge_runs(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
    """Delete finished runs older than ``keep_days``, with their events and logs.

    The interface then shows their nights as never materialized: their tables stay in the lake.

    Raises
    ------
    Failure
        If less than a month is to be kept.
    """
    if config.keep_days < 31:
        raise dg.Failure(f"keep_days {config.keep_days}: keep a month at least")
    n_deleted = delete_runs(
        context.instance, before=datetime.now(UTC) - timedelta(days=config.keep_days)
    )
    context.add_output_metadata({"deleted_runs": n_deleted})
    context.log.info(f"deleted {n_deleted:,} runs older than {config.keep_days} days")


def delete_runs(instance: dg.DagsterInstance, *, before: datetime) -> int:
    """Delete finished runs created before a time; return how many.

    Parameters
    ----------
    instance
        The Dagster instance.
    before
        With its time zone.
    """
    finished = dg.RunsFilter(
        statuses=[
            dg.DagsterRunStatus.SUCCESS,
            dg.DagsterRunStatus.FAILURE,
            dg.DagsterRunStatus.CANCELED,
        ],
        created_before=before,
    )
    logs = Path(instance.storage_directory())
    n_deleted = 0
    while records := instance.get_run_records(finished, limit=_BATCH):
        for record in records:
            run_id = record.dagster_run.run_id
            instance.delete_run(run_id)
            shutil.rmtree(logs / run_id, ignore_errors=True)
        n_deleted += len(records)
    return n_deleted


@dg.job(
    description="Delete the records of runs older than a year and a month.",
    executor_def=dg.in_process_executor,
)
def purge() -> None:
    """Delete old runs' records."""
    purge_runs()
