from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, CONFIG, EVENLY, PROGRAMME, make_rows
from scipy import stats

from ml.contract.tables import CONTRACT
from ml.core.actions import read_actions
from ml.core.errors import ContractError
from ml.core.programme import Attribute
from ml.pipeline.decide import Challenger, decide_night, to_contract
from ml.pipeline.night_checks import check_night
from ml.pipeline.policies import ExplorationOnly, NoOffers

NIGHT = date(2026, 3, 2)


def _features(seed=20, n=6_000):
    rows, _ = make_rows(seed, n=n)
    return rows.with_columns(decision_date=pl.lit(NIGHT), is_due=pl.lit(True))


def _decide(policy, features, **changes):
    arguments = {
        "policy_version": "2",
        "catalogue": ACTIONS,
        "programme": PROGRAMME,
        "decision_date": NIGHT,
        **changes,
    }
    return decide_night(features, policy=policy, **arguments)


@pytest.fixture(scope="module")
def night(candidate):
    return _decide(candidate, _features())


def test_every_check_holds_and_each_can_fail(night):
    features = _features()
    facts = {
        "features": features,
        "open_channels": features.select("customer_id", "contactable_channels"),
        "catalogue": ACTIONS,
        "budget": night.budget,
        "expected_cost": night.expected_cost,
        "limits": night.limits,
        "policy_version": "2",
    }
    table = night.assignments
    assert all(check.is_passed for check in check_night(table, **facts))

    def failing(changed_table, **changes):
        checks = check_night(changed_table, **{**facts, **changes})
        return {check.name for check in checks if not check.is_passed}

    assert failing(table.head(-1)) == {"each_due_customer_once"}
    assert failing(pl.concat([table, table.head(1)])) == {"each_due_customer_once"}
    assert failing(table, expected_cost=night.budget + 1) == {"expected_cost_within_budget"}
    over = night.limits.with_columns(expected=pl.col("bound") + 1)
    assert failing(table, limits=over) == {"expected_use_within_limits"}
    assert failing(table, policy_version="7") == {"known_versions"}
    # Whatever the features say: what was delivered decides.
    closed = facts["open_channels"].with_columns(contactable_channels=pl.lit(""))
    assert failing(table, open_channels=closed) == {"no_ineligible_pair"}
    assert failing(table, open_channels=closed.head(0)) == {"no_ineligible_pair"}
    halved = table.with_columns(pl.col("eligible_propensities").list.eval(pl.element() / 2))
    assert failing(halved) == {"propensities_are_distributions"}


def test_holdout_gets_no_row_and_a_table_of_its_own(night):
    held = set(night.holdout["customer_id"])
    assert held
    assert not held & set(night.assignments["customer_id"])
    assert night.holdout.height + night.assignments.height == _features().height


def test_the_same_inputs_give_the_same_table_in_any_order(candidate, night):
    shuffled = _features().sample(fraction=1.0, shuffle=True, seed=3)
    assert _decide(candidate, shuffled).assignments.equals(night.assignments)


def test_another_customer_changes_nobody_elses_draw():
    # Exploration alone, so no price moves: the draw is the only thing left.
    policy = ExplorationOnly(ACTIONS, 0.02, 50.0, EVENLY)
    features = _features(n=1_000)
    alone = _decide(policy, features.head(999)).assignments
    joined = _decide(policy, features).assignments
    both = alone.join(joined, on="customer_id", suffix="_joined")
    assert both.height == alone.height
    assert (both["action_id"] == both["action_id_joined"]).all()


@pytest.mark.parametrize("n", [60_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_actions_follow_the_emitted_propensities(candidate, n):
    table = _decide(candidate, _features(seed=21, n=n)).assignments
    assert table["eligible_propensities"].list.min().min() >= PROGRAMME.propensity_floor - 1e-12
    expected = (
        table.explode("eligible_actions", "eligible_propensities")
        .group_by("eligible_actions")
        .agg(pl.col("eligible_propensities").sum())
    )
    seen = dict(table["action_id"].value_counts().iter_rows())
    names = expected["eligible_actions"].to_list()
    chi = stats.chisquare(
        [seen.get(name, 0) for name in names], expected["eligible_propensities"].to_numpy()
    )
    assert chi.pvalue > 0.001


def test_emitted_propensity_is_the_vectors_entry(night):
    table = night.assignments
    taken = table.explode("eligible_actions", "eligible_propensities").filter(
        pl.col("eligible_actions") == pl.col("action_id")
    )
    assert (taken["eligible_propensities"] == taken["propensity"]).all()
    assert table["propensity"].min() >= PROGRAMME.propensity_floor - 1e-12


def test_tonights_table_satisfies_the_contract_of_tomorrows_log(night):
    log = to_contract(night.assignments, PROGRAMME).with_columns(
        source_file=pl.lit("x"), row_number=pl.int_range(pl.len())
    )
    valid, failure = CONTRACT["assignments"].filter(log)
    assert valid.height == night.assignments.height, failure.counts()


def test_an_offer_that_left_the_catalogue_is_not_made(candidate):
    gone = ACTIONS.action_ids[1]
    smaller = read_actions(CONFIG.offers_frame().filter(pl.col("action_id") != gone))
    table = _decide(candidate, _features(), catalogue=smaller).assignments
    assert gone not in set(table["action_id"])
    assert gone not in set(table["eligible_actions"].explode())


def test_without_a_champion_the_night_explores(candidate):
    policy = ExplorationOnly(ACTIONS, 0.02, 0.6, EVENLY)
    table = _decide(policy, _features(), policy_version="none").assignments
    assert set(table["arm"]) == {"exploration_only"}
    assert table["is_exploration"].all()


def test_reason_codes_say_why(night):
    table = night.assignments
    offered = table.filter(~pl.col("is_exploration") & (pl.col("action_id") != "no_offer"))
    assert set(offered["reason_code"]) == {"best_offer"}
    assert (offered["expected_value_effect"] > offered["expected_cost_effect"]).all()
    explored = table.filter(pl.col("is_exploration"))
    assert set(explored["reason_code"]) == {"exploration"}
    assert np.isclose(explored["propensity"], PROGRAMME.propensity_floor).all()


def test_another_feature_encoding_is_refused(candidate):
    with pytest.raises(ContractError, match="train and promote anew"):
        _decide(replace(candidate, schema_hash="another"), _features())


def test_the_champion_decides_on_after_an_attribute_was_added_or_dropped(candidate, night):
    more = replace(
        PROGRAMME, attributes=(*PROGRAMME.attributes, Attribute(name="x", kind="number"))
    )
    fewer = replace(PROGRAMME, attributes=PROGRAMME.attributes[1:])
    for changed in (more, fewer):
        table = _decide(candidate, _features(), programme=changed).assignments
        assert table.equals(night.assignments)


def test_a_night_with_nobody_due_is_an_empty_table(candidate, rule):
    nobody = _features().with_columns(is_due=pl.lit(False))
    for policy in (candidate, rule):
        empty = _decide(policy, nobody)
        assert empty.assignments.is_empty()
        assert empty.expected_cost == 0


def test_tonights_channels_are_the_catalogues(candidate):
    moved = CONFIG.offers_frame().with_columns(
        channel=pl.when(pl.col("channel") == "email").then(pl.lit("post")).otherwise("channel")
    )
    table = _decide(candidate, _features(), catalogue=read_actions(moved)).assignments
    assert set(table["action_id"]) == {"no_offer"}


def test_a_challenger_decides_its_share_and_propensities_are_the_mixtures(candidate, rule):
    features = _features(seed=22, n=30_000)
    night = _decide(candidate, features, challenger=Challenger(rule, "6"))
    table = night.assignments
    share = PROGRAMME.challenger_share
    is_second = table["arm"] == "challenger"
    assert is_second.mean() == pytest.approx(share, abs=4 * np.sqrt(share / table.height))
    assert set(table["challenger_version"]) == {"6"}
    assert set(table["policy_version"]) == {"2"}
    mixed = (1 - share) * table["champion_propensity"] + share * table["challenger_propensity"]
    assert np.allclose(mixed, table["propensity"], rtol=0, atol=1e-12)
    assert night.expected_cost <= night.budget
    # Within an arm, offers go out as often as that arm's policy says.
    for arm, column in (
        ("champion", "champion_propensity"),
        ("challenger", "challenger_propensity"),
    ):
        own = table.filter(pl.col("arm") == arm)
        assert (1 / own[column]).mean() == pytest.approx(
            own["eligible_actions"].list.len().mean(), rel=0.1
        )
    alone = _decide(candidate, features).assignments
    assert (
        (alone["propensity"] == table["champion_propensity"])
        .filter(alone["action_id"] == table["action_id"])
        .all()
    )
    assert alone["challenger_version"].null_count() == alone.height


def test_a_challenger_that_cannot_decide_tonight_leaves_the_night_to_the_champion(candidate, rule):
    stranger = replace(rule.actions, action_ids=("no_offer", *"abcdefghi"))
    night = _decide(
        candidate, _features(), challenger=Challenger(replace(rule, actions=stranger), "6")
    )
    assert set(night.assignments["arm"]) == {"champion"}
    (note,) = night.notes
    assert "no challenger tonight: version 6" in note


def test_a_frozen_night_sends_nobody_anything():
    night = _decide(NoOffers(ACTIONS), _features(), policy_version="none")
    table = night.assignments
    assert set(table["action_id"]) == {"no_offer"}
    assert set(table["propensity"]) == {1.0}
    assert set(table["arm"]) == set(table["reason_code"]) == {"frozen"}
    assert not table["is_exploration"].any()
    assert night.expected_cost == 0
