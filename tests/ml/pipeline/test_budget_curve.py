from datetime import date

import numpy as np
import polars as pl
import pytest
from known_log import PROGRAMME

from ml.pipeline.budget_curve import SHARES, trace_budget
from ml.pipeline.validate import evaluate_candidate


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


def test_at_its_own_budget_the_curve_is_the_gates_value(curve, snapshot, candidate, rule):
    values = evaluate_candidate(
        snapshot,
        candidate=candidate,
        champion=rule,
        programme=PROGRAMME,
        candidate_version="2",
        champion_version="1",
        candidate_hash="abc",
        training_date=date(2026, 3, 1),
        gate_number=1,
        is_randomisation_sound=True,
    ).policy_values.filter((pl.col("estimator") == "dr") & (pl.col("reward") == "net_value"))
    for name in ("champion", "candidate"):
        gate = values.filter(pl.col("policy") == name).row(0, named=True)
        at_one = curve.filter(
            (pl.col("policy") == name)
            & (pl.col("budget_per_decision") == PROGRAMME.budget_per_decision)
        ).row(0, named=True)
        assert at_one["incremental_net_value"] == pytest.approx(gate["incremental_value"], rel=1e-9)
        assert at_one["low"] == pytest.approx(gate["incremental_low"], rel=1e-9)


def test_a_budget_below_exploration_has_no_point(snapshot, candidate, rule):
    short = trace_budget(
        snapshot, candidate=candidate, champion=rule, programme=PROGRAMME, shares=(0.001, 1.0)
    )
    assert short["budget_per_decision"].unique().to_list() == [PROGRAMME.budget_per_decision]
