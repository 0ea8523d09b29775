"""When jobs run: the night at 01:30, training on Mondays at 03:30, search on the 1st (UTC).

The world model's own schedule, Mondays at 02:30, is of the GPU location.
"""

import dagster as dg

from orchestration.jobs import nightly, settings_search, weekly_training
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
    default_status=SCHEDULES_STATUS,
)
settings_search_schedule = dg.ScheduleDefinition(
    name="settings_search_schedule",
    job=settings_search,
    cron_schedule="0 5 1 * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)
