"""Nights: one partition per decision date; a night exists from its own midnight (UTC) on."""

import dagster as dg

from orchestration.settings import read_settings

NIGHTS = dg.DailyPartitionsDefinition(
    start_date=str(read_settings().first_partition()), end_offset=1
)
