"""Running jobs in this process, with progress, and clearing up after runs that were killed.

Reads and writes: the Dagster instance.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path

import dagster as dg

from ml.core.errors import LiftloopError

_PROCESS_TAG = "liftloop/process"
_GPU_JOBS = ("world_model_training",)


def run_job(
    instance: dg.DagsterInstance,
    name: str,
    *,
    night: date | None = None,
    until: date | None = None,
    config: Mapping[str, object] | None = None,
) -> None:
    """Run a job in this process.

    Parameters
    ----------
    instance
        Where the run is recorded.
    name
        Of either code location.
    night, until
        One partition, or with ``until`` a range of them in a single run.
    config
        Run config beside the progress logger.

    Raises
    ------
    LiftloopError
        If the run failed; the reason was printed where it happened.
    """
    if name in _GPU_JOBS:
        from orchestration.gpu_definitions import defs
    else:
        from orchestration.definitions import defs
    tags = {_PROCESS_TAG: _identify_process(os.getpid())}
    if until is not None:
        tags |= tag_range(night, until)
    # Tools' own chatter goes to a file; the progress logger writes to the terminal itself.
    stages = Path(instance.root_directory) / "stages.log"
    with stages.open("a") as log, redirect_stdout(log), redirect_stderr(log):
        result = defs.resolve_job_def(name).execute_in_process(
            instance=instance,
            partition_key=str(night) if night is not None and until is None else None,
            run_config={"loggers": {"progress": {}}, **(config or {})},
            tags=tags,
            raise_on_error=False,
        )
    if not result.success:
        raise LiftloopError(f"{name} failed (run {result.run_id}); the reason stands above")


def tag_range(first: date | None, last: date) -> Mapping[str, str]:
    """Return the tags that make one run of a range of nights."""
    return {
        "dagster/asset_partition_range_start": str(first),
        "dagster/asset_partition_range_end": str(last),
    }


def find_running(instance: dg.DagsterInstance, *, jobs: Sequence[str]) -> str | None:
    """Return a job of these of which a run waits or has begun, None without one."""
    going = dg.RunsFilter(
        statuses=[
            dg.DagsterRunStatus.QUEUED,
            dg.DagsterRunStatus.NOT_STARTED,
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.STARTED,
            dg.DagsterRunStatus.CANCELING,
        ]
    )
    return next((run.job_name for run in instance.get_runs(going) if run.job_name in jobs), None)


def clear_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process is gone as failed, and free their pool slots.

    Parameters
    ----------
    instance
        The Dagster instance.

    Returns
    -------
    list
        Run ids that were cleared.
    """
    unfinished = instance.get_runs(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    )
    cleared = []
    for run in unfinished:
        if _is_alive(instance, run):
            continue
        # The slots first: a run that is marked already is not looked at again.
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        instance.report_run_failed(run, "the process that executed the run is gone")
        cleared.append(run.run_id)
    return cleared


def _is_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether a run's process is there: of ours by its tag, of others by their events.

    A run that tells no process is taken to be alive.
    """
    process = run.tags.get(_PROCESS_TAG)
    if process is not None:
        return process == _identify_process(int(process.split(":")[0]))
    told = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    processes = [
        (int(str(entry.value)), record.event_log_entry.timestamp)
        for record in told.records
        if (event := record.event_log_entry.dagster_event) is not None
        for name, entry in event.engine_event_data.metadata.items()
        if name == "pid" and str(entry.value).isdigit()
    ]
    return not processes or any(_was_there(pid, told_at) for pid, told_at in processes)


def _was_there(pid: int, at: float) -> bool:
    """Return whether a process runs and had begun by a time: its number may be another's now."""
    try:
        return Path(f"/proc/{pid}").stat().st_ctime <= at + 1
    except OSError:
        return False


def _identify_process(pid: int) -> str:
    """Return pid and start time: a pid alone is soon another process's."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return f"{pid}:gone"
    return f"{pid}:{started}"
