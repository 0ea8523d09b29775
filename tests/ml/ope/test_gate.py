from dataclasses import replace

import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.diagnostics import SupportReport, TailReport
from ml.ope.gate import GateEvidence, LimitUse, decide_promotion, spend_error
from ml.ope.intervals import Estimate, bound_by_likelihood

SUPPORTED = SupportReport(
    effective_sample_size=900.0,
    largest_weight=4.0,
    largest_share=0.004,
    mean_weight=1.0,
    mean_weight_error=0.01,
    matched_share=1.0,
    thin_mass=0.0,
    unsupported_mass=0.0,
    action_decisions=np.array([900, 100]),
    action_weight=np.ones(2),
    reasons=(),
)


def _estimate(value, error):
    return Estimate(value, error, value - 2 * error, value + 2 * error, 0.95, 1_000, 500)


PROVEN = GateEvidence(
    gate_number=1,
    net_value_difference=_estimate(0.5, 0.1),
    expected_cost=_estimate(0.18, 0.01),
    budget_per_decision=0.2,
    support=SUPPORTED,
    tail=TailReport(1.0, 0.05, ()),
    lifecycle_differences={"activation": _estimate(0.5, 0.2), "habituation": _estimate(0, 0.2)},
    limit_uses=(),
    harm_tolerance=0.05,
    offer_share=0.30,
    logged_offer_share=0.28,
    promise_slope=0.9,
    promise_slope_high=1.1,
    is_randomisation_sound=True,
    has_feature_contract=True,
)


def test_proof_passes_without_reasons():
    verdict = decide_promotion(PROVEN)
    assert verdict.is_passed
    assert verdict.reasons == ()
    assert decide_promotion(replace(PROVEN, promise_slope=None, promise_slope_high=None)).is_passed
    # Not proven beyond the bound: chance between customers, not the policy.
    near = LimitUse("texts", _estimate(0.21, 0.01), 0.2, is_most=True)
    assert decide_promotion(replace(PROVEN, limit_uses=(near,))).is_passed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"net_value_difference": _estimate(0.1, 0.1)}, "not proven"),
        ({"expected_cost": _estimate(0.21, 0.01)}, "over budget"),
        ({"support": replace(SUPPORTED, reasons=("too little evidence: x",))}, "too little"),
        ({"tail": TailReport(9.0, 0.3, ("tails too heavy: x",))}, "tails too heavy"),
        ({"lifecycle_differences": {"activation": _estimate(-0.5, 0.1)}}, "harm to lifecycle"),
        ({"promise_slope": 0.2, "promise_slope_high": 0.4}, "promises not kept"),
        ({"limit_uses": (LimitUse("texts", _estimate(0.3, 0.01), 0.2, True),)}, "limit 'texts'"),
        ({"limit_uses": (LimitUse("texts", _estimate(0.1, 0.01), 0.2, False),)}, "at least"),
        ({"offer_share": 0.4}, "sends more than the log supports"),
        ({"is_randomisation_sound": False}, "randomisation doubtful"),
        ({"has_feature_contract": False}, "features changed"),
    ],
)
def test_each_criterion_alone_refuses(change, reason):
    verdict = decide_promotion(replace(PROVEN, **change))
    assert not verdict.is_passed
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


def test_all_gates_of_a_champion_together_err_by_one_in_twenty():
    spent = [spend_error(number) for number in range(1, 2_000)]
    assert spent == sorted(spent, reverse=True)
    assert 0.0499 < sum(spent) < 0.05
    with pytest.raises(SupportError, match="counted from 1"):
        spend_error(0)


def _live(random, effect, n_gates, *, n=400):
    """Return at which of weekly gates, on a growing log, a candidate is promoted; 0: at none."""
    values = np.zeros(0)
    for gate in range(1, n_gates + 1):
        fresh = effect + random.standard_exponential(n) - 1.0
        values = np.append(values, fresh)
        level = 1 - 2 * spend_error(gate)
        if bound_by_likelihood(values, np.arange(len(values)), level=level).low > 0:
            return gate
    return 0


def test_twelve_gates_rarely_promote_what_is_no_better():
    random = np.random.default_rng(1)
    promoted = np.mean([_live(random, 0.0, 12) > 0 for _ in range(200)])
    assert promoted <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_an_improvement_of_four_standard_errors_is_promoted_by_the_fourth_gate():
    random = np.random.default_rng(2)
    found = np.mean([_live(random, 4 / np.sqrt(400), 4) > 0 for _ in range(100)])
    assert found >= 0.8
