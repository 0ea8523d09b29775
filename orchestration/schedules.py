"""When jobs run (UTC): the night at 01:30; on Mondays training at 03:30, the media mix at 04:30.

The world model's own schedule, Mondays at 02:30, is of the GPU location; search is on the 1st.
"""

import dagster as dg

from orchestration.jobs import media_mix_fit, nightly, settings_search, weekly_training
from orchestration.next_run import find_next_run
from orchestration.purging import purge
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
def nightly_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Start tonight if it is delivered and nothing comes before it; else landing_files will."""
    due = find_next_run(context.instance, read_settings(), now=context.scheduled_execution_time)
    if isinstance(due, str):
        return dg.SkipReason(due)
    if due.job != nightly.name:
        return dg.SkipReason(
            f"{due.job} of {due.first} to {due.last} comes first: landing_files starts it"
        )
    return dg.RunRequest(run_key=due.key, partition_key=str(due.first))


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
