"""Identify: landing files become accepted rows in the lake, or quarantined ones with reasons.

Reads: landing, the sealed assignment table of the night before. Writes: lake raw_*, quarantine,
delivered_files, ingestion_counts, ingested_nights, and that table's landing file.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import polars as pl

from ml.contract.screening import NOTHING_KNOWN, Known
from ml.contract.tables import CONTRACT
from ml.core.errors import LandingError
from ml.core.programme import Programme
from ml.core.schemas import DeliveredFiles, IngestionCounts, NightDone, Quarantine
from ml.pipeline.decide import to_contract
from ml.pipeline.identify import ScreenedNight, screen_night
from orchestration.assets.embedding import explain
from orchestration.catch_up import last_chain, link_chain
from orchestration.lake import Lake, Receipt, write_parquet
from orchestration.partitions import NIGHTS
from orchestration.resources import EMITTED_FILE, IO_RETRIES, Landing, ProgrammeFile

_SPECS = [
    *(
        dg.AssetSpec(
            f"raw_{table}",
            description=f"Accepted rows of the contract table {table}: {explain(schema)}",
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
        "delivered_files",
        description="Every landed file as it was screened: rows, fingerprint, size, time.",
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
    # A range may hold days on which nothing happened; a night to be decided may not be one.
    is_range = "dagster/asset_partition_range_start" in context.run_tags
    if not is_range and nights[0] not in landing.ready_dates():
        raise dg.Failure(
            f"no events were delivered for {nights[0]}: put them into "
            f"{landing.folder('events', nights[0])} and run the night again",
            allow_retries=False,
        )
    _refuse_gap(lake, nights[0])
    for name in landing.misplaced():
        context.log.warning(f"not read: landing/{name}")
    settings = programme.read()
    known = read_known(lake, before=nights[0])
    for night in nights:
        _refuse_withdrawn(lake, landing, night)
    chain = last_chain(lake, before=nights[0])
    totals = []
    receipts: dict[str, Receipt] = {}
    for position, night in enumerate(nights, start=1):
        _deliver_own_decisions(lake, landing, settings, night)
        screened = screen_night(landing.files(night), known=known, programme=settings, night=night)
        receipts = _write_night(lake, screened, night)
        # Last: it says that the night is whole, and on which deliveries.
        chain = link_chain(lake, night, chain)
        done = pl.DataFrame({"decision_date": [night], "chain": [chain]})
        lake.write(done, "ingested_nights", night, schema=NightDone)
        known = known.remember_files(screened.files)
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
        asset_key="delivered_files",
        metadata={
            "dagster/row_count": receipts["delivered_files"].n_rows,
            "path": dg.MetadataValue.path(str(receipts["delivered_files"].path)),
        },
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
    days = [day for day in lake.dates("delivered_files") if day < before]
    if days:
        known = known.remember_files(lake.scan("delivered_files", until=days[-1]).collect())
    return known


def _deliver_own_decisions(lake: Lake, landing: Landing, programme: Programme, night: date) -> None:
    """Lay the night before's sealed table into tonight's delivery: tonight is its log."""
    decided = night - timedelta(days=1)
    if lake.has("assignment_table", decided):
        rows = to_contract(lake.read("assignment_table", decided), programme)
        write_parquet(rows, landing.folder("assignments", night) / EMITTED_FILE)


def _refuse_gap(lake: Lake, night: date) -> None:
    """Refuse a night whose day before was never ingested: features would look back on a gap."""
    before = night - timedelta(days=1)
    ingested = lake.dates("ingested_nights")
    if ingested and ingested[0] < night and before not in ingested:
        last = max(day for day in ingested if day < night)
        raise dg.Failure(
            f"{night} follows nights that were never ingested: run job history for "
            f"{last + timedelta(days=1)} to {before} first; sensor landing_files does so by itself",
            allow_retries=False,
        )


def _refuse_withdrawn(lake: Lake, landing: Landing, night: date) -> None:
    """Refuse to ingest a night anew when files whose rows were accepted are gone.

    Raises
    ------
    LandingError
        Naming them.
    """
    if not lake.has("delivered_files", night):
        return
    here = {(table, path.name) for table, paths in landing.files(night).items() for path in paths}
    accepted = lake.read("delivered_files", night).filter(pl.col("accepted") > 0)
    gone = [
        f"{table}/{night}/{name}"
        for table, name in accepted.select("table", "source_file").iter_rows()
        if (table, name) not in here
    ]
    if gone:
        raise LandingError(
            f"accepted before and gone from landing: {', '.join(gone)}. Put them back, or, to "
            "withdraw their rows, leave empty files of these names"
        )


def _write_night(lake: Lake, screened: ScreenedNight, night: date) -> dict[str, Receipt]:
    """Write one night's tables."""
    receipts = {
        f"raw_{table}": write_parquet(rows, lake.path(f"raw_{table}", night))
        for table, rows in screened.accepted.items()
    }
    receipts["quarantine"] = lake.write(
        screened.quarantined, "quarantine", night, schema=Quarantine
    )
    receipts["delivered_files"] = lake.write(
        screened.files, "delivered_files", night, schema=DeliveredFiles
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
