"""Identify: landing files become accepted rows in the lake, or quarantined ones with reasons.

Reads: landing. Writes: lake raw_*, quarantine, ingestion_counts.
"""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import polars as pl

from ml.contract.screening import NOTHING_KNOWN, Known
from ml.contract.tables import CONTRACT
from ml.core.schemas import IngestionCounts, Quarantine
from ml.pipeline.identify import ScreenedNight, screen_night
from orchestration.lake import Lake, Receipt, write_parquet
from orchestration.partitions import NIGHTS
from orchestration.resources import IO_RETRIES, Landing, ProgrammeFile

_SPECS = [
    *(
        dg.AssetSpec(
            f"raw_{table}",
            description=f"Accepted rows of the contract table {table}: {schema.__doc__}",
            group_name="identify",
            kinds={"polars", "parquet"},
        )
        for table, schema in CONTRACT.items()
    ),
    dg.AssetSpec(
        "quarantine",
        description="Refused rows with file, row number, the row as delivered, and the reasons.",
        group_name="identify",
        kinds={"polars", "parquet"},
    ),
    dg.AssetSpec(
        "ingestion_counts",
        description="Delivered, accepted and quarantined rows per contract table.",
        group_name="identify",
        kinds={"polars", "parquet"},
    ),
]


@dg.multi_asset(
    specs=_SPECS,
    check_specs=[
        dg.AssetCheckSpec(
            "nothing_is_lost",
            asset="ingestion_counts",
            description="delivered = accepted + quarantined, for every table and night",
            blocking=False,
        ),
        dg.AssetCheckSpec(
            "few_rows_quarantined",
            asset="quarantine",
            description="At most 1 % of the delivered rows are quarantined",
            blocking=False,
        ),
    ],
    partitions_def=NIGHTS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=IO_RETRIES,
)
def ingestion(
    context: dg.AssetExecutionContext, landing: Landing, lake: Lake, programme: ProgrammeFile
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Screen each night's delivery and write it to the lake."""
    nights = [date.fromisoformat(key) for key in context.partition_keys]
    if len(nights) == 1 and nights[0] not in landing.ready_dates():
        raise dg.Failure(
            f"no events were delivered for {nights[0]}: put them into "
            f"{landing.folder('events', nights[0])} and run the night again",
            allow_retries=False,
        )
    settings = programme.read()
    known = read_known(lake, before=nights[0])
    totals = []
    receipts: dict[str, Receipt] = {}
    for position, night in enumerate(nights, start=1):
        screened = screen_night(landing.files(night), known=known, programme=settings)
        receipts = _write_night(lake, screened, night)
        for table, rows in screened.accepted.items():
            known = known.extend(table, rows)
        totals.append(screened.counts)
        if position % 14 == 0 or position == len(nights):
            context.log.info(f"screened {position} of {len(nights)} nights")
    counts = (
        pl.concat(totals)
        .group_by("table", maintain_order=True)
        .agg(pl.col("delivered", "accepted", "quarantined").sum())
    )
    for table, delivered, accepted, quarantined in counts.iter_rows():
        yield dg.MaterializeResult(
            asset_key=f"raw_{table}",
            metadata={
                "dagster/row_count": accepted,
                "delivered": delivered,
                "quarantined": quarantined,
                "path": dg.MetadataValue.path(str(receipts[f"raw_{table}"].path)),
            },
            data_version=dg.DataVersion(receipts[f"raw_{table}"].sha256),
        )
    n_delivered, n_quarantined = int(counts["delivered"].sum()), int(counts["quarantined"].sum())
    reasons = _count_reasons(lake, nights)
    yield dg.MaterializeResult(
        asset_key="quarantine",
        metadata={"dagster/row_count": n_quarantined, "reasons": dg.MetadataValue.md(reasons)},
    )
    yield dg.MaterializeResult(
        asset_key="ingestion_counts",
        metadata={"dagster/row_count": counts.height * len(nights), "delivered": n_delivered},
    )
    lost = counts.filter(pl.col("delivered") != pl.col("accepted") + pl.col("quarantined"))
    yield dg.AssetCheckResult(
        asset_key="ingestion_counts",
        check_name="nothing_is_lost",
        passed=lost.is_empty(),
        metadata={"delivered": n_delivered, "quarantined": n_quarantined},
    )
    yield dg.AssetCheckResult(
        asset_key="quarantine",
        check_name="few_rows_quarantined",
        passed=n_quarantined <= 0.01 * max(n_delivered, 1),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"quarantined": n_quarantined, "delivered": n_delivered},
    )


def read_known(lake: Lake, *, before: date) -> Known:
    """Return what the nights before a date established."""
    known = NOTHING_KNOWN
    for table, columns in (
        ("customers", ["customer_id", "signed_up_at"]),
        ("actions", ["action_id"]),
        ("assignments", ["decision_id"]),
    ):
        days = [day for day in lake.dates(f"raw_{table}") if day < before]
        if days:
            rows = lake.scan(f"raw_{table}", until=days[-1]).select(columns).collect()
            known = known.extend(table, rows)
    return known


def _write_night(lake: Lake, screened: ScreenedNight, night: date) -> dict[str, Receipt]:
    """Write one night's tables; counts last, so that they stand for a complete night."""
    receipts = {
        f"raw_{table}": write_parquet(rows, lake.path(f"raw_{table}", night))
        for table, rows in screened.accepted.items()
    }
    receipts["quarantine"] = lake.write(
        screened.quarantined, "quarantine", night, schema=Quarantine
    )
    receipts["ingestion_counts"] = lake.write(
        screened.counts, "ingestion_counts", night, schema=IngestionCounts
    )
    return receipts


def _count_reasons(lake: Lake, nights: list[date]) -> str:
    """Return the quarantined rows by table and reason as a Markdown list."""
    rows = pl.concat([lake.read("quarantine", night) for night in nights])
    if rows.is_empty():
        return "nothing quarantined"
    counts = rows.explode("reasons").group_by("table", "reasons").len().sort("len", descending=True)
    return "\n".join(
        f"- {table}: {count} x {reason}" for table, reason, count in counts.iter_rows()
    )
