"""The programme: what a company declares about its offers, money, horizons and customers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

from ml.core.errors import ContractError

LIFECYCLES = ("activation", "habituation", "resurrection")


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
    propensity_floor: float = 0.02
    evaluation_share: float = 0.30
    holdout_share: float = 0.05
    minimum_support: int = 300
    harm_tolerance: float = 0.05
    challenger_share: float = 0.10
    fits_propensities: bool = False
    seed: int = 20260105
    attributes: tuple[Attribute, ...] = ()
    limits: tuple[LimitRule, ...] = ()

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
                any("'" in each.name for each in self.attributes),
                "an attribute's name must not hold a quotation mark",
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
        problems.append((len(set(names)) < len(names), "two limits have the same name"))
        broken = [message for is_broken, message in problems if is_broken]
        broken += [fault for each in self.limits for fault in each.find_faults()]
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
        values["limits"] = tuple(_parse_limit(rule) for rule in values.get("limits", ()))
        return Programme(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"programme.json cannot be read: {error}") from error


def _parse_limit(rule: Mapping[str, Any]) -> LimitRule:
    """Build a limit from decoded JSON: lists become tuples."""
    values: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in rule.items()
    }
    return LimitRule(**values)


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
