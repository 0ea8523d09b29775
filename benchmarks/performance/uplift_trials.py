"""Two randomised trials with known effects, on which learners are measured."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

SHARES = np.array([0.4, 0.2, 0.2, 0.2])
FACE_VALUES = np.array([0.0, 2.0, 4.0, 8.0])
# Face value, then one indicator per offer.
DESCRIPTORS = np.column_stack([FACE_VALUES, np.eye(4)[:, 1:]])


@dataclass(frozen=True)
class TrialData:
    """n customers, 20 features, three offers and no-offer at 40/20/20/20 %.

    ``value_effect`` and ``cost_effect``, shape (n, 4), are true; ``value`` and ``cost`` realised.
    """

    context: np.ndarray
    action: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    value_effect: np.ndarray
    cost_effect: np.ndarray


def draw_hurdle(n: int, seed: int) -> TrialData:
    """Draw spend = purchase x lognormal amount; offers act on the purchase's log-odds.

    One customer in six buys; spend has a standard deviation of 14 and a heavy tail, effects are
    1 to 3 on average.

    Parameters
    ----------
    n, seed
        Customers; of the draws.

    Returns
    -------
    TrialData
        Cost is the face value, redeemed with a part of the purchases.
    """
    random = np.random.default_rng([seed, 1])
    x = _draw_context(n, random)
    base = (
        -2.1
        + 0.5 * x[:, 0]
        + 0.35 * np.tanh(x[:, 1])
        + 0.25 * np.log(x[:, 5])
        - 0.3 * (x[:, 10] > 3)
        + 0.3 * x[:, 14] * x[:, 2]
    )
    effect = np.column_stack(
        [
            np.zeros(n),
            0.35 + 0.35 * x[:, 2] - 0.2 * x[:, 0],
            0.55 + 0.4 * np.tanh(x[:, 3]) + 0.3 * x[:, 14],
            0.8 + 0.45 * x[:, 4] * (x[:, 0] > 0) - 0.25 * np.log(x[:, 6]),
        ]
    )
    buys = expit(base[:, None] + effect)  # (n, 4)
    location, scale = 2.9 + 0.25 * x[:, 1] + 0.2 * np.log(x[:, 7]), 0.75
    redeems = expit(-0.3 + 0.5 * x[:, 3] - 0.4 * x[:, 0])[:, None] * [0, 0.5, 0.7, 0.9]
    action = random.choice(4, size=n, p=SHARES)
    taken = np.arange(n), action
    has_bought = random.random(n) < buys[taken]
    amount = np.exp(location + scale * random.normal(size=n))
    has_redeemed = has_bought & (random.random(n) < redeems[taken])
    return TrialData(
        context=x,
        action=action,
        value=np.where(has_bought, amount, 0.0),
        cost=np.where(has_redeemed, FACE_VALUES[action], 0.0),
        value_effect=(buys - buys[:, :1]) * np.exp(location + scale**2 / 2)[:, None],
        cost_effect=buys * redeems * FACE_VALUES,
    )


def draw_smooth(n: int, seed: int) -> TrialData:
    """Draw a value that is no hurdle: everybody's ticket, with effects on its size.

    A smooth surface plus heavy-tailed, uneven noise (Student t, 5 degrees of freedom; standard
    deviation 10), effects of 0.8 to 1.6 on average; no learner's form is the truth's.

    Parameters
    ----------
    n, seed
        Customers; of the draws.

    Returns
    -------
    TrialData
        Cost is a Gamma variable whose mean depends on the offer and two features.
    """
    random = np.random.default_rng([seed, 2])
    x = _draw_context(n, random)
    base = (
        14 + 3 * x[:, 0] + 2 * np.sin(2 * x[:, 1]) + 2 * np.log(x[:, 5]) + 1.5 * x[:, 2] * x[:, 3]
    )
    effect = np.column_stack(
        [
            np.zeros(n),
            0.6 + np.tanh(x[:, 2]) + 0.5 * x[:, 14],
            1.0 + 1.2 * np.sin(1.5 * x[:, 3]) + 0.5 * (x[:, 10] > 2),
            1.5 + 1.2 * x[:, 4] * (x[:, 0] > 0) + 0.8 * np.tanh(x[:, 6] - 1),
        ]
    )
    mean_cost = np.array([0, 1.0, 2.0, 4.0]) * np.exp(0.25 * x[:, [3]] - 0.2 * np.tanh(x[:, [0]]))
    action = random.choice(4, size=n, p=SHARES)
    taken = np.arange(n), action
    noise = (6 + 2 * np.abs(x[:, 0])) * random.standard_t(5, size=n)
    return TrialData(
        context=x,
        action=action,
        value=base + effect[taken] + noise,
        cost=mean_cost[taken] * random.gamma(2, 0.5, size=n),
        value_effect=effect,
        cost_effect=mean_cost,
    )


TRIALS = {"hurdle": draw_hurdle, "smooth": draw_smooth}


def _draw_context(n: int, random: np.random.Generator) -> np.ndarray:
    """Return 20 features: normal, lognormal, counts, flags."""
    x = random.normal(size=(n, 20))
    x[:, 5:10] = np.exp(0.6 * x[:, 5:10])
    x[:, 10:14] = random.poisson(2, size=(n, 4))
    x[:, 14:16] = random.integers(0, 2, size=(n, 2))
    return x
