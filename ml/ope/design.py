"""How long to explore, at which propensities, to detect a given effect."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

from ml.core.errors import SupportError


@dataclass(frozen=True)
class ExplorationPlan:
    """What one offer's comparison with no-offer needs.

    ``n_decisions`` counts all decisions of the experiment; ``weeks`` at the given rate.
    """

    action_id: str
    propensity: float
    n_decisions: int
    weeks: float


def plan_exploration(
    propensities: Mapping[str, float],
    *,
    effect: float,
    standard_deviation: float,
    decisions_per_week: float,
    level: float = 0.95,
    power: float = 0.80,
) -> tuple[ExplorationPlan, ...]:
    """Return the size of the experiment that detects an effect, per offer.

    n = (z_level + z_power)^2 sd^2 (1/p_a + 1/p_0) / effect^2, for a two-sided test of a difference
    in means at constant propensities, decisions independent between customers.

    Parameters
    ----------
    propensities
        Action id to propensity, the first entry being no-offer; they sum to 1.
    effect
        Smallest difference worth finding, in the outcome's unit, not 0.
    standard_deviation
        Of the outcome per decision, > 0.
    decisions_per_week
        Customers decided on in a week, > 0.
    level, power
        Of the test.

    Returns
    -------
    tuple
        One plan per offer.

    Raises
    ------
    SupportError
        If a number is impossible, or the propensities don't sum to 1.
    """
    if abs(sum(propensities.values()) - 1) > 1e-6 or min(propensities.values()) <= 0:
        raise SupportError(f"propensities must be positive and sum to 1: {dict(propensities)}")
    if effect == 0 or standard_deviation <= 0 or decisions_per_week <= 0:
        raise SupportError(
            "effect must not be 0; standard deviation and decisions per week must be positive"
        )
    (_, control), *offers = propensities.items()
    reach = detectable_difference(1.0, level=level, power=power)
    plans = []
    for action, propensity in offers:
        variance = standard_deviation**2 * (1 / propensity + 1 / control)
        n_decisions = math.ceil(reach**2 * variance / effect**2)
        plans.append(
            ExplorationPlan(action, propensity, n_decisions, n_decisions / decisions_per_week)
        )
    return tuple(plans)


def detectable_difference(
    standard_error: float, *, level: float = 0.95, power: float = 0.80
) -> float:
    """Return the smallest difference that a two-sided test finds with the given power.

    Parameters
    ----------
    standard_error
        Of the difference.
    level, power
        Of the test.

    Returns
    -------
    float
        (z_level + z_power) standard_error, in its unit.
    """
    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)) * standard_error
