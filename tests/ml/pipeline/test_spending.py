"""Declared limits: kept by a night and by the policy that the gate values, and refused clearly."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, EVENLY, PROGRAMME, make_rows

from benchmarks.studies.deciding import optimise_night
from ml.core.actions import ActionSet
from ml.core.contexts import build_contexts
from ml.core.errors import BudgetError, ContractError
from ml.core.programme import parse_programme
from ml.core.rules import LimitRule
from ml.pipeline.decide import decide_night
from ml.pipeline.learn import freeze_cut
from ml.pipeline.policies import ExplorationOnly
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.spending import check_limits, spend

NIGHT = date(2026, 3, 2)
FEW = LimitRule(name="few coupons", measure="offers", families=("coupon",), most_per_decision=0.15)
YOUNG = LimitRule(
    name="activation", measure="cost", lifecycles=("activation",), most_per_decision=0.02
)
MORE = LimitRule(
    name="some resurrection",
    measure="offers",
    channels=("email",),
    lifecycles=("resurrection",),
    least_per_decision=0.16,
)


def _decide(policy, limits, **changes):
    rows, _ = make_rows(20, n=6_000)
    features = rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True))
    return decide_night(
        features,
        policy=policy,
        policy_version="2",
        catalogue=ACTIONS,
        programme=replace(PROGRAMME, limits=limits, **changes),
        decision_date=NIGHT,
    )


def _count(night, rule, *, cost=False):
    """Return the expected use of a limit, from the emitted table alone."""
    wanted = [
        name
        for name, family, channel in zip(
            ACTIONS.action_ids, ACTIONS.families, ACTIONS.channels, strict=True
        )
        if name != "no_offer"
        and (not rule.families or family in rule.families)
        and (not rule.channels or channel in rule.channels)
    ]
    rows = night.assignments
    if rule.lifecycles:
        rows = rows.filter(pl.col("lifecycle").is_in(rule.lifecycles))
    each = rows.explode("eligible_actions", "eligible_propensities")
    return each.filter(pl.col("eligible_actions").is_in(wanted))["eligible_propensities"].sum()


def test_a_night_keeps_every_limit_in_expectation(candidate):
    free = _decide(candidate, ())
    assert free.limits["limit"].to_list() == ["budget"]
    night = _decide(candidate, (FEW, YOUNG))
    n = night.assignments.height
    assert _count(free, FEW) > 0.2 * n
    assert _count(night, FEW) <= 0.15 * n
    # A reserve for chance is held back, and hardly more.
    assert _count(night, FEW) > 0.13 * n
    usage = {(row["limit"], row["side"]): row for row in night.limits.to_dicts()}
    assert usage["few coupons", "most"]["expected"] == pytest.approx(_count(night, FEW))
    assert usage["few coupons", "most"]["bound"] == pytest.approx(0.15 * n)
    assert usage["few coupons", "most"]["price"] > 0
    assert usage["activation", "most"]["expected"] <= 0.02 * n
    assert usage["budget", "most"]["expected"] == pytest.approx(night.expected_cost)
    assert night.expected_cost <= night.budget


def test_a_floor_is_kept_though_it_costs_value(candidate):
    poor = {"budget_per_decision": 0.12}
    free, night = _decide(candidate, (), **poor), _decide(candidate, (MORE,), **poor)
    n = night.assignments.height
    assert _count(free, MORE) < 0.14 * n
    # It holds on the customers that the price is solved on, and nearly so on all.
    assert _count(night, MORE) == pytest.approx(0.16 * n, rel=0.04)
    assert night.expected_cost <= night.budget


@pytest.mark.parametrize("limits", [(), (MORE,), (FEW,)])
@pytest.mark.parametrize("n", [200, 2_300])
def test_a_paced_night_without_money_explores_and_nothing_else(candidate, limits, n):
    for seed in range(12):
        rows, _ = make_rows(60 + seed, n=n)
        night = decide_night(
            rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True)),
            policy=candidate,
            policy_version="2",
            catalogue=ACTIONS,
            programme=replace(PROGRAMME, limits=limits),
            decision_date=NIGHT,
            budget=0.0,
        )
        assert night.expected_cost <= night.budget * (1 + 1e-9)
        vectors = night.assignments["eligible_propensities"]
        assert vectors.list.min().min() >= PROGRAMME.propensity_floor - 1e-12


def test_a_paced_night_spends_its_budget_and_never_more(candidate):
    rows, _ = make_rows(20, n=6_000)
    for budget in (400.0, 600.0):
        night = decide_night(
            rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True)),
            policy=candidate,
            policy_version="2",
            catalogue=ACTIONS,
            programme=PROGRAMME,
            decision_date=NIGHT,
            budget=budget,
        )
        assert 0.99 * budget < night.expected_cost <= budget


def test_propensities_stay_distributions_with_a_floor_and_a_rerun_is_the_same(candidate):
    night = _decide(candidate, (FEW, YOUNG))
    vectors = night.assignments["eligible_propensities"]
    assert np.abs(vectors.list.sum().to_numpy() - 1).max() < 1e-9
    assert vectors.list.min().min() >= PROGRAMME.propensity_floor - 1e-12
    assert _decide(candidate, (FEW, YOUNG)).assignments.equals(night.assignments)


def test_a_large_nights_promise_is_the_exact_optimums(candidate):
    rows, _ = make_rows(21, n=60_000)
    features = rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True))
    programme = replace(PROGRAMME, limits=(FEW,))
    decided = features.filter(~pl.col("is_holdout")).sort("customer_id")
    n = decided.height
    night = decide_night(
        features,
        policy=candidate,
        policy_version="1",
        catalogue=ACTIONS,
        programme=programme,
        decision_date=NIGHT,
        budget=programme.budget_per_decision * n,
    )
    contexts = build_contexts(decided, programme=programme, actions=ACTIONS)
    scores = candidate.scorer.score(contexts)
    best = optimise_night(contexts, scores, candidate, programme)
    chances = ACTIONS.spread_lists(
        night.assignments["eligible_actions"], night.assignments["eligible_propensities"]
    )
    value = np.where(scores.allowed, scores.reward, 0.0)
    assert (chances * value).sum() > 0.999 * (best * value).sum()


def test_the_frozen_policy_keeps_limits_and_survives_its_file(snapshot, candidate, tmp_path):
    scores = candidate.scorer.score(snapshot.training.contexts)
    frozen = freeze_cut(
        candidate,
        snapshot,
        scores,
        actions=ACTIONS,
        budget_per_decision=PROGRAMME.budget_per_decision,
        limits=(FEW,),
    )
    contexts = snapshot.evaluation.contexts
    policy = frozen.probabilities(contexts)
    # Of a typical night, whose reserve is large.
    coupons = policy[:, [family == "coupon" for family in ACTIONS.families]].sum(axis=1).mean()
    assert 0.11 < coupons < 0.15
    save_policy(frozen, tmp_path)
    loaded = load_policy(tmp_path)
    assert (loaded.probabilities(contexts) == policy).all()
    assert loaded.cut.shadow_price == frozen.cut.shadow_price


def test_exploring_before_the_first_champion_keeps_limits_too():
    chance = ExplorationOnly(ACTIONS, 0.02, 50.0, EVENLY)
    free, night = _decide(chance, ()), _decide(chance, (FEW,))
    n = night.assignments.height
    assert _count(free, FEW) > 0.4 * n
    assert _count(night, FEW) == pytest.approx(0.15 * n)
    assert night.limits.filter(limit="few coupons")["price"].item() == 0
    assert night.assignments["eligible_propensities"].list.min().min() >= 0.02
    with pytest.raises(BudgetError, match="too few for exploration"):
        _decide(chance, (replace(FEW, most_per_decision=0.01),))


def test_a_limit_may_name_an_offer_that_was_withdrawn(candidate):
    kept = np.array([each != "text_ad" for each in ACTIONS.action_ids])
    fewer = ActionSet(
        *(
            tuple(np.array(each)[kept])
            for each in (ACTIONS.action_ids, ACTIONS.families, ACTIONS.channels)
        ),
        ACTIONS.face_values[kept],
        ACTIONS.message_costs[kept],
    )
    rule = LimitRule(name="ads", measure="offers", actions=("text_ad",), most_per_decision=0.5)
    check_limits((rule,), fewer, candidate.actions)
    with pytest.raises(ContractError, match="names actions"):
        check_limits((rule,), fewer)


def test_what_cannot_be_kept_says_which_limits(snapshot, candidate):
    contexts = snapshot.training.contexts
    scores = candidate.scorer.score(contexts)
    everybody = {
        "actions": ACTIONS,
        "budget": contexts.n_customers * 0.3,
        "is_solved_on": np.ones(contexts.n_customers, dtype=bool),
    }
    none = replace(FEW, most_per_decision=0.0)
    with pytest.raises(BudgetError, match=r"exploration .* uses .* of limit 'few coupons'"):
        spend(candidate, scores, contexts, limits=(none,), **everybody)
    many = replace(MORE, least_per_decision=0.9)
    with pytest.raises(BudgetError, match=r"in conflict: .*some resurrection, least"):
        spend(candidate, scores, contexts, limits=(FEW, many), **everybody)
    with pytest.raises(ContractError, match=r"limit 'x' names channels .'fax'"):
        _decide(candidate, (replace(FEW, name="x", channels=("fax",)),))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "a", "measure": "offers"}, "most_per_decision or least_per_decision"),
        ({"name": "a", "measure": "money", "most_per_decision": 1}, "cost or offers"),
        ({"name": "a", "measure": "cost", "most_per_decision": -1}, "negative"),
        (
            {"name": "a", "measure": "cost", "most_per_decision": 1, "least_per_decision": 2},
            "least is above most",
        ),
        (
            {"name": "a", "measure": "cost", "most_per_decision": 1, "lifecycles": ["old"]},
            "lifecycles are",
        ),
        ({"name": "a", "measure": "cost", "at_most": 1}, "at_most"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(rule, message):
    described = {**_as_json(), "limits": [rule]}
    with pytest.raises(ContractError, match=message):
        parse_programme(described)


def test_limits_are_read_from_the_file_and_names_are_theirs_alone():
    rule = {"name": "texts", "measure": "offers", "channels": ["text"], "most_per_decision": 0.1}
    programme = parse_programme({**_as_json(), "limits": [rule]})
    assert programme.limits == (
        LimitRule(name="texts", measure="offers", channels=("text",), most_per_decision=0.1),
    )
    with pytest.raises(ContractError, match="same name"):
        parse_programme({**_as_json(), "limits": [rule, rule]})


def _as_json():
    return json.loads(PROGRAMME.to_json())
