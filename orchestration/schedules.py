"""When jobs run (UTC): the night at 01:30; on Mondays training at 03:30, the media mix at 04:30.

The world model's own schedule, Mondays at 02:30, is of the GPU location; search is on the 1st.
"""

import dagster as dg

from orchestration.catch_up import plan_catch_up
from orchestration.jobs import media_mix_fit, nightly, settings_search, weekly_training
from orchestration.purging import purge
from orchestration.resources import Landing
from orchestration.run_jobs import find_running
from orchestration.settings import read_settings

SCHEDULES_STATUS = (
    dg.DefaultScheduleStatus.RUNNING
    if read_settings().has_schedules_on
    else dg.DefaultScheduleStatus.STOPPED
)

_HOUR, _MINUTE = map(int, read_settings().night_at.split(":"))


@dg.schedule(
    job=nightly,
    cron_schedule=f"{_MINUTE} {_HOUR} * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)
def nightly_schedule(
    context: dg.ScheduleEvaluationContext, landing: Landing
) -> dg.RunRequest | dg.SkipReason:
    """Start tonight, unless sensor landing_files has, or must make something good before."""
    night = context.scheduled_execution_time.date()
    if night not in landing.ready_dates():
        return dg.SkipReason(f"the events of {night} are not delivered yet: landing_files waits")
    running = find_running(context.instance, jobs=(nightly.name, "history", "rebuild"))
    if running is not None:
        return dg.SkipReason(f"{running} is running")
    due = plan_catch_up(read_settings(), before=night)
    if due:
        return dg.SkipReason(
            f"{due[0].job} of {due[0].first} to {due[0].last} comes first: landing_files starts it"
        )
    return dg.RunRequest(run_key=str(night), partition_key=str(night))


weekly_training_schedule = dg.ScheduleDefinition(
    name="weekly_training_schedule",
    job=weekly_training,
    cron_schedule="30 3 * * 1",
    execution_timezone="UTC",
    # By the rule of drift and evidence, the sensor update_rule starts it instead.
    default_status=(
        SCHEDULES_STATUS
        if read_settings().updates == "weekly"
        else dg.DefaultScheduleStatus.STOPPED
    ),
)
settings_search_schedule = dg.ScheduleDefinition(
    name="settings_search_schedule",
    job=settings_search,
    cron_schedule="0 5 1 * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)
purge_schedule = dg.ScheduleDefinition(
    name="purge_schedule",
    job=purge,
    cron_schedule="0 6 1 * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)
media_mix_schedule = dg.ScheduleDefinition(
    name="media_mix_schedule",
    job=media_mix_fit,
    cron_schedule="30 4 * * 1",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)
