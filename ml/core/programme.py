"""The programme: what a company declares about its offers, money, horizons and customers."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ml.core.errors import ContractError
from ml.core.rules import (
    Eligibility,
    LimitRule,
    Pacing,
    QuietHours,
    parse_eligibility,
    parse_limit,
    parse_pacing,
    parse_quiet_hours,
)

_WRITTEN_INTO_SQL = re.compile(r"""['"\\{}\x00-\x1f]""")
"""What a name that dbt writes into SQL must not hold."""


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One declared customer attribute.

    ``kind`` 'number' is used as it is, 'category' as one indicator per level. A protected
    attribute never reaches a model.
    """

    name: str
    kind: Literal["number", "category"]
    levels: tuple[str, ...] = ()
    is_protected: bool = False


@dataclass(frozen=True, kw_only=True)
class Programme:
    """Everything the loop must be told and cannot learn.

    Money is in ``currency``, horizons are in days, shares are of customers. The file
    ``programme.json`` in the state folder holds one; docs/input-contract.md explains each field.
    """

    name: str
    currency: str
    first_decision_date: date
    margin: float
    budget_per_decision: float
    reactivation_action: str
    value_note: str
    cost_note: str
    surface: str = ""
    learning_horizon_days: int = 7
    accounting_horizon_days: int = 28
    settlement_days: int = 1
    n_cohorts: int = 7
    activation_days: int = 28
    inactivity_days: int = 28
    propensity_floor: float = 0.01
    evaluation_share: float = 0.30
    holdout_share: float = 0.05
    minimum_support: int = 300
    harm_tolerance: float = 0.05
    challenger_share: float = 0.10
    fits_propensities: bool = False
    seed: int = 20260105
    attributes: tuple[Attribute, ...] = ()
    limits: tuple[LimitRule, ...] = ()
    eligibility: Eligibility | None = None
    most_offers_28d: int | None = None
    most_cost_per_value: float | None = None
    later_value_weight: float = 0.0
    least_return: float = 0.0
    least_plausibility: float = 0.001
    has_monotone_depths: bool = False
    has_media_budgets: bool = False
    kpi_includes_programme: bool = False
    audience: tuple[float, float] = (0.0, 1.0)
    timezone: str = "UTC"
    quiet_hours: tuple[QuietHours, ...] = ()
    pacing: Pacing | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        problems = [
            (not 0 < self.margin <= 1, "margin must lie in (0, 1]"),
            (self.budget_per_decision < 0, "budget_per_decision must not be negative"),
            (not 0 < self.propensity_floor < 0.5, "propensity_floor must lie in (0, 0.5)"),
            (not 0 < self.evaluation_share < 1, "evaluation_share must lie in (0, 1)"),
            (not 0 <= self.holdout_share < 1, "holdout_share must lie in [0, 1)"),
            (
                any(each.kind not in ("number", "category") for each in self.attributes),
                "an attribute's kind must be number or category",
            ),
            (
                any(
                    _WRITTEN_INTO_SQL.search(name)
                    for name in (self.surface, *(each.name for each in self.attributes))
                ),
                "surface and attributes' names must not hold quotation marks, backslashes, braces "
                "or line breaks",
            ),
            (self.minimum_support < 2, "minimum_support must be at least 2"),
            (
                not 0 <= self.challenger_share < 0.5,
                "challenger_share must lie in [0, 0.5): the champion decides most customers",
            ),
            (self.harm_tolerance < 0, "harm_tolerance must not be negative"),
            (self.settlement_days < 0, "settlement_days must not be negative"),
            (self.learning_horizon_days < 1, "learning_horizon_days must be at least 1"),
            (
                self.accounting_horizon_days < self.learning_horizon_days,
                "accounting_horizon_days must not be shorter than learning_horizon_days",
            ),
            (
                not 1 <= self.n_cohorts <= self.learning_horizon_days,
                "n_cohorts must lie between 1 and learning_horizon_days",
            ),
        ]
        names = [each.name for each in self.limits]
        problems += [
            (len(set(names)) < len(names), "two limits have the same name"),
            (
                self.most_offers_28d is not None and self.most_offers_28d < 1,
                "most_offers_28d must be at least 1",
            ),
            (
                self.most_cost_per_value is not None and not self.most_cost_per_value > 0,
                "most_cost_per_value must be positive",
            ),
            (not 0 <= self.later_value_weight <= 1, "later_value_weight must lie in [0, 1]"),
            (not self.least_return >= 0, "least_return must not be negative"),
            (not 0 <= self.least_plausibility < 1, "least_plausibility must lie in [0, 1)"),
            (
                len(self.audience) != 2 or not 0 <= self.audience[0] < self.audience[1] <= 1,
                "audience must be two shares, the first below the second, in [0, 1]",
            ),
            (not _is_timezone(self.timezone), f"'{self.timezone}' is no time zone"),
        ]
        broken = [message for is_broken, message in problems if is_broken]
        rules = (*self.limits, self.eligibility, *self.quiet_hours, self.pacing)
        broken += [fault for each in rules if each is not None for fault in each.find_faults()]
        if broken:
            raise ContractError(f"programme '{self.name}': {'; '.join(broken)}")

    @property
    def matured_after_days(self) -> int:
        """Days from a decision until its learning outcome is final."""
        return self.learning_horizon_days + self.settlement_days

    def to_json(self) -> str:
        """Return the programme as readable JSON, keys sorted."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, default=str)


def parse_programme(settings: Mapping[str, Any]) -> Programme:
    """Build a programme from decoded JSON.

    Parameters
    ----------
    settings
        Field name to value, as in ``programme.json``.

    Returns
    -------
    Programme
        Validated.

    Raises
    ------
    ContractError
        On an unknown, missing or impossible field.
    """
    known = {field.name for field in fields(Programme)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ContractError(f"programme.json: unknown fields {unknown}; known are {sorted(known)}")
    values = dict(settings)
    try:
        values["first_decision_date"] = date.fromisoformat(values["first_decision_date"])
        values["attributes"] = tuple(
            Attribute(**{**each, "levels": tuple(each.get("levels", ()))})
            for each in values.get("attributes", ())
        )
        values["audience"] = tuple(values.get("audience", (0.0, 1.0)))
        values["limits"] = tuple(map(parse_limit, values.get("limits", ())))
        values["quiet_hours"] = tuple(map(parse_quiet_hours, values.get("quiet_hours", ())))
        for name, parse in (("eligibility", parse_eligibility), ("pacing", parse_pacing)):
            if values.get(name) is not None:
                values[name] = parse(values[name])
        return Programme(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"programme.json cannot be read: {error}") from error


def read_programme(path: Path) -> Programme:
    """Read and validate ``programme.json``.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Programme
        Validated.

    Raises
    ------
    ContractError
        If the file is missing, isn't JSON or breaks a rule.
    """
    try:
        settings = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ContractError(
            f"{path} is missing: run `make nightly` once, or write it (docs/input-contract.md)"
        ) from error
    except json.JSONDecodeError as error:
        raise ContractError(f"{path} is not JSON: {error}") from error
    return parse_programme(settings)


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return False
    return True
