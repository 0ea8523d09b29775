"""The planner on logs whose best action is known."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.actions import ActionSet
from ml.core.logged import build_logged_decisions
from ml.ope.design import detectable_difference
from ml.pipeline.planning import plan_actions
from ml.plots.effects import plot_support

TAKEN = ("email_coupon_2", "email_coupon_5")


def _plan(seed, **keywords):
    rows, _ = make_rows(seed, **keywords)
    logged = build_logged_decisions(rows, programme=PROGRAMME, actions=ACTIONS)
    return plan_actions(logged, actions=ACTIONS), logged


def _proposals(plan):
    return dict(plan.select("action_id", "proposal").unique().iter_rows())


def test_a_proven_family_keeps_its_best_drops_the_worse_and_gets_a_new_depth():
    # Net of cost the coupon of 2 brings 1.2, that of 5 loses 1.
    plan, logged = _plan(1, mean_effect=1.5)
    proposals = _proposals(plan)
    assert proposals["email_coupon_2"] == "keep"
    assert proposals["email_coupon_5"] == "drop"
    (added,) = [name for name, proposal in proposals.items() if proposal == "add"]
    assert added == "email_coupon_2_at_1"
    assert set(plan["reason"].filter(plan["action_id"] == "email_coupon_5")) == {
        "proven worse than email_coupon_2"
    }
    seen = plan.filter(pl.col("action_id").is_in(TAKEN))
    assert seen["n_rows"].sum() == (logged.action > 0).sum()
    row = seen.row(0, named=True)
    assert row["low"] < row["net_effect"] < row["high"]
    assert row["effective_rows"] <= row["n_rows"]


def test_what_was_never_taken_is_kept_for_want_of_evidence():
    plan, _ = _plan(2, mean_effect=1.5)
    push = plan.filter(pl.col("action_id") == "push_ad")
    assert set(push["proposal"]) == {"keep"}
    assert push["n_rows"].sum() == 0
    assert push["needed_decisions"].null_count() == push.height


def test_a_family_that_loses_is_dropped_and_nothing_is_added():
    plan, _ = _plan(3, mean_effect=-2.0, slope=0.0)
    proposals = _proposals(plan)
    assert proposals["email_coupon_2"] == proposals["email_coupon_5"] == "drop"
    assert "add" not in proposals.values()


def test_without_proof_one_member_stands_for_its_family():
    plan, _ = _plan(4, n=400, mean_effect=0.5, slope=0.0)
    proposals = [_proposals(plan)[name] for name in TAKEN]
    assert sorted(proposals) == ["drop", "keep"]


def test_without_logged_propensities_there_is_no_plan_yet():
    rows, _ = make_rows(6, n=500)
    unknown = rows.with_columns(
        pl.lit(None, dtype=rows.schema["eligible_propensities"]).alias("eligible_propensities")
    )
    logged = build_logged_decisions(unknown, programme=PROGRAMME, actions=ACTIONS)
    plan = plan_actions(logged, actions=ACTIONS)
    assert plan.is_empty()
    assert plot_support(plan, minimum_support=300).texts


def test_one_customer_in_a_lifecycle_has_no_interval():
    rows, _ = make_rows(7, n=2_000)
    lifecycle = pl.when(pl.col("customer_id") < "c000002").then(pl.lit("resurrection"))
    rows = rows.with_columns(
        lifecycle.otherwise(pl.lit("activation")).alias("lifecycle"),
        pl.when(pl.col("customer_id") < "c000002")
        .then(pl.lit("c000000"))
        .otherwise(pl.col("customer_id"))
        .alias("customer_id"),
    )
    logged = build_logged_decisions(rows, programme=PROGRAMME, actions=ACTIONS)
    plan = plan_actions(logged, actions=ACTIONS).filter(pl.col("lifecycle") == "resurrection")
    assert plan["net_effect"].null_count() == plan.height


def test_the_new_depth_lies_toward_the_better_neighbour():
    """Depths 1, 2 and 5 with net values near 1, 1.4 and -3: between 1 and 2."""
    face_values = np.array([0.0, 1.0, 2.0, 5.0])
    actions = ActionSet(
        ("no_offer", "at_1", "at_2", "at_5"),
        ("none", *["coupon"] * 3),
        ("", *["email"] * 3),
        face_values,
        np.zeros(4),
    )
    random = np.random.default_rng(1)
    n = 8_000
    action = random.integers(0, 4, n)
    rows, _ = make_rows(8, n=n)
    drawn = build_logged_decisions(rows, programme=PROGRAMME, actions=ACTIONS)
    logged = replace(
        drawn,
        action=action,
        propensity=np.full(n, 0.25),
        logging_policy=np.full((n, 4), 0.25),
        value=np.array([0.0, 1.0, 1.4, -3.0])[action] + random.normal(0, 1, n),
        cost=np.zeros(n),
    )
    plan = plan_actions(logged, actions=actions)
    assert set(plan.filter(pl.col("proposal") == "add")["face_value"]) == {1.5}


def test_an_experiment_of_the_needed_size_tells_half_the_effect():
    """The standard error at the stated number of decisions is the one that the power asks for."""
    plan, logged = _plan(5, mean_effect=1.5)
    row = plan.filter(
        (pl.col("action_id") == "email_coupon_2") & (pl.col("lifecycle") == "activation")
    ).row(0, named=True)
    own = logged.take(logged.contexts.frame["lifecycle"].to_numpy() == "activation")
    error = own.net_value.std() * np.sqrt((3 + 3) / row["needed_decisions"])
    assert detectable_difference(error) == pytest.approx(row["net_effect"] / 2, rel=0.02)
