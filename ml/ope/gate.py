"""The promotion gate: evidence in, verdict and reasons out."""

from dataclasses import dataclass

from ml.ope.estimators import Estimate

MINIMUM_EFFECTIVE_SAMPLE_SIZE = 300.0
MEAN_WEIGHT_DEVIATIONS = 4.0


@dataclass(frozen=True, kw_only=True)
class GateEvidence:
    """What the gate judges, all from the evaluation cohort.

    Money is in currency per decision; ``net_value_difference`` is candidate minus champion,
    paired; ``mean_weight`` tests the propensities, its expectation is 1.
    """

    net_value_difference: Estimate
    expected_cost: Estimate
    budget_per_decision: float
    effective_sample_size: float
    mean_weight: Estimate
    is_randomisation_sound: bool
    has_feature_contract: bool


@dataclass(frozen=True)
class Verdict:
    """The gate's decision; ``reasons`` holds a sentence for every criterion that failed."""

    is_passed: bool
    reasons: tuple[str, ...]


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
    weight = evidence.mean_weight
    weight_error = MEAN_WEIGHT_DEVIATIONS * weight.standard_error
    criteria = (
        (
            difference.low > 0,
            f"not proven: the net-value difference's {difference.level:.0%} interval "
            f"[{difference.low:+.4f}, {difference.high:+.4f}] does not lie above 0",
        ),
        (
            cost.value <= evidence.budget_per_decision,
            f"over budget: expected cost {cost.value:.4f} per decision exceeds "
            f"{evidence.budget_per_decision:.4f}",
        ),
        (
            evidence.effective_sample_size >= MINIMUM_EFFECTIVE_SAMPLE_SIZE,
            f"too little evidence: effective sample size {evidence.effective_sample_size:.0f} is "
            f"below {MINIMUM_EFFECTIVE_SAMPLE_SIZE:.0f}",
        ),
        (
            abs(weight.value - 1) <= weight_error,
            f"propensities doubtful: the mean importance weight is {weight.value:.3f}, more than "
            f"{MEAN_WEIGHT_DEVIATIONS:.0f} standard errors from 1",
        ),
        (
            evidence.is_randomisation_sound,
            "randomisation doubtful: a randomisation check of the training log failed",
        ),
        (
            evidence.has_feature_contract,
            "features changed: the candidate was fitted on another feature schema",
        ),
    )
    reasons = tuple(reason for holds, reason in criteria if not holds)
    return Verdict(is_passed=not reasons, reasons=reasons)
