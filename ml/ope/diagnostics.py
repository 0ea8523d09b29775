"""Whether a log supports an estimate of a policy at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ml.core.errors import SupportError
from ml.ope.estimators import effective_sample_size, weigh
from ml.ope.intervals import estimate_mean, sum_by_customer

MINIMUM_EFFECTIVE_SAMPLE_SIZE = 300.0
PROPENSITY_DEVIATIONS = 4.0
LARGEST_WEIGHT_SHARE = 0.05
THIN_PROPENSITY = 0.01
SKEWNESS_LIMIT = 0.10
_UNSUPPORTED_MASS = 0.01
_TESTED_SIZE = 30.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SupportReport:
    """How far a log reaches a policy.

    ``effective_sample_size`` is (sum w)^2 / sum w^2; ``largest_share`` the largest weight's share
    of their sum; ``mean_weight``, whose expectation is 1, and its standard error test the
    propensities; ``matched_share`` is the share of decisions that the policy might have taken;
    ``thin_mass`` the policy's mean probability of actions that the log took with a probability
    below 1 %, ``unsupported_mass`` of those it could not take; both None without the log's full
    vectors. ``action_decisions``, shape (K,): decisions that took the action; ``action_weight``,
    shape (K,): the mean of 1{a_i = a} / propensity where the action was eligible, 1 if the
    propensities are right, NaN where it was hardly taken. ``reasons`` say why the policy's value
    can't be trusted; empty where it can.
    """

    effective_sample_size: float
    largest_weight: float
    largest_share: float
    mean_weight: float
    mean_weight_error: float
    matched_share: float
    thin_mass: float | None
    unsupported_mass: float | None
    action_decisions: np.ndarray
    action_weight: np.ndarray
    reasons: tuple[str, ...]

    def require(self) -> None:
        """Raise SupportError with every reason, if there is one."""
        if self.reasons:
            raise SupportError("; ".join(self.reasons))


@dataclass(frozen=True)
class TailReport:
    """Whether a mean's interval can be trusted with these tails.

    ``skewness`` of the customers' sums, ``ratio`` it over the root of their number G, to which
    every interval here owes its coverage error. ``reasons`` as in SupportReport.
    """

    skewness: float
    ratio: float
    reasons: tuple[str, ...]

    def require(self) -> None:
        """Raise SupportError with the reason, if there is one."""
        if self.reasons:
            raise SupportError("; ".join(self.reasons))


def diagnose_tail(values: np.ndarray, customer: np.ndarray) -> TailReport:
    """Report whether heavy tails spoil the interval of a mean of contributions.

    Refused where |skewness| > 0.1 sqrt(G), so below 100 skewness^2 customers; Cochran (1977, 2.15)
    asks for 25 in simple random samples, which the gate study found too few.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.

    Returns
    -------
    TailReport
        With the reason to refuse.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    sums = sum_by_customer(values, customer)
    deviation, n_customers = sums.deviation, len(sums.total)
    variance = float((deviation**2).mean())
    skewness = float((deviation**3).mean()) / variance**1.5 if variance > 0 else 0.0
    ratio = skewness / float(np.sqrt(n_customers))
    needed = int(np.ceil((skewness / SKEWNESS_LIMIT) ** 2))
    reason = (
        f"tails too heavy: a few of {n_customers:,} customers decide the mean (skewness "
        f"{skewness:.1f}, which asks for {needed:,}); explore longer, or cap single purchases"
    )
    return TailReport(skewness, ratio, (reason,) if abs(ratio) > SKEWNESS_LIMIT else ())


def diagnose_support(
    policy: np.ndarray,
    customer: np.ndarray,
    *,
    action: np.ndarray,
    propensity: np.ndarray,
    action_ids: Sequence[str],
    eligible: np.ndarray | None = None,
    logging_policy: np.ndarray | None = None,
    features: np.ndarray | None = None,
    feature_names: Sequence[str] = (),
) -> SupportReport:
    """Report how far a log reaches a policy.

    Parameters
    ----------
    policy : shape (n, K)
        Probability of every action.
    customer : shape (n,), int
        Cluster of each decision.
    action : shape (n,), int
        The action taken.
    propensity : shape (n,), in (0, 1]
        Probability that the log gave it.
    action_ids
        Names of the K actions.
    eligible : shape (n, K), bool, optional
        Which actions the log could take; None: all.
    logging_policy : shape (n, K), optional
        The log's probabilities of all actions.
    features : shape (n, d), optional
        What the log may have decided by, NaN where unknown: weighted, every action's decisions
        must be like all that could take it.
    feature_names
        Names of the d features.

    Returns
    -------
    SupportReport
        With the reasons to refuse.

    Raises
    ------
    SupportError
        If a propensity is outside (0, 1], or there are fewer than two customers.
    """
    weight = weigh(policy, action, propensity)
    total = float(weight.sum())
    mean = estimate_mean(weight, customer)
    taken = [
        _weigh_action(number, action, propensity, None if eligible is None else eligible[:, number])
        for number in range(len(action_ids))
    ]
    size = effective_sample_size(weight)
    share = float(weight.max()) / total if total > 0 else 1.0
    thin = unsupported = None
    if logging_policy is not None:
        impossible = logging_policy <= 0
        unsupported = float((policy * impossible).sum(axis=1).mean())
        is_thin = ~impossible & (logging_policy < THIN_PROPENSITY)
        thin = float((policy * is_thin).sum(axis=1).mean())
    unlike = None
    if features is not None:
        unlike = _find_imbalance(features, action, propensity, len(action_ids), eligible)
    criteria = (
        (
            size >= MINIMUM_EFFECTIVE_SAMPLE_SIZE,
            f"too little evidence: effective sample size {size:.1f} is below "
            f"{MINIMUM_EFFECTIVE_SAMPLE_SIZE:.0f}; explore longer, or evaluate a policy nearer to "
            "the log's",
        ),
        (
            share <= LARGEST_WEIGHT_SHARE,
            f"one decision decides: its weight is {share:.1%} of all, above "
            f"{LARGEST_WEIGHT_SHARE:.0%}",
        ),
        (
            not _is_off(mean.value, mean.standard_error),
            f"propensities doubtful: the mean importance weight is {mean.value:.3f}, more than "
            f"{PROPENSITY_DEVIATIONS:.0f} standard errors ({mean.standard_error:.4f}) from 1",
        ),
        *(
            (
                not _is_off(*each),
                f"propensities doubtful: decisions that took {name} stand for {each[0]:.3f} "
                f"times the decisions that could, more than {PROPENSITY_DEVIATIONS:.0f} standard "
                f"errors ({each[1]:.4f}) from 1",
            )
            for name, each in zip(action_ids, taken, strict=True)
            if each is not None
        ),
        *(
            (
                False,
                f"propensities doubtful: decisions that took {action_ids[number]}, weighted, "
                f"differ in {feature_names[feature]} from those that could (z score {z:+.1f})",
            )
            for number, feature, z in ([] if unlike is None else [unlike])
        ),
        (
            unsupported is None or unsupported <= _UNSUPPORTED_MASS,
            f"{unsupported or 0:.1%} of the policy lies on actions that the log could not take",
        ),
    )
    return SupportReport(
        effective_sample_size=size,
        largest_weight=float(weight.max()),
        largest_share=share,
        mean_weight=mean.value,
        mean_weight_error=mean.standard_error,
        matched_share=float((weight > 0).mean()),
        thin_mass=thin,
        unsupported_mass=unsupported,
        action_decisions=np.bincount(action, minlength=len(action_ids)),
        action_weight=np.array([np.nan if each is None else each[0] for each in taken]),
        reasons=tuple(reason for holds, reason in criteria if not holds),
    )


def _weigh_action(
    number: int, action: np.ndarray, propensity: np.ndarray, could: np.ndarray | None
) -> tuple[float, float] | None:
    """Return the mean of 1{a_i = a} / propensity and its standard error if the mean is 1.

    Given the past every term has mean 1 and variance 1 / propensity - 1, whose mean over all who
    could take the action is that over those who did, weighted. An error from the terms themselves
    would be small where an action was taken less often than it should.
    """
    n_possible = len(action) if could is None else int(could.sum())
    taken = 1.0 / propensity[action == number]
    # An action that was hardly taken is a matter of support.
    if effective_sample_size(taken) < _TESTED_SIZE:
        return None
    variance = max(float(taken @ taken) / float(taken.sum()) - 1.0, 0.0)
    return float(taken.sum()) / n_possible, float(np.sqrt(variance / n_possible))


def _is_off(mean: float, error: float) -> bool:
    """Return whether a mean that should be 1 is too far from it."""
    return abs(mean - 1) > PROPENSITY_DEVIATIONS * error + _ROUNDING


def _find_imbalance(
    features: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    n_actions: int,
    eligible: np.ndarray | None,
) -> tuple[int, int, float] | None:
    """Return action, feature and z score of the worst imbalance, None if none is proven.

    With right propensities (1{a_i = a} / propensity - 1) x_i has mean 0 given the past, so its sum
    over the root of the sum of squares is standard normal, customers clustered or not.
    """
    known = np.isfinite(features)
    count = np.maximum(known.sum(axis=0), 1)
    away = np.where(known, features - np.where(known, features, 0.0).sum(axis=0) / count, 0.0)
    spread = np.sqrt((away**2).sum(axis=0) / count)
    # Bounded, so that no single customer makes the score; unknown and constant ones make none.
    standard = np.divide(away, spread, out=np.zeros_like(away), where=spread > 0).clip(-3, 3)
    squared = standard**2
    scores = np.zeros((n_actions, features.shape[1]))
    for number in range(n_actions):
        taken = action == number
        if effective_sample_size(1.0 / propensity[taken]) < _TESTED_SIZE:
            continue
        surprise = taken / propensity - 1.0
        if eligible is not None:
            surprise = np.where(eligible[:, number], surprise, 0.0)
        error = np.sqrt(squared.T @ surprise**2)
        np.divide(standard.T @ surprise, error, out=scores[number], where=error > 0)
    worst = np.unravel_index(np.abs(scores).argmax(), scores.shape)
    # As rare over all scores as one beyond PROPENSITY_DEVIATIONS is for a single one.
    limit = stats.norm.isf(stats.norm.sf(PROPENSITY_DEVIATIONS) / scores.size)
    score = float(scores[worst])
    return (int(worst[0]), int(worst[1]), score) if abs(score) > limit else None
