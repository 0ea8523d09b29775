"""The night that was begun: killed and run again, it is ended as it was asked for.

Reads and writes: <home>/begun.json.
"""

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from orchestration.files import write_text
from orchestration.lake import Lake
from orchestration.settings import Settings


@dataclass(frozen=True)
class BegunNight:
    """What was asked for: ``revision`` of the table to seal, and whether to write its CSV."""

    night: date
    revision: int
    has_export: bool


def find_open_night(settings: Settings) -> date | None:
    """Return the night that was begun and is still to be sealed or exported, None without one.

    An older night than the newest sealed one is not taken up by itself.
    """
    begun, lake = _read(settings), Lake(root=str(settings.lake))
    sealed = lake.dates("assignment_table")
    if begun is None or (sealed and begun.night < sealed[-1]):
        return None
    awaits_export = begun.has_export and not _is_exported(settings, lake, begun.night)
    is_open = awaits_export or read_revision(lake, begun.night) < begun.revision
    return begun.night if is_open else None


def read_revision(lake: Lake, night: date) -> int:
    """Return the sealed table's revision, 0 if the night is not sealed."""
    if not lake.has("assignment_table", night):
        return 0
    return max(lake.read("assignment_table", night)["revision"].to_list(), default=1)


def begin_night(
    settings: Settings, night: date, *, is_reissue: bool, has_export: bool
) -> BegunNight:
    """Keep what was asked for until the night has ended.

    Parameters
    ----------
    settings
        The state folder; the caller holds it.
    night
        The decision date.
    is_reissue
        Redo a sealed night. Of a night that was begun as one, its revision stays the aim: run
        again, it isn't redone twice.
    has_export
        Write the CSV; stays asked for until it is written.

    Returns
    -------
    BegunNight
        As kept.
    """
    begun, lake = _read(settings), Lake(root=str(settings.lake))
    is_resumed = begun is not None and begun.night == night
    if begun is not None and is_resumed and (begun.revision > 1 or not is_reissue):
        asked = BegunNight(night, begun.revision, begun.has_export or has_export)
    else:
        revision = read_revision(lake, night) + 1 if is_reissue else 1
        asked = BegunNight(night, revision, has_export)
    write_text(json.dumps({**asdict(asked), "night": str(night)}), _file(settings))
    return asked


def end_night(settings: Settings) -> None:
    """Forget the night: it has ended."""
    _file(settings).unlink(missing_ok=True)


def _is_exported(settings: Settings, lake: Lake, night: date) -> bool:
    """Return whether the sealed table was exported after it was sealed."""
    export, table = (
        settings.exports / f"assignments-{night}.csv",
        lake.path("assignment_table", night),
    )
    if not (export.exists() and table.exists()):
        return False
    return export.stat().st_mtime >= table.stat().st_mtime


def _read(settings: Settings) -> BegunNight | None:
    file = _file(settings)
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return BegunNight(date.fromisoformat(kept["night"]), kept["revision"], kept["has_export"])


def _file(settings: Settings) -> Path:
    return settings.home / "begun.json"
