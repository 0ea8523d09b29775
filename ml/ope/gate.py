"""The promotion gate: evidence in, verdict and reasons out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml.core.errors import SupportError
from ml.ope.diagnostics import SupportReport, TailReport
from ml.ope.intervals import Estimate

ERROR_RATE = 0.05
HARM_LEVEL = 0.80
SMALLEST_PROMISE_SLOPE = 0.5
MOST_OFFERS_RATIO = 1.25


@dataclass(frozen=True, kw_only=True)
class GateEvidence:
    """What the gate judges, all from the evaluation cohort.

    Money is in currency per decision. ``net_value_difference`` is candidate minus champion, paired,
    its interval at ``spend_error(gate_number)``; ``lifecycle_differences`` the same by lifecycle at
    ``HARM_LEVEL``, whose upper end is a one-sided 90 % bound. ``support`` is the log's of the
    candidate, ``tail`` the difference's. ``promise_slope``: realised over promised gain, by
    regression, and its 95 % upper end; None where nothing personal is promised.
    ``limit_uses``: per side of a declared limit, the candidate's expected use and the bound, per
    decision.
    ``offer_share``: of decisions, how many the candidate sends an offer; ``logged_offer_share``:
    the most that the log sent over four weeks.
    """

    gate_number: int
    net_value_difference: Estimate
    expected_cost: Estimate
    budget_per_decision: float
    support: SupportReport
    tail: TailReport
    lifecycle_differences: Mapping[str, Estimate]
    harm_tolerance: float
    limit_uses: Sequence["LimitUse"]
    offer_share: float
    logged_offer_share: float
    promise_slope: float | None
    promise_slope_high: float | None
    is_randomisation_sound: bool
    has_feature_contract: bool


@dataclass(frozen=True)
class LimitUse:
    """A side of a limit: ``use`` is to be at most (``is_most``) or at least ``bound``."""

    name: str
    use: Estimate
    bound: float
    is_most: bool

    @property
    def is_broken(self) -> bool:
        """Whether the use is proven beyond the bound: its whole interval is."""
        return self.use.low > self.bound if self.is_most else self.use.high < self.bound


@dataclass(frozen=True)
class Verdict:
    """The gate's decision; ``reasons`` holds a sentence for every criterion that failed."""

    is_passed: bool
    reasons: tuple[str, ...]


def spend_error(gate_number: int) -> float:
    """Return what the k-th gate against a champion may err, 0.05 * 6 / (pi^2 k^2).

    However many gates a champion meets, all of them together promote a candidate that is not
    better with a probability of at most ``ERROR_RATE`` (sum of 1/k^2, union bound): whatever the
    candidates are, and though all gates use the same, growing log.

    Parameters
    ----------
    gate_number
        k, 1 for the first gate since the champion was installed.

    Returns
    -------
    float
        One-sided error rate of this gate.

    Raises
    ------
    SupportError
        If k is below 1.
    """
    if gate_number < 1:
        raise SupportError(f"gates are counted from 1, not {gate_number}")
    return ERROR_RATE * 6 / (np.pi * gate_number) ** 2


def decide_promotion(evidence: GateEvidence) -> Verdict:
    """Decide whether the candidate is proven better.

    Parameters
    ----------
    evidence
        Estimates and diagnostics.

    Returns
    -------
    Verdict
        Passed only if no criterion failed.
    """
    difference, cost = evidence.net_value_difference, evidence.expected_cost
    highest = evidence.promise_slope_high
    criteria = [
        (
            difference.low > 0,
            f"not proven: the net-value difference's {difference.level:.2%} interval "
            f"[{difference.low:+.4f}, {difference.high:+.4f}] does not lie above 0 "
            f"(gate {evidence.gate_number} against this champion)",
        ),
        (
            cost.value <= evidence.budget_per_decision,
            f"over budget: expected cost {cost.value:.4f} per decision exceeds "
            f"{evidence.budget_per_decision:.4f}",
        ),
        *(
            (
                not each.is_broken,
                f"limit '{each.name}' not kept: {each.use.value:.4f} [{each.use.low:.4f}, "
                f"{each.use.high:.4f}] expected per decision, at "
                f"{'most' if each.is_most else 'least'} {each.bound:.4f}",
            )
            for each in evidence.limit_uses
        ),
        *((False, reason) for reason in (*evidence.support.reasons, *evidence.tail.reasons)),
        *(
            (
                each.high >= -evidence.harm_tolerance,
                f"harm to lifecycle {name}: its net-value difference is at most {each.high:+.4f} "
                f"(one-sided 90 %), below -{evidence.harm_tolerance:g}",
            )
            for name, each in evidence.lifecycle_differences.items()
        ),
        (
            highest is None or highest >= SMALLEST_PROMISE_SLOPE,
            "promises not kept: a promised unit of net value brings "
            f"{evidence.promise_slope or 0:.2f} (at most {highest or 0:.2f}), below "
            f"{SMALLEST_PROMISE_SLOPE:g}",
        ),
        (
            evidence.offer_share <= MOST_OFFERS_RATIO * evidence.logged_offer_share,
            f"sends more than the log supports: an offer in {evidence.offer_share:.1%} of "
            f"decisions, the log at most in {evidence.logged_offer_share:.1%} over four weeks; "
            "what so many do to later decisions was never seen: explore more, or spend less",
        ),
        (
            evidence.is_randomisation_sound,
            "randomisation doubtful: a randomisation check of the training log failed",
        ),
        (
            evidence.has_feature_contract,
            "features changed: the candidate was fitted on another feature schema",
        ),
    ]
    reasons = tuple(reason for holds, reason in criteria if not holds)
    return Verdict(is_passed=not reasons, reasons=reasons)
