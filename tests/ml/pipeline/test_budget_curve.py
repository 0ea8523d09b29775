from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from known_log import PROGRAMME

from ml.core.rules import LimitRule
from ml.pipeline.budget_curve import SHARES, UNLIMITED, trace_budget
from ml.pipeline.learn import freeze_cut
from ml.pipeline.policies import AlignedPolicy
from ml.pipeline.validate import evaluate_candidate
from ml.plots.policies import plot_budget_curve


@pytest.fixture(scope="module")
def curve(snapshot, candidate, rule):
    return trace_budget(snapshot, candidate=candidate, champion=rule, programme=PROGRAMME)


def test_more_budget_costs_more_and_has_a_lower_price(curve):
    for name in ("champion", "candidate"):
        rows = curve.filter(pl.col("policy") == name).sort("budget_per_decision")
        assert rows.height == len(SHARES)
        assert (np.diff(rows["shadow_price"]) <= 0).all()
        assert (np.diff(rows["cost"]) >= -0.02).all()
        assert (rows["low"] < rows["incremental_net_value"]).all()
        assert (rows["incremental_net_value"] < rows["high"]).all()


def _value(snapshot, candidate, champion, programme):
    evaluation = evaluate_candidate(
        snapshot,
        candidate=candidate,
        champion=champion,
        programme=programme,
        candidate_version="2",
        champion_version="1",
        candidate_hash="abc",
        training_date=date(2026, 3, 1),
        gate_number=1,
        is_randomisation_sound=True,
    )
    return evaluation.policy_values.filter(
        (pl.col("estimator") == "dr") & (pl.col("reward") == "net_value")
    )


def _assert_meets_the_gate(curve, values):
    for name in ("champion", "candidate"):
        gate = values.filter(pl.col("policy") == name).row(0, named=True)
        at_one = curve.filter(
            (pl.col("policy") == name)
            & (pl.col("budget_per_decision") == PROGRAMME.budget_per_decision)
        ).row(0, named=True)
        assert at_one["incremental_net_value"] == pytest.approx(gate["incremental_value"], rel=1e-9)
        assert at_one["low"] == pytest.approx(gate["incremental_low"], rel=1e-9)
        assert at_one["high"] == pytest.approx(gate["incremental_high"], rel=1e-9)


def test_at_its_own_budget_the_curve_is_the_gates_value(curve, snapshot, candidate, rule):
    _assert_meets_the_gate(curve, _value(snapshot, candidate, rule, PROGRAMME))


@pytest.fixture(scope="module")
def capped():
    few = LimitRule(
        name="few coupons", measure="offers", families=("coupon",), most_per_decision=0.1
    )
    return replace(PROGRAMME, limits=(few,))


def test_with_caps_the_deployed_policys_value_lies_on_the_curve(snapshot, candidate, rule, capped):
    deployed = [
        freeze_cut(
            policy,
            snapshot,
            AlignedPolicy(policy, candidate.actions, capped).score(snapshot.training.contexts),
            actions=candidate.actions,
            budget_per_decision=capped.budget_per_decision,
            limits=capped.limits,
        )
        for policy in (candidate, rule)
    ]
    curve = trace_budget(snapshot, candidate=candidate, champion=rule, programme=capped)
    _assert_meets_the_gate(curve, _value(snapshot, *deployed, capped))


def test_what_caps_forgo_is_shown(snapshot, candidate, rule, capped):
    curve = trace_budget(
        snapshot, candidate=candidate, champion=rule, programme=capped, shares=(0.5, 1.0, 2.0)
    )
    costs = curve.pivot("policy", index="budget_per_decision", values="cost")
    # A cap that binds leaves budget unused.
    assert (costs["candidate"] < costs[UNLIMITED] - 0.01).any()
    names = [
        each.get_label()
        for each in plot_budget_curve(curve, budget=1.0, currency="EUR").axes[0].get_lines()
    ]
    assert {"champion", "candidate", UNLIMITED} <= set(names)


def test_a_budget_below_exploration_has_no_point(snapshot, candidate, rule):
    short = trace_budget(
        snapshot, candidate=candidate, champion=rule, programme=PROGRAMME, shares=(0.001, 1.0)
    )
    assert short["budget_per_decision"].unique().to_list() == [PROGRAMME.budget_per_decision]
