"""What a daemon starts next: a rebuild or history that is due first, or the night itself.

Reads: landing, lake, the Dagster instance. Writes: nothing.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg

from orchestration.catch_up import plan_catch_up
from orchestration.holding import find_holder
from orchestration.jobs import history, nightly, rebuild
from orchestration.lake import Lake
from orchestration.resources import Landing
from orchestration.run_jobs import find_running
from orchestration.settings import Settings

_QUIET_SECONDS = 120
_NIGHT_JOBS = (nightly.name, history.name, rebuild.name)


@dataclass(frozen=True)
class NextRun:
    """A job for a range of nights, why, and a key that is the same until it has been done."""

    job: str
    first: date
    last: date
    reason: str
    key: str


def find_next_run(
    instance: dg.DagsterInstance,
    settings: Settings,
    *,
    now: datetime,
    wait: timedelta = timedelta(0),
) -> NextRun | str:
    """Return what is to be started now, or why nothing is.

    Parameters
    ----------
    instance
        Where runs are recorded.
    settings
        The state folder.
    now
        With its time zone. A night is started from its own LIFTLOOP_NIGHT on, once its delivery has
        lain still for two minutes.
    wait
        How much later tonight is left to whoever else may start it.

    Returns
    -------
    NextRun or str
        Catching up comes before the night: what was never ingested, delivered anew, or half built.
    """
    lake, landing = Lake(root=str(settings.lake)), Landing(root=str(settings.landing))
    sealed = lake.dates("assignment_table")
    if not sealed:
        return "no night was decided yet: start the first one by hand"
    waiting = [each for each in landing.ready_dates() if sealed[-1] < each <= now.date()]
    if not waiting:
        return f"nothing delivered after {sealed[-1]}"
    night = waiting[0]
    begins = datetime.combine(
        night, datetime.strptime(settings.night_at, "%H:%M").time(), now.tzinfo
    )
    if now < begins + wait:
        return f"{night} begins at {begins + wait:%H:%M}"
    running = find_running(instance, jobs=_NIGHT_JOBS) or find_holder(settings)
    if running is not None:
        return f"{running} is running"
    files = [path.stat() for path in landing.delivered(night)]
    newest = max(each.st_mtime for each in files)
    if now.timestamp() - newest < _QUIET_SECONDS:
        return f"the delivery of {night} is still arriving"
    delivery = f"{night}:{int(newest)}:{len(files)}"
    for due in plan_catch_up(settings, before=night):
        # One that failed is not begun again by itself; one that ended may become due again.
        succeeded = dg.RunsFilter(job_name=due.job, statuses=[dg.DagsterRunStatus.SUCCESS])
        told = f"{due.causes}:{instance.get_runs_count(succeeded)}"
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        reason = "; ".join(due.causes[:3]) or f"not ingested before {night}"
        key = f"{due.job}:{due.first}:{due.last}:{delivery}:{digest}"
        return NextRun(due.job, due.first, due.last, reason, key)
    return NextRun(nightly.name, night, night, "delivered", delivery)
