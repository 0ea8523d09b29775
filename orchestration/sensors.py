"""Sensors: a delivery starts its night, the rule of updates a job; failed and late is told.

Reads: landing, lake. Writes: run requests, lake alerts.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from orchestration.alerts import Alert, find_late_table, tell
from orchestration.jobs import history, nightly, rebuild, recalibration, weekly_training
from orchestration.lake import Lake
from orchestration.next_run import find_next_run
from orchestration.resources import ProgrammeFile
from orchestration.run_jobs import tag_range
from orchestration.settings import read_channels, read_settings
from orchestration.updates import find_due

_STATUS = (
    dg.DefaultSensorStatus.RUNNING
    if read_settings().has_schedules_on
    else dg.DefaultSensorStatus.STOPPED
)


@dg.sensor(
    jobs=[nightly, history, rebuild],
    minimum_interval_seconds=60,
    default_status=_STATUS,
)
def landing_files(
    context: dg.SensorEvaluationContext,
) -> dg.RunRequest | dg.SkipReason:
    """Start the next undecided night once its delivery has lain still for two minutes.

    So nights that a stopped daemon missed are made good, one after the other. What has to run
    before is started first: nights never ingested, delivered anew, or half built. Tonight is left
    to the schedule for five minutes.
    """
    due = find_next_run(
        context.instance, read_settings(), now=datetime.now(UTC), wait=timedelta(minutes=5)
    )
    if isinstance(due, str):
        return dg.SkipReason(due)
    if due.job == nightly.name:
        return dg.RunRequest(run_key=due.key, job_name=due.job, partition_key=str(due.first))
    tags = {**tag_range(due.first, due.last), "liftloop/reason": due.reason}
    return dg.RunRequest(run_key=due.key, job_name=due.job, tags=tags)


@dg.sensor(
    jobs=[weekly_training, recalibration],
    minimum_interval_seconds=1800,
    default_status=(
        dg.DefaultSensorStatus.RUNNING
        if read_settings().has_schedules_on and read_settings().updates == "rule"
        else dg.DefaultSensorStatus.STOPPED
    ),
)
def update_rule(
    context: dg.SensorEvaluationContext, lake: Lake, programme: ProgrammeFile
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Start the training or recalibration that drift or new evidence asks for, once a night."""
    sealed = lake.dates("assignment_table")
    if not sealed or not lake.has("monitoring", sealed[-1]):
        yield dg.SkipReason("the last night has not ended yet")
        return
    night, days = sealed[-1] + timedelta(days=1), programme.read().matured_after_days
    update = find_due(lake, mode="rule", night=night, matured_after_days=days)
    if update.job is None:
        yield dg.SkipReason(update.reason)
        return
    # One a night, whichever it is: both write the night's evaluation record.
    yield dg.RunRequest(
        run_key=str(night), job_name=update.job, tags={"liftloop/reason": update.reason}
    )


@dg.sensor(
    minimum_interval_seconds=300,
    default_status=_STATUS,
)
def late_table(
    context: dg.SensorEvaluationContext, lake: Lake, programme: ProgrammeFile
) -> dg.SkipReason:
    """Tell, once a day, that today's table is not there by LIFTLOOP_DEADLINE."""
    now = datetime.now(UTC)
    alert = find_late_table(lake, now, read_settings().deadline)
    if alert is None:
        return dg.SkipReason("today's table is there, or not due yet")
    _tell(lake, programme, alert, context.log.warning)
    return dg.SkipReason(alert.text)


@dg.run_failure_sensor(
    monitor_all_code_locations=True,
    default_status=_STATUS,
)
def failed_runs(context: dg.RunFailureSensorContext, lake: Lake, programme: ProgrammeFile) -> None:
    """Tell of every failed run, by name: its error stands in Dagster."""
    run = context.dagster_run
    steps = {event.step_key for event in context.get_step_failure_events() if event.step_key}
    night = run.tags.get("dagster/partition")
    where = ([f"night {night}"] if night else []) + sorted(steps)
    text = (
        f"Job {run.job_name} failed ({', '.join(where) or 'before its first step'}): run "
        f"{run.run_id} in Dagster says why. Nothing that was sealed is changed."
    )
    _tell(lake, programme, Alert("failure", run.run_id, text), context.log.warning)


def _tell(lake: Lake, programme: ProgrammeFile, alert: Alert, say: Callable[[str], None]) -> None:
    """Keep and send one alert, of today."""
    today = datetime.now(UTC).date()
    tell(lake, today, [alert], read_channels(), programme=programme.read().name, say=say)
