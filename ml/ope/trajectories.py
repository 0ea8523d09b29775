"""What a policy's journeys would have brought, by weights of whole journeys: of few decisions."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ml.core.errors import SupportError
from ml.core.journeys import Choices, Transitions
from ml.ope.intervals import Estimate, estimate_mean

LEAST_EFFECTIVE = 100.0


class ActionValues(Protocol):
    """Something that values actions, such as ``FittedValues``."""

    def value(self, state: np.ndarray) -> np.ndarray:
        """Return action values, shape (n, K)."""
        ...


@dataclass(frozen=True)
class JourneyValue:
    """A policy's value per journey, by weights; currency.

    ``effective`` journeys of ``n_journeys`` carry the last decision's weights, the largest of which
    is ``largest_weight``.
    """

    estimate: Estimate
    effective: float
    n_journeys: int
    largest_weight: float


def value_by_weights(
    log: Transitions,
    choices: Choices,
    *,
    discount: float,
    values: ActionValues | None = None,
    least_effective: float = LEAST_EFFECTIVE,
) -> JourneyValue:
    """Value a policy's journeys by per-decision importance weights, or doubly robust.

    Without ``values``: sum_t discount^t w_t r_t, w_t the product of the ratios up to t (Precup
    2000), self-normalised at each step. With: V(s_0) + sum_t discount^t w_t (r_t + discount
    V(s_t+1) - Q(s_t, a_t)) (Jiang and Li 2016, Thomas and Brunskill 2016), unbiased if propensities
    are right, whatever the values. An end that the log cuts off is valued at V in the latter and
    at 0 in the former.

    Parameters
    ----------
    log
        Whole journeys with the logged propensities.
    choices
        Of the policy, in that log.
    discount
        Of the next step.
    values
        Action values of the policy, of other customers' journeys.
    least_effective
        Journeys that must carry the weights.

    Returns
    -------
    JourneyValue
        With an interval clustered by customer.

    Raises
    ------
    SupportError
        If the weights rest on too few journeys: too many decisions, or another policy altogether.
    """
    n_steps = int(log.step.max()) + 1
    customers, journey = np.unique(log.customer, return_inverse=True)
    n = len(customers)
    place = np.full((n, n_steps), -1)
    place[journey, log.step] = np.arange(log.n_steps)
    is_there = place >= 0
    ratio = choices.now[np.arange(log.n_steps), log.action] / log.propensity
    of_step = np.where(is_there, ratio[place], 1.0)
    weight = of_step.cumprod(axis=1)  # (n, T)
    last = weight[:, -1]
    effective = float(last.sum() ** 2 / max((last**2).sum(), 1e-300))
    if effective < least_effective:
        raise SupportError(
            f"{n_steps} decisions leave {effective:.0f} effective journeys of {n:,}, fewer than "
            f"{least_effective:.0f}: value shorter journeys, or use fitted values"
        )
    normalised = weight / np.maximum(weight.mean(axis=0), 1e-12)
    gone = discount ** np.arange(n_steps)
    if values is None:
        reward = np.where(is_there, log.reward[place], 0.0)
        centre = (normalised * reward).mean(axis=0)
        # The ratio's influence: a journey counts by its distance from the step's mean.
        per_journey = ((normalised * (reward - centre) + centre) * gone).sum(axis=1)
    else:
        value = values.value(log.state)
        now = (choices.now * value).sum(axis=1)
        after = (choices.then * values.value(log.next_state)).sum(axis=1)
        then = np.where(log.is_over, 0.0, after)
        surprise = log.reward + discount * then - value[np.arange(log.n_steps), log.action]
        per_journey = now[place[:, 0]] + (
            np.where(is_there, weight * surprise[place], 0.0) * gone
        ).sum(axis=1)
    return JourneyValue(estimate_mean(per_journey, np.arange(n)), effective, n, float(last.max()))
