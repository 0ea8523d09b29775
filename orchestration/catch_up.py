"""What has to be made good before a night: deliveries not yet ingested, partitions that are gone.

Reads: landing, lake. Writes: nothing; its answers are ranges of nights to run. Before a lost
warehouse is begun anew, that nights are built is taken back.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from ml.contract.tables import CONTRACT
from orchestration.lake import Lake
from orchestration.resources import Landing
from orchestration.settings import Settings

INGESTED = (
    *(f"raw_{table}" for table in CONTRACT),
    "quarantine",
    "delivered_files",
    "ingestion_counts",
    "ingested_nights",
)
"""Lake tables that every ingested night has, made from landing alone; the last is written last."""
BUILT = (
    "customer_features",
    "customer_days",
    "customer_tokens",
    "logged_decisions",
    "realised_outcomes",
    "built_nights",
)
"""Lake tables that every built night has, made from the raw ones; the last is written last."""


@dataclass(frozen=True)
class CatchUp:
    """A range of nights to run before the next one, and why."""

    job: str
    first: date
    last: date
    causes: list[str]


def plan_catch_up(settings: Settings, *, before: date) -> list[CatchUp]:
    """Return what has to run before a night is decided.

    Parameters
    ----------
    settings
        The state folder.
    before
        The night to be decided.

    Returns
    -------
    list
        At most a rebuild of ingested nights that lost their build, then a history of nights that
        were never ingested or not as they are delivered now.
    """
    missing, causes = find_missing_nights(settings, before=before)
    # Nights that are ingested again are built by that.
    is_lost = not settings.warehouse.exists()
    unbuilt = find_unbuilt_nights(
        settings, before=missing[0] if missing else before, is_lost=is_lost
    )
    plan = []
    if unbuilt:
        why = "the warehouse is gone" if is_lost else f"the build of {unbuilt[0]} had not ended"
        reason = f"{why}: built anew from the lake"
        plan.append(CatchUp("rebuild", unbuilt[0], unbuilt[-1], [reason]))
    if missing:
        reasons = [f"{cause}: ingested again from {missing[0]} on" for cause in causes]
        plan.append(CatchUp("history", missing[0], missing[-1], reasons))
    return plan


def link_chain(lake: Lake, night: date, previous: str) -> str:
    """Return a night's chain: the one before it, and the night's files as they were accepted."""
    files = lake.read("delivered_files", night).sort("table", "source_file")
    told = files.select("table", "source_file", "delivered", "accepted", "fingerprint")
    return hashlib.sha256(f"{previous}\n{night}\n{told.write_csv()}".encode()).hexdigest()[:32]


def last_chain(lake: Lake, *, before: date) -> str:
    """Return the chain of the newest ingested night before a date; empty if there is none."""
    days = [day for day in lake.dates("ingested_nights") if day < before]
    return str(lake.read("ingested_nights", days[-1])["chain"][0]) if days else ""


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
        Every night from the first one that was never ingested, lost a lake partition, has landed
        files that differ from those that it was made of, or follows a night that was ingested
        anew, up to the one before ``before``; and a line per cause.
    """
    lake, landing = Lake(root=str(settings.lake)), Landing(root=str(settings.landing))
    start = settings.first_partition()
    nights = [start + timedelta(days=offset) for offset in range((before - start).days)]
    there = {table: set(lake.dates(table)) for table in INGESTED}
    begun = set().union(*there.values())
    first, causes, chain = before, [], ""
    for night in nights:
        lost = [table for table in INGESTED if night not in there[table]]
        changed = [] if lost else list(_list_changed(lake, landing, night))
        if night in begun:
            causes += [f"{table} of {night} is gone from the lake" for table in lost]
            causes += [f"{name} was delivered after its night was ingested" for name in changed]
        is_stale = False
        if not lost:
            chain = link_chain(lake, night, chain)
            is_stale = lake.read("ingested_nights", night)["chain"][0] != chain
        if lost or changed or is_stale:
            first = night
            break
    return [night for night in nights if night >= first], causes


def find_unbuilt_nights(settings: Settings, *, before: date, is_lost: bool) -> list[date]:
    """Return the ingested nights before a date from the first one that is not built as ingested.

    All of them if the warehouse is lost.
    """
    lake = Lake(root=str(settings.lake))
    nights = [night for night in lake.dates("ingested_nights") if night < before]
    if is_lost:
        return nights
    there = {table: set(lake.dates(table)) for table in BUILT}
    for position, night in enumerate(nights):
        if any(night not in there[table] for table in BUILT) or not lake.read(
            "built_nights", night
        ).equals(lake.read("ingested_nights", night)):
            return nights[position:]
    return []


def forget_builds(lake: Lake) -> None:
    """Take back that nights are built, before a lost warehouse is begun anew.

    A build that is killed half-way would else pass for a whole one.
    """
    for night in lake.dates("built_nights"):
        lake.path("built_nights", night).unlink(missing_ok=True)


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
