"""Whether a log supports an estimate of a policy at all."""

from dataclasses import dataclass

import numpy as np

from ml.core.errors import SupportError
from ml.ope.estimators import effective_sample_size
from ml.ope.intervals import estimate_mean

MINIMUM_EFFECTIVE_SAMPLE_SIZE = 300.0
MEAN_WEIGHT_DEVIATIONS = 4.0
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
    vectors. ``action_decisions``, shape (K,): decisions that took the action. ``reasons`` say why
    the policy's value can't be trusted; empty where it can.
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
    reasons: tuple[str, ...]

    def require(self) -> None:
        """Raise SupportError with every reason, if there is one."""
        if self.reasons:
            raise SupportError("; ".join(self.reasons))


def diagnose_support(
    weight: np.ndarray,
    customer: np.ndarray,
    *,
    policy: np.ndarray,
    action: np.ndarray,
    logging_policy: np.ndarray | None = None,
) -> SupportReport:
    """Report how far a log reaches a policy.

    Parameters
    ----------
    weight : shape (n,)
        Importance weights.
    customer : shape (n,), int
        Cluster of each decision.
    policy : shape (n, K)
        Probability of every action.
    action : shape (n,), int
        The action taken.
    logging_policy : shape (n, K), optional
        The log's probabilities of all actions.

    Returns
    -------
    SupportReport
        With the reasons to refuse.
    """
    n_actions = policy.shape[1]
    total = float(weight.sum())
    mean = estimate_mean(weight, customer)
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
            abs(mean.value - 1) <= MEAN_WEIGHT_DEVIATIONS * mean.standard_error,
            f"propensities doubtful: the mean importance weight is {mean.value:.3f}, more than "
            f"{MEAN_WEIGHT_DEVIATIONS:.0f} standard errors ({mean.standard_error:.4f}) from 1",
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
        action_decisions=np.bincount(action, minlength=n_actions),
        reasons=tuple(reason for holds, reason in criteria if not holds),
    )
