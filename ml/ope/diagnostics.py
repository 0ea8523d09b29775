"""Whether a log supports an estimate of a policy at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml.core.errors import SupportError
from ml.ope.estimators import effective_sample_size, weigh
from ml.ope.intervals import Estimate, estimate_mean

MINIMUM_EFFECTIVE_SAMPLE_SIZE = 300.0
PROPENSITY_DEVIATIONS = 4.0
LARGEST_WEIGHT_SHARE = 0.05
THIN_PROPENSITY = 0.01
_UNSUPPORTED_MASS = 0.01


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
    propensities are right. ``reasons`` say why the policy's value can't be trusted; empty where it
    can.
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


def diagnose_support(
    policy: np.ndarray,
    customer: np.ndarray,
    *,
    action: np.ndarray,
    propensity: np.ndarray,
    action_ids: Sequence[str],
    eligible: np.ndarray | None = None,
    logging_policy: np.ndarray | None = None,
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
        _weigh_action(
            number, customer, action, propensity, None if eligible is None else eligible[:, number]
        )
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
            not _is_off(mean),
            f"propensities doubtful: the mean importance weight is {mean.value:.3f}, more than "
            f"{PROPENSITY_DEVIATIONS:.0f} standard errors ({mean.standard_error:.4f}) from 1",
        ),
        *(
            (
                not _is_off(each),
                f"propensities doubtful: decisions that took {name} stand for {each.value:.3f} "
                f"times the decisions that could, more than {PROPENSITY_DEVIATIONS:.0f} standard "
                f"errors ({each.standard_error:.4f}) from 1",
            )
            for name, each in zip(action_ids, taken, strict=True)
            if each is not None
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
        action_weight=np.array([np.nan if each is None else each.value for each in taken]),
        reasons=tuple(reason for holds, reason in criteria if not holds),
    )


def _weigh_action(
    number: int,
    customer: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    could: np.ndarray | None,
) -> Estimate | None:
    """Return the mean of 1{a_i = a} / propensity over decisions that could take an action."""
    values = (action == number) / propensity
    if could is not None:
        values, customer = values[could], customer[could]
    # An action that was never taken is a matter of support, and has no error to judge it by.
    return estimate_mean(values, customer) if values.any() and np.ptp(customer) > 0 else None


def _is_off(mean: Estimate) -> bool:
    """Return whether a mean that should be 1 is too far from it."""
    return abs(mean.value - 1) > PROPENSITY_DEVIATIONS * mean.standard_error
