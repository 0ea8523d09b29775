"""Choosing the limit of large weights, and an estimator, on the log that is evaluated.

A smaller limit trades variance for bias. Nothing here knows the bias; SLOPE++ finds it in the
disagreement with limits that are less biased, cross-validation in that with an unbiased estimate on
customers kept apart. A tuned estimator gates nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ml.core.errors import SupportError
from ml.ope.estimators import ESTIMATORS, Estimator, WeightedDecisions, find_estimator
from ml.ope.intervals import Estimate, estimate_mean

N_LIMITS = 25
SLOPE_LEVEL = 0.90
N_SPLITS = 10
_UNBIASED = "dr"


@dataclass(frozen=True)
class Choice:
    """What was chosen among limits or estimators.

    ``estimate`` is on all decisions. Its interval allows for the bias that a limit brings, as far
    as DR sees it: the half widths of the estimate and of its difference to DR, and that difference,
    are added. ``limit`` is infinite where weights are not limited.
    """

    estimator: str
    limit: float
    estimate: Estimate


def propose_limits(weight: np.ndarray, *, estimator: str, n_limits: int = N_LIMITS) -> np.ndarray:
    """Return limits to choose from, largest first, starting with none.

    Geometric between the 5 % and the 95 % quantile of the positive weights; for shrinkage, which
    has the weights squared, between 0.01 and 100 times those squared (Su et al. 2020).

    Parameters
    ----------
    weight : shape (n,)
        Importance weights.
    estimator
        With a limit.
    n_limits
        How many, besides none.

    Returns
    -------
    np.ndarray
        Shape (n_limits + 1,), descending, the first infinite.

    Raises
    ------
    SupportError
        If every weight is 0.
    """
    positive = weight[weight > 0]
    if not len(positive):
        raise SupportError("the log holds no decision that the policy would have taken")
    low, high = np.quantile(positive, [0.05, 0.95])
    if estimator == "dros":
        low, high = 0.01 * low**2, 100 * high**2
    return np.append(np.inf, np.geomspace(high, low, n_limits))


def tune_by_slope(
    decisions: WeightedDecisions,
    customer: np.ndarray,
    *,
    estimator: str,
    limits: Sequence[float] | np.ndarray | None = None,
) -> Choice:
    """Choose the limit by SLOPE++ (Tucker and Lee 2021; Su, Srinath, Krishnamurthy 2020).

    Limits in the order of falling interval width; the last is taken whose estimate still agrees
    with every one before it: |v_i - v_j| <= h_j + (sqrt(6) - 1) h_i for all i before j, with h_i
    the half width. Widths need not fall in the order of the limits.

    Parameters
    ----------
    decisions
        Under the policy.
    customer : shape (n,), int
        Cluster of each decision.
    estimator
        With a limit.
    limits
        To choose from; None proposes them.

    Returns
    -------
    Choice
        The limit and its estimate.

    Raises
    ------
    SupportError
        If the estimator has no limit, or nothing can be estimated.
    """
    method = _find_limited(estimator)
    if limits is None:
        limits = propose_limits(decisions.weight, estimator=estimator)
    tried = [
        estimate_mean(method.contribute(decisions, float(limit)), customer, level=SLOPE_LEVEL)
        for limit in limits
    ]
    half = np.array([each.high - each.value for each in tried])
    value = np.array([each.value for each in tried])
    order = np.argsort(-half, kind="stable")
    half, value = half[order], value[order]
    chosen = 0
    for j in range(1, len(order)):
        agrees = np.abs(value[:j] - value[j]) <= half[j] + (np.sqrt(6) - 1) * half[:j]
        if not agrees.all():
            break
        chosen = j
    limit = float(np.asarray(limits, dtype=float)[order[chosen]])
    unbiased = find_estimator(_UNBIASED).contribute(decisions, np.inf)
    estimate = allow_for_bias(method.contribute(decisions, limit), unbiased, customer)
    return Choice(estimator, limit, estimate)


def choose_by_validation(
    decisions: WeightedDecisions,
    customer: np.ndarray,
    *,
    seed: int,
    estimators: Sequence[str] = tuple(ESTIMATORS),
    n_limits: int = N_LIMITS,
    n_splits: int = N_SPLITS,
) -> Choice:
    """Choose estimator and limit by cross-validation (Cief, Kompan, Kveton 2024).

    Customers are split at random, again and again; on one part each estimator speaks, on the other
    DR, which is unbiased. The share of the second part makes both parts' variances alike. Chosen
    is the least squared difference; within a standard error of it, the unbiased.

    Parameters
    ----------
    decisions
        Under the policy.
    customer : shape (n,), int
        Cluster of each decision.
    seed
        Of the splits.
    estimators
        Names.
    n_limits
        Per estimator with a limit.
    n_splits
        How often customers are split.

    Returns
    -------
    Choice
        Estimator, limit, and the estimate on all decisions.

    Raises
    ------
    SupportError
        If nothing can be estimated.
    """
    options = [
        (find_estimator(name), float(limit))
        for name in estimators
        for limit in (
            propose_limits(decisions.weight, estimator=name, n_limits=n_limits)
            if find_estimator(name).is_limited
            else (np.inf,)
        )
    ]
    unbiased = find_estimator(_UNBIASED).contribute(decisions, np.inf)
    cluster = np.unique(customer, return_inverse=True)[1]
    counts = np.bincount(cluster).astype(float)
    totals, own = np.empty((len(options), len(counts))), np.empty(len(options))  # (C, G), (C,)
    for number, (option, limit) in enumerate(options):
        values = option.contribute(decisions, limit)
        totals[number] = np.bincount(cluster, weights=values)
        own[number] = estimate_mean(values, customer).standard_error
    reference = np.bincount(cluster, weights=unbiased)
    other = estimate_mean(unbiased, customer).standard_error
    share = np.clip(other**2 / (other**2 + own**2), 0.1, 0.9)  # (C,)
    random = np.random.default_rng([seed, 74])
    errors = np.empty((n_splits, len(options)))
    for split in range(n_splits):
        place = random.random(len(counts))
        for number in range(len(options)):
            held = place < share[number]
            mean = totals[number][~held].sum() / max(counts[~held].sum(), 1.0)
            errors[split, number] = (mean - reference[held].sum() / counts[held].sum()) ** 2
    mean_error = errors.mean(axis=0)
    best = int(mean_error.argmin())
    margin = stats.sem(errors[:, best]) if n_splits > 1 else 0.0
    is_close = mean_error <= mean_error[best] + margin
    trusted = [
        number
        for number, (option, _) in enumerate(options)
        if is_close[number] and option.is_unbiased
    ]
    chosen = min(trusted, key=lambda number: float(mean_error[number]), default=best)
    method, limit = options[chosen]
    values = method.contribute(decisions, limit)
    if method.is_unbiased:
        return Choice(method.name, limit, estimate_mean(values, customer))
    return Choice(method.name, limit, allow_for_bias(values, unbiased, customer))


def allow_for_bias(
    contributions: np.ndarray, unbiased: np.ndarray, customer: np.ndarray
) -> Estimate:
    """Return the mean with an interval that holds the bias too, as far as it is seen.

    Parameters
    ----------
    contributions, unbiased : shape (n,)
        Of a biased estimator, and of an unbiased one of the same.
    customer : shape (n,), int
        Cluster of each decision.

    Returns
    -------
    Estimate
        Half widths of the mean and of its difference to the unbiased one, and that difference, are
        added.
    """
    own = estimate_mean(contributions, customer)
    bias = estimate_mean(unbiased - contributions, customer)
    reach = own.high - own.value + abs(bias.value) + bias.high - bias.value
    return replace(own, low=own.value - reach, high=own.value + reach)


def _find_limited(name: str) -> Estimator:
    method = find_estimator(name)
    if not method.is_limited:
        raise SupportError(f"{name} limits no weights: there is nothing to tune")
    return method
