"""Validate: who has to hear of tonight.

Reads: lake tables of the night. Writes: lake alerts; messages.
"""

from datetime import date

import dagster as dg

from orchestration.alerts import TABLE, Alerts, find_alerts, tell
from orchestration.assets.embedding import explain, tabulate
from orchestration.lake import Lake
from orchestration.partitions import NIGHTS
from orchestration.resources import ProgrammeFile
from orchestration.settings import read_channels


@dg.asset(
    name=TABLE,
    # Not the page: who has to be told of drift is told though MLflow is away.
    deps=["monitoring", "online_validation", "assignment_table"],
    partitions_def=NIGHTS,
    group_name="validate",
    kinds={"parquet"},
    description=explain(Alerts),
)
def alerts(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Tell of drift, the budget, refused promotions and withdrawn champions, each once."""
    night, channels = date.fromisoformat(context.partition_key), read_channels()
    table = tell(
        lake,
        night,
        find_alerts(lake, night),
        channels,
        programme=programme.read().name,
        say=context.log.warning,
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": table.height,
            "unsent": int((table["told"].list.len() < len(channels)).sum()),
            "told": f"{len(channels)} channels" if channels else "nobody: set LIFTLOOP_ALERTS",
            "alerts": tabulate(table),
        }
    )
