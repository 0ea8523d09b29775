"""What has to be made good before a night: deliveries not yet ingested, partitions that are gone.

Reads: landing, lake, warehouse. Writes: nothing; its answers are ranges of nights to run.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from ml.contract.tables import CONTRACT
from orchestration.lake import Lake
from orchestration.resources import Landing
from orchestration.settings import Settings

DERIVED = (
    *(f"raw_{table}" for table in CONTRACT),
    "quarantine",
    "delivered_files",
    "ingestion_counts",
    "customer_features",
    "logged_decisions",
    "realised_outcomes",
)
"""Lake tables that every ingested night has, made from landing alone."""


def find_missing_nights(settings: Settings, *, before: date) -> tuple[list[date], list[str]]:
    """Return the nights to ingest first, and why.

    Parameters
    ----------
    settings
        The state folder.
    before
        The night to be decided.

    Returns
    -------
    tuple
        Every night from the first one that was never ingested, lost a lake partition or has
        landed files that differ from those it was made of, up to the one before ``before``; and
        a line per cause.
    """
    lake, landing = Lake(root=str(settings.lake)), Landing(root=str(settings.landing))
    start = settings.first_partition()
    nights = [start + timedelta(days=offset) for offset in range((before - start).days)]
    there = {table: set(lake.dates(table)) for table in DERIVED}
    begun = set().union(*there.values())
    first, causes = before, []
    for night in nights:
        lost = [table for table in DERIVED if night not in there[table]]
        changed = [] if lost else list(_list_changed(lake, landing, night))
        if night in begun:
            causes += [f"{table} of {night} is gone from the lake" for table in lost]
            causes += [f"{name} was delivered after its night was ingested" for name in changed]
        if lost or changed:
            first = min(first, night)
    return [night for night in nights if night >= first], causes


def find_lost_build(settings: Settings) -> list[date]:
    """Return the ingested nights if the warehouse is gone: it is built anew from the lake."""
    if settings.warehouse.exists():
        return []
    return Lake(root=str(settings.lake)).dates("ingestion_counts")


def _list_changed(lake: Lake, landing: Landing, night: date) -> Iterator[str]:
    """Name the landed files that are new, or other than those that were screened."""
    screened = {
        (row["table"], row["source_file"]): (row["size"], row["modified_ns"])
        for row in lake.read("delivered_files", night).iter_rows(named=True)
    }
    for table, paths in landing.files(night).items():
        for path in paths:
            stat = path.stat()
            if screened.get((table, path.name)) != (stat.st_size, stat.st_mtime_ns):
                yield f"{table}/{night}/{path.name}"
