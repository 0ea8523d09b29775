import numpy as np
import pytest
from scipy import stats

from ml.core.errors import SupportError
from ml.ope.design import detectable_difference, plan_exploration


def test_the_plan_has_the_power_it_promises():
    propensities = {"no_offer": 0.4, "a": 0.35, "b": 0.25}
    plans = plan_exploration(
        propensities, effect=0.3, standard_deviation=2.0, decisions_per_week=1_000
    )
    plan = next(each for each in plans if each.action_id == "b")
    random = np.random.default_rng(1)
    n_offer, n_control = int(plan.n_decisions * 0.25), int(plan.n_decisions * 0.4)
    wins = 0
    for _ in range(1_000):
        offered = random.normal(0.3, 2.0, n_offer)
        control = random.normal(0.0, 2.0, n_control)
        wins += stats.ttest_ind(offered, control).pvalue < 0.05
    assert wins / 1_000 == pytest.approx(0.80, abs=0.04)
    assert plan.weeks == pytest.approx(plan.n_decisions / 1_000)


def test_rarer_offers_need_longer():
    plans = plan_exploration(
        {"no_offer": 0.5, "a": 0.4, "b": 0.1},
        effect=1.0,
        standard_deviation=5.0,
        decisions_per_week=100,
    )
    assert plans[1].n_decisions > plans[0].n_decisions


def test_detectable_difference_is_2_8_standard_errors():
    assert detectable_difference(1.0) == pytest.approx(2.8016, abs=1e-3)


def test_impossible_plans_are_refused():
    with pytest.raises(SupportError, match="sum to 1"):
        plan_exploration(
            {"no_offer": 0.5, "a": 0.4}, effect=1, standard_deviation=1, decisions_per_week=1
        )
    with pytest.raises(SupportError, match="effect"):
        plan_exploration(
            {"no_offer": 0.5, "a": 0.5}, effect=0, standard_deviation=1, decisions_per_week=1
        )
