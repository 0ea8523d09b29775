"""Off-policy estimators: one vector of contributions each, from which everything follows.

Notation: reward r, importance weight w = pi(a_i|x_i) / pi0(a_i|x_i), outcome model mu(x, a), direct
d_i = sum_a pi(a|x_i) mu(x_i, a), residual e_i = r_i - mu(x_i, a_i).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ml.core.errors import SupportError


@dataclass(frozen=True)
class WeightedDecisions:
    """n decisions under one policy, as every estimator sees them; arrays of shape (n,).

    ``weight`` is w, ``direct`` d and ``taken`` mu(x_i, a_i); the latter two are 0 without an
    outcome model, and DR is then IPS. ``reward`` and they in currency.
    """

    reward: np.ndarray
    weight: np.ndarray
    direct: np.ndarray
    taken: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """What the outcome model did not explain, shape (n,)."""
        return self.reward - self.taken


@dataclass(frozen=True)
class Estimator:
    """How a policy's value is estimated: the mean of ``contribute(decisions, limit)``, shape (n,).

    ``is_unbiased``: with the log's propensities, to the order of 1/n at least. ``is_limited``:
    large weights are limited at ``limit``, which is to be tuned; infinite, it changes nothing.
    """

    name: str
    contribute: Callable[[WeightedDecisions, float], np.ndarray]
    is_unbiased: bool
    is_limited: bool


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


def weigh_decisions(
    reward: np.ndarray,
    *,
    policy: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    expected_reward: np.ndarray | None = None,
) -> WeightedDecisions:
    """Return decisions under a policy.

    Parameters
    ----------
    reward : shape (n,)
        What is averaged.
    policy : shape (n, K), rows sum to 1
        Probability of every action.
    action : shape (n,), int
        The action taken.
    propensity : shape (n,), in (0, 1]
        Probability that the log gave it.
    expected_reward : shape (n, K), optional
        mu(x, a), fitted on other customers than these; None: no outcome model.

    Returns
    -------
    WeightedDecisions
        In their order.

    Raises
    ------
    SupportError
        If a propensity is outside (0, 1].
    """
    weight = weigh(policy, action, propensity)
    if expected_reward is None:
        nothing = np.zeros(len(weight))
        return WeightedDecisions(reward, weight, nothing, nothing)
    direct = np.einsum("ij,ij->i", policy, expected_reward)
    return WeightedDecisions(
        reward, weight, direct, expected_reward[np.arange(len(action)), action]
    )


def find_estimator(name: str) -> Estimator:
    """Return an estimator by its name, such as 'dr'; SupportError if there is none."""
    if name not in ESTIMATORS:
        raise SupportError(f"no estimator '{name}': there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


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
        _normalise(reward, weigh((action == each)[:, None], np.zeros_like(action), propensity))
        for each in (chosen, against)
    )
    return np.asarray(first - second)


def effective_sample_size(weight: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2, the number of decisions that the weighted log is worth."""
    squares = float(weight @ weight)
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def _normalise(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return linearised contributions to sum(w v) / sum(w): their mean is it, exactly."""
    mean_weight = float(weight.mean())
    if mean_weight == 0:
        raise SupportError("the log holds no decision that the policy would have taken")
    value = float((weight * values).mean()) / mean_weight
    return np.asarray(value + weight * (values - value) / mean_weight)


def _shrink(weight: np.ndarray, limit: float) -> np.ndarray:
    """Return w / (1 + w^2 / limit): small weights stay, large ones fall to 0 again."""
    return np.asarray(weight / (1.0 + weight**2 / limit))


def _ips(each: WeightedDecisions, limit: float) -> np.ndarray:
    """Inverse propensity scoring: w r (Horvitz and Thompson 1952)."""
    return each.weight * each.reward


def _clipped_ips(each: WeightedDecisions, limit: float) -> np.ndarray:
    """IPS with weights of at most the limit: min(w, limit) r (Ionides 2008)."""
    return np.minimum(each.weight, limit) * each.reward


def _snips(each: WeightedDecisions, limit: float) -> np.ndarray:
    """Self-normalised: sum(w r) / sum(w), linearised (Swaminathan and Joachims 2015)."""
    return _normalise(each.reward, each.weight)


def _dm(each: WeightedDecisions, limit: float) -> np.ndarray:
    """Direct method: d, the outcome model alone."""
    return each.direct


def _dr(each: WeightedDecisions, limit: float) -> np.ndarray:
    """Doubly robust: d + w e (Dudik et al. 2011)."""
    return each.direct + each.weight * each.residual


def _sndr(each: WeightedDecisions, limit: float) -> np.ndarray:
    """Self-normalised doubly robust: d + w e / mean(w), linearised."""
    return each.direct + _normalise(each.residual, each.weight)


def _switch_dr(each: WeightedDecisions, limit: float) -> np.ndarray:
    """DR where w <= limit, the direct method elsewhere (Wang, Agarwal, Dudik 2017)."""
    return each.direct + np.where(each.weight <= limit, each.weight, 0.0) * each.residual


def _dros(each: WeightedDecisions, limit: float) -> np.ndarray:
    """DR with optimistic shrinkage: weights w / (1 + w^2 / limit) (Su et al. 2020)."""
    return each.direct + _shrink(each.weight, limit) * each.residual


ESTIMATORS = {
    each.name: each
    for each in (
        Estimator("ips", _ips, is_unbiased=True, is_limited=False),
        Estimator("clipped_ips", _clipped_ips, False, is_limited=True),
        Estimator("snips", _snips, is_unbiased=True, is_limited=False),
        Estimator("dm", _dm, is_unbiased=False, is_limited=False),
        Estimator("dr", _dr, is_unbiased=True, is_limited=False),
        Estimator("sndr", _sndr, is_unbiased=True, is_limited=False),
        Estimator("switch_dr", _switch_dr, False, is_limited=True),
        Estimator("dros", _dros, is_unbiased=False, is_limited=True),
    )
}
"""Every estimator by name; their formulas and sources are their functions' docstrings."""
