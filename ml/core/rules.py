"""What a programme declares as rules: limits, eligibility, quiet hours, pacing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Literal

LIFECYCLES = ("activation", "habituation", "resurrection")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, kw_only=True)
class LimitRule:
    """What some offers may cost, or how often they may be sent, per decision of a night.

    ``actions``, ``channels``, ``families`` and ``lifecycles`` say which count, each empty for all;
    ``measure`` 'cost' counts expected cost, currency, 'offers' their number.
    """

    name: str
    measure: Literal["cost", "offers"]
    actions: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    lifecycles: tuple[str, ...] = ()
    most_per_decision: float | None = None
    least_per_decision: float | None = None

    def find_faults(self) -> list[str]:
        """Return what cannot be meant, nothing if all can."""
        sides = [
            each for each in (self.most_per_decision, self.least_per_decision) if each is not None
        ]
        faults = [
            (self.measure not in ("cost", "offers"), "measure must be cost or offers"),
            (not sides, "most_per_decision or least_per_decision is missing"),
            (any(each < 0 for each in sides), "a limit must not be negative"),
            (sides != sorted(sides, reverse=True), "least is above most"),
            (
                not set(self.lifecycles) <= set(LIFECYCLES),
                f"lifecycles are {', '.join(LIFECYCLES)}",
            ),
        ]
        return [f"limit '{self.name}': {message}" for is_broken, message in faults if is_broken]


@dataclass(frozen=True, kw_only=True)
class EligibilityRule:
    """Whom some offers are for: customers whose ``feature`` lies within bounds.

    ``actions``, ``channels`` and ``families`` say which offers, each empty for all. ``feature`` is
    a behaviour feature or a declared number attribute; unknown lies outside. Within ``band`` beyond
    a bound, in the feature's unit, a random ``band_share`` of the customers is eligible too, so
    that what the boundary costs can be measured.
    """

    name: str
    feature: str
    actions: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    band: float = 0.0
    band_share: float = 0.5

    def find_faults(self) -> list[str]:
        """Return what cannot be meant, nothing if all can."""
        low, high = self.at_least, self.at_most
        faults = [
            (low is None and high is None, "at_least or at_most is missing"),
            (low is not None and high is not None and low > high, "at_least is above at_most"),
            (self.band < 0, "band must not be negative"),
            (not 0 < self.band_share < 1, "band_share must lie in (0, 1)"),
        ]
        return [
            f"eligibility rule '{self.name}': {message}"
            for is_broken, message in faults
            if is_broken
        ]


@dataclass(frozen=True, kw_only=True)
class Eligibility:
    """The rules of a version, in force from a date on; another version draws bands anew."""

    version: str
    valid_from: date
    rules: tuple[EligibilityRule, ...]

    def find_faults(self) -> list[str]:
        """Return what cannot be meant, nothing if all can."""
        names = [each.name for each in self.rules]
        twice = ["two eligibility rules have the same name"] if len(set(names)) < len(names) else []
        return twice + [fault for each in self.rules for fault in each.find_faults()]


@dataclass(frozen=True, kw_only=True)
class QuietHours:
    """When channels must not be used: from ``begin`` to ``end``, local time, over midnight too.

    ``channels`` and ``weekdays`` (of ``begin``) empty for all; begin = end is the whole day.
    """

    begin: time
    end: time
    channels: tuple[str, ...] = ()
    weekdays: tuple[str, ...] = ()

    def find_faults(self) -> list[str]:
        """Return what cannot be meant, nothing if all can."""
        unknown = sorted(set(self.weekdays) - set(WEEKDAYS))
        return [f"quiet hours: {unknown} are no weekdays, such as sunday"] if unknown else []


@dataclass(frozen=True, kw_only=True)
class Pacing:
    """What a period is to pay: ``period_budget``, currency, within ``period_days`` nights.

    Periods follow each other from ``begins`` on. No night promises more than ``most_ratio`` times
    its budget_per_decision.
    """

    period_budget: float
    begins: date
    period_days: int = 30
    most_ratio: float = 2.0

    def find_faults(self) -> list[str]:
        """Return what cannot be meant, nothing if all can."""
        faults = [
            (not self.period_budget > 0, "period_budget must be positive"),
            (self.period_days < 2, "period_days must be at least 2"),
            (not self.most_ratio >= 1, "most_ratio must be at least 1"),
        ]
        return [f"pacing: {message}" for is_broken, message in faults if is_broken]


def parse_limit(rule: Mapping[str, Any]) -> LimitRule:
    """Return a limit of decoded JSON."""
    return LimitRule(**_freeze(rule))


def parse_eligibility(settings: Mapping[str, Any]) -> Eligibility:
    """Return eligibility rules of decoded JSON."""
    values = dict(settings)
    values["valid_from"] = date.fromisoformat(values["valid_from"])
    values["rules"] = tuple(EligibilityRule(**_freeze(rule)) for rule in values["rules"])
    return Eligibility(**values)


def parse_quiet_hours(settings: Mapping[str, Any]) -> QuietHours:
    """Return quiet hours of decoded JSON."""
    values = _freeze(settings)
    for side in ("begin", "end"):
        values[side] = time.fromisoformat(values[side])
    return QuietHours(**values)


def parse_pacing(settings: Mapping[str, Any]) -> Pacing:
    """Return the pacing of decoded JSON."""
    return Pacing(**{**settings, "begins": date.fromisoformat(settings["begins"])})


def _freeze(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with lists as tuples."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in rule.items()}
