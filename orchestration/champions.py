"""Who decides: every change of champion, in the registry first and then in the lake.

Reads and writes: aliases of assignment_policy, lake champion_changes.
"""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from ml.core.errors import PromotionError
from ml.core.programme import Programme
from ml.core.schemas import ChampionChange
from ml.pipeline.validate import CANDIDATE
from orchestration.lake import Lake

if TYPE_CHECKING:
    from ml.tracking.registry import PolicyRegistry, RegisteredPolicy

TABLE = "champion_changes"


def read_last_change(lake: Lake) -> Mapping[str, Any] | None:
    """Return the newest change, None before the first."""
    days = lake.dates(TABLE)
    return lake.read(TABLE, days[-1]).row(-1, named=True) if days else None


def promote(
    lake: Lake,
    registry: "PolicyRegistry",
    version: str,
    *,
    day: date,
    cause: str,
    reason: str,
    evidence: Mapping[str, str],
) -> None:
    """Make a version the champion and keep why.

    Safe to repeat: a run that was killed in between is ended by the next.

    Parameters
    ----------
    lake, registry
        Where it is kept.
    version
        The new champion.
    day
        Newest ingested night.
    cause
        'first', 'promoted' or 'approved'.
    reason
        In words.
    evidence
        Tags for the version.
    """
    if registry.version_of("champion") != version:
        gate = "first_champion" if cause == "first" else "passed"
        registry.make_champion(version, ope_gate=gate, evidence=evidence)
    _record(lake, registry, version, day=day, cause=cause, reason=reason)


def roll_back(
    lake: Lake,
    registry: "PolicyRegistry",
    *,
    day: date,
    cause: str,
    reason: str,
    withdrawn: str | None = None,
    to: str | None = None,
) -> str:
    """Withdraw the champion: the version before it, or a named one, decides from now on.

    A version pins heads, calibration, cut, actions and programme, so all of it goes back at once.
    Safe to repeat: what a killed run had withdrawn is recorded, not withdrawn once more.

    Parameters
    ----------
    lake, registry
        Where it is kept.
    day
        Newest ingested night.
    cause
        'rolled_back' or 'demoted'.
    reason
        In words; the withdrawn version carries it.
    withdrawn
        The version to withdraw, where only that one is meant; None: whoever is champion.
    to
        The version to go back to; None: the one that the champion replaced.

    Returns
    -------
    str
        The champion now.

    Raises
    ------
    PromotionError
        If there is no version to go back to, or it is not fit to decide.
    """
    present, last = registry.version_of("champion"), read_last_change(lake)
    if present is None:
        raise PromotionError("there is no champion yet: nothing to roll back")
    if last is not None and last["to_version"] != present:
        # A killed run had moved the alias already.
        if "withdrawn" in registry.read_tags(str(last["to_version"])):
            _record(lake, registry, present, day=day, cause=cause, reason=reason)
            return present
        why = "recorded after an interruption"
        _record(lake, registry, present, day=day, cause="promoted", reason=why)
    if withdrawn is None or withdrawn == present:
        present = registry.withdraw_champion(to=to, reason=f"{cause} on {day}: {reason}")
        _record(lake, registry, present, day=day, cause=cause, reason=reason)
    return present


def find_challenger_version(
    lake: Lake, registry: "PolicyRegistry", programme: Programme, *, until: date
) -> str | None:
    """Return the version that the champion replaced, while the two are to be compared.

    None where there is no such version, it was withdrawn, the programme gives it no share, or the
    comparison had ended by the night of ``until``.
    """
    champion, challenger = registry.version_of("champion"), registry.find_replaced()
    if champion is None or challenger is None or programme.challenger_share == 0:
        return None
    known = read_comparison(lake, champion, challenger, until=until)
    is_over = known is not None and known["status"] != "running"
    return None if is_over else challenger


def was_demoted(lake: Lake, version: str, night: date) -> bool:
    """Return whether a night took a version back by itself."""
    if not lake.has(TABLE, night):
        return False
    changes = lake.read(TABLE, night)
    return changes.filter(cause="demoted", from_version=version).height > 0


def read_comparison(
    lake: Lake, champion: str, challenger: str, *, until: date
) -> dict[str, object] | None:
    """Return the newest online_validation row about two versions, None without one."""
    if not any(day <= until for day in lake.dates("online_validation")):
        return None
    rows = (
        lake.scan("online_validation", until=until)
        .filter(
            (pl.col("champion_version") == champion) & (pl.col("challenger_version") == challenger)
        )
        .collect()
    )
    return rows.row(-1, named=True) if rows.height else None


def _record(
    lake: Lake, registry: "PolicyRegistry", version: str, *, day: date, cause: str, reason: str
) -> None:
    """Append a change, unless it is there."""
    last = read_last_change(lake)
    if last is not None and last["to_version"] == version:
        return
    with lake.hold(TABLE, day):
        kept = lake.read(TABLE, day) if lake.has(TABLE, day) else ChampionChange.create_empty()
        change = pl.DataFrame(
            [
                {
                    "number": kept.height + 1,
                    "from_version": None if last is None else last["to_version"],
                    "to_version": version,
                    "fitted_date": _read_date(registry.read_tags(version).get("training_date")),
                    "cause": cause,
                    "reason": reason,
                }
            ],
            schema=kept.schema,
        )
        lake.write(pl.concat([kept, change]), TABLE, day, schema=ChampionChange)


def find_base(registry: "PolicyRegistry") -> "tuple[RegisteredPolicy, RegisteredPolicy]":
    """Return the champion, and whose heads others stand on: the candidate's under a rule."""
    champion, version = registry.load_champion(), registry.version_of(CANDIDATE)
    if champion is not None and champion.policy.scorer.uplift is not None:
        return champion, champion
    if champion is None or version is None:
        raise PromotionError("no policy with heads to stand on: run weekly_training")
    return champion, registry.load(version)


def tag_candidate(
    base: "RegisteredPolicy", training_date: date, *, data_hash: str
) -> dict[str, str]:
    """Return the tags of a policy that stands on another's heads."""
    return {
        # Prices and effects are those that the heads were fitted on.
        "training_date": base.tags["training_date"],
        "trained_as_of": str(training_date),
        "data_hash": data_hash,
        "stands_on": base.version,
    }


def _read_date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
