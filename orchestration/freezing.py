"""The emergency brake: while a state folder is frozen, every night is no-offer only.

Reads and writes: <home>/frozen.json.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestration.files import write_text


@dataclass(frozen=True)
class Freeze:
    """Since when, UTC, and why."""

    since: str
    reason: str


def read_freeze(file: Path) -> Freeze | None:
    """Return the freeze, None where there is none."""
    return Freeze(**json.loads(file.read_text())) if file.exists() else None


def freeze(file: Path, *, reason: str) -> Freeze:
    """Freeze; a freeze that stands keeps its time and reason."""
    standing = read_freeze(file)
    if standing is None:
        standing = Freeze(datetime.now(UTC).isoformat(timespec="seconds"), reason)
        write_text(json.dumps(asdict(standing)), file)
    return standing


def unfreeze(file: Path) -> Freeze | None:
    """Lift the freeze; return what it was."""
    standing = read_freeze(file)
    file.unlink(missing_ok=True)
    return standing
