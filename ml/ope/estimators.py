"""Off-policy estimators: one vector of contributions each, from which everything follows."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ml.core.errors import SupportError

LEVEL = 0.95


@dataclass(frozen=True)
class Contributions:
    """Per-decision contributions to a policy value, currency.

    The value is their mean; the interval follows from their sums by customer. For SNIPS they are
    the linearised ones, value + w (r - value) / mean(w), so the same rule holds.
    """

    values: np.ndarray
    importance_weight: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A mean with its customer-clustered interval.

    ``value``, ``standard_error``, ``low`` and ``high`` in currency per decision.
    """

    value: float
    standard_error: float
    low: float
    high: float
    level: float
    n_decisions: int
    n_customers: int


def weigh(policy: np.ndarray, action: np.ndarray, propensity: np.ndarray) -> np.ndarray:
    """Return importance weights: the policy at the taken action over its propensity.

    Parameters
    ----------
    policy : shape (n, K), rows sum to 1
        Probability of every action.
    action : shape (n,), int
        The action taken.
    propensity : shape (n,), in (0, 1]
        Probability that the log gave it.

    Returns
    -------
    np.ndarray
        Shape (n,), >= 0.

    Raises
    ------
    SupportError
        If a propensity is outside (0, 1].
    """
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise SupportError("propensities must lie in (0, 1]: the log cannot be weighted")
    return np.asarray(policy[np.arange(len(action)), action] / propensity)


def contribute_ips(reward: np.ndarray, weight: np.ndarray) -> Contributions:
    """Inverse propensity scoring: w r (Horvitz and Thompson 1952).

    Parameters
    ----------
    reward, weight : shape (n,)
        What is averaged, and the importance weights.

    Returns
    -------
    Contributions
        Unbiased when the propensities are those of the log.
    """
    return Contributions(weight * reward, weight)


def contribute_snips(reward: np.ndarray, weight: np.ndarray) -> Contributions:
    """Self-normalised inverse propensity scoring, linearised (Swaminathan, Joachims 2015).

    Parameters
    ----------
    reward, weight : shape (n,)
        What is averaged, and the importance weights.

    Returns
    -------
    Contributions
        Whose mean is sum(w r) / sum(w).

    Raises
    ------
    SupportError
        If every weight is 0: the log never took an action of the policy.
    """
    mean_weight = float(weight.mean())
    if mean_weight == 0:
        raise SupportError("the log holds no decision that the policy would have taken")
    value = float((weight * reward).mean()) / mean_weight
    return Contributions(value + weight * (reward - value) / mean_weight, weight)


def contrast_actions(
    reward: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    *,
    chosen: int,
    against: int,
) -> np.ndarray:
    """Difference of two actions' mean rewards, each self-normalised, linearised.

    Parameters
    ----------
    reward : shape (n,)
        What is averaged, of decisions where both actions were possible.
    action : shape (n,), int
        The action taken.
    propensity : shape (n,), in (0, 1]
        Probability that the log gave it.
    chosen, against
        The two actions.

    Returns
    -------
    np.ndarray
        Contributions, shape (n,), for ``estimate_mean``; with constant propensities their mean is
        the difference of the two groups' means.

    Raises
    ------
    SupportError
        If the log never took one of the two, or a propensity is outside (0, 1].
    """
    first, second = (
        contribute_snips(
            reward, weigh((action == each)[:, None], np.zeros_like(action), propensity)
        ).values
        for each in (chosen, against)
    )
    return np.asarray(first - second)


def contribute_dr(
    reward: np.ndarray,
    weight: np.ndarray,
    *,
    action: np.ndarray,
    policy: np.ndarray,
    expected_reward: np.ndarray,
) -> Contributions:
    """Doubly robust: sum_a pi(a|x) mu(x, a) + w (r - mu(x, a_i)) (Dudik et al. 2011).

    Parameters
    ----------
    reward, weight : shape (n,)
        What is averaged, and the importance weights.
    action : shape (n,), int
        The action taken.
    policy : shape (n, K)
        Probability of every action.
    expected_reward : shape (n, K)
        From other customers than these.

    Returns
    -------
    Contributions
        Unbiased when either the propensities or the means are right.
    """
    taken = expected_reward[np.arange(len(action)), action]
    direct = (policy * expected_reward).sum(axis=1)  # (n,)
    return Contributions(direct + weight * (reward - taken), weight)


def estimate_mean(values: np.ndarray, customer: np.ndarray, *, level: float = LEVEL) -> Estimate:
    """Return the mean of contributions with an interval clustered by customer.

    Linearised ratio of customer sums, t quantile with G - 1 degrees of freedom for G customers.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.
    level
        Of the interval.

    Returns
    -------
    Estimate
        Mean and interval.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    _, cluster = np.unique(customer, return_inverse=True)
    n, n_clusters = len(values), int(cluster.max(initial=-1)) + 1
    if n_clusters < 2:
        raise SupportError(f"{n_clusters} customers: an interval needs at least two")
    mean = float(values.mean())
    sums = np.bincount(cluster, weights=values - mean)  # (G,)
    error = float(np.sqrt((sums @ sums) * n_clusters / (n_clusters - 1))) / n
    reach = float(stats.t.ppf((1 + level) / 2, n_clusters - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach, level, n, n_clusters)


def effective_sample_size(weight: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2, the number of decisions that the weighted log is worth."""
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0
