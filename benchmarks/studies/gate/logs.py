"""Simulated logs whose policies' values are known."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from ml.ope.estimators import WeightedDecisions, weigh_decisions

N_ACTIONS = 3
ACTION_IDS = ("no_offer", "small", "large")
_FLOOR = 0.02
_TRUTH_DRAWS = 4_000_000


@dataclass(frozen=True)
class Cell:
    """A kind of log.

    ``skew``: how far the log's policy depends on the context, 0 for a uniform one. ``tail``: 0 for
    normal rewards, else purchases of log-normal amounts with that sigma. ``per_customer``:
    decisions of each customer, whose rewards share a trait.
    """

    skew: float
    tail: float
    per_customer: int
    n_customers: int = 2_000

    def __str__(self) -> str:
        """Name it in tables."""
        return f"skew {self.skew:g}, tail {self.tail:g}, {self.per_customer} a customer"


@dataclass(frozen=True)
class Log:
    """n decisions; ``context`` and ``trait`` of shape (n,), ``logging_policy`` (n, K).

    ``expected`` is an outcome model's mean, (n, K): a line per action, cross-fitted by customer.
    """

    customer: np.ndarray
    context: np.ndarray
    logging_policy: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray
    expected: np.ndarray = field(repr=False)

    def weigh(self, policy: np.ndarray) -> WeightedDecisions:
        """Return the decisions under a policy, shape (n, K)."""
        return weigh_decisions(
            self.reward,
            policy=policy,
            action=self.action,
            propensity=self.propensity,
            expected_reward=self.expected,
        )


def target_policy(context: np.ndarray) -> np.ndarray:
    """Return the policy that coverage is of, shape (n, K)."""
    return _softmax(np.column_stack([0.5 * context, np.zeros_like(context), context]))


def champion_policy(context: np.ndarray) -> np.ndarray:
    """Return the policy that gates defend, shape (n, K); even in the context."""
    return _softmax(np.tile([1.0, 0.5, 0.0], (len(context), 1)))


def candidate_policy(context: np.ndarray) -> np.ndarray:
    """Return the policy that gates judge, shape (n, K); even in the context."""
    size = np.abs(context)
    return _softmax(np.column_stack([np.zeros_like(size), 0.5 * size, 1.5 - 0.5 * size]))


def draw_log(cell: Cell, random: np.random.Generator, *, gain: float = 0.0) -> Log:
    """Draw a log.

    Parameters
    ----------
    cell
        Its kind.
    random
        Generator.
    gain
        What the last action brings more, on every decision.

    Returns
    -------
    Log
        Ordered by customer.
    """
    n = cell.n_customers * cell.per_customer
    customer = np.repeat(np.arange(cell.n_customers), cell.per_customer)
    trait = np.repeat(random.normal(size=cell.n_customers), cell.per_customer)
    context = random.normal(size=n)
    logging = _log_policy(cell, context)
    action = (random.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(0, N_ACTIONS - 1)
    rows = np.arange(n)
    mean = _mean_reward(cell, context, trait, gain)[rows, action]
    if cell.tail:
        amount = np.exp(cell.tail * random.normal(size=n) - cell.tail**2 / 2)
        reward = (random.random(n) < mean) * amount
    else:
        reward = mean + random.normal(size=n)
    return Log(
        customer,
        context,
        logging,
        action,
        logging[rows, action],
        reward,
        _fit_lines(context, action, reward, customer),
    )


@cache
def true_value(cell: Cell) -> float:
    """Return the target policy's value, by Monte Carlo on the expected rewards."""
    random = np.random.default_rng(20261122)
    context, trait = random.normal(size=(2, _TRUTH_DRAWS))
    mean = _mean_reward(cell, context, trait, 0.0)
    return float((target_policy(context) * mean).sum(axis=1).mean())


def _log_policy(cell: Cell, context: np.ndarray) -> np.ndarray:
    spread = np.column_stack(
        [np.zeros_like(context), cell.skew * context, -0.5 * cell.skew * context]
    )
    return np.asarray(_FLOOR + (1 - N_ACTIONS * _FLOOR) * _softmax(spread))


def _mean_reward(cell: Cell, context: np.ndarray, trait: np.ndarray, gain: float) -> np.ndarray:
    """Return the expected reward of every action, shape (n, K); its effects are odd in context."""
    effect = np.column_stack([np.zeros_like(context), 0.2 * context, gain - 0.1 * context])
    if cell.tail:
        chance = 0.2 + 0.1 * effect + 0.05 * trait[:, None]
        return np.asarray(np.clip(chance, 0.01, 0.99))
    return np.asarray(trait[:, None] + context[:, None] + effect)


def _fit_lines(
    context: np.ndarray, action: np.ndarray, reward: np.ndarray, customer: np.ndarray
) -> np.ndarray:
    """Return a line per action, fitted on the other half of the customers."""
    design = np.column_stack([np.ones_like(context), context])
    expected = np.zeros((len(action), N_ACTIONS))
    for fold in (0, 1):
        held = customer % 2 == fold
        for each in range(N_ACTIONS):
            fit = ~held & (action == each)
            line = np.linalg.lstsq(design[fit], reward[fit], rcond=None)[0]
            expected[held, each] = design[held] @ line
    return expected


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
