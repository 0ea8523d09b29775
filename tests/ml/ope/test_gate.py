from dataclasses import replace

import pytest

from ml.ope.estimators import Estimate
from ml.ope.gate import GateEvidence, decide_promotion


def _estimate(value, error):
    return Estimate(value, error, value - 2 * error, value + 2 * error, 0.95, 1_000, 500)


PROVEN = GateEvidence(
    net_value_difference=_estimate(0.5, 0.1),
    expected_cost=_estimate(0.18, 0.01),
    budget_per_decision=0.2,
    effective_sample_size=900.0,
    mean_weight=_estimate(1.01, 0.01),
    is_randomisation_sound=True,
    has_feature_contract=True,
)


def test_proof_passes_without_reasons():
    verdict = decide_promotion(PROVEN)
    assert verdict.is_passed
    assert verdict.reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"net_value_difference": _estimate(0.1, 0.1)}, "not proven"),
        ({"expected_cost": _estimate(0.21, 0.01)}, "over budget"),
        ({"effective_sample_size": 299.0}, "too little evidence"),
        ({"mean_weight": _estimate(1.05, 0.01)}, "propensities doubtful"),
        ({"is_randomisation_sound": False}, "randomisation doubtful"),
        ({"has_feature_contract": False}, "features changed"),
    ],
)
def test_each_criterion_alone_refuses(change, reason):
    verdict = decide_promotion(replace(PROVEN, **change))
    assert not verdict.is_passed
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]
