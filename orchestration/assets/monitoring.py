"""Validate: the night in words.

Reads: lake tables of the night and the newest evaluation. Writes: nothing; its text is metadata.
"""

from datetime import date

import dagster as dg

from orchestration.lake import Lake
from orchestration.partitions import NIGHTS
from orchestration.resources import ProgrammeFile
from orchestration.summary import summarise_night


@dg.asset(
    deps=["assignment_table", "ingestion_counts", "quarantine", "evaluation_record"],
    partitions_def=NIGHTS,
    group_name="validate",
    description="What was delivered, decided and proven, in words.",
)
def nightly_summary(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Write the night's summary into the asset's metadata."""
    text = summarise_night(lake, programme.read(), date.fromisoformat(context.partition_key))
    return dg.MaterializeResult(metadata={"summary": dg.MetadataValue.md(f"```\n{text}\n```")})
