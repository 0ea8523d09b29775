"""When jobs run (UTC): the night at 01:30; on Mondays training at 03:30, the media mix at 04:30.

The world model's own schedule, Mondays at 02:30, is of the GPU location; search is on the 1st.
"""

import dagster as dg

from orchestration.jobs import media_mix_fit, nightly, settings_search, weekly_training
from orchestration.settings import read_settings

SCHEDULES_STATUS = (
    dg.DefaultScheduleStatus.RUNNING
    if read_settings().has_schedules_on
    else dg.DefaultScheduleStatus.STOPPED
)

nightly_schedule = dg.build_schedule_from_partitioned_job(
    nightly,
    name="nightly_schedule",
    hour_of_day=1,
    minute_of_hour=30,
    default_status=SCHEDULES_STATUS,
)
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
media_mix_schedule = dg.ScheduleDefinition(
    name="media_mix_schedule",
    job=media_mix_fit,
    cron_schedule="30 4 * * 1",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)
