"""Exploring is skewed to what is cheap and good, within bounds, and estimates stay right."""

from dataclasses import replace

import numpy as np
import pytest
from known_log import ACTIONS, EVENLY, PROGRAMME, make_rows

from ml.core.contexts import build_contexts
from ml.ope.estimators import contrast_actions
from ml.pipeline.exploration import MOST_OFTEN, weigh_offers
from ml.pipeline.policies import ExplorationOnly
from ml.pipeline.snapshots import take_snapshot

COST = ACTIONS.face_values + ACTIONS.message_costs


def test_cheap_offers_are_tried_more_often_and_none_is_starved():
    weights = weigh_offers(ACTIONS, None)
    assert weights[0] == 0
    order = np.argsort(COST[1:])
    assert (np.diff(weights[1:][order]) <= 1e-12).all()
    assert 1 < weights[1:].max() / weights[1:].min() <= MOST_OFTEN
    free = replace(ACTIONS, face_values=0 * COST, message_costs=0 * COST)
    assert (weigh_offers(free, None)[1:] == 1).all()


def test_what_looks_good_is_tried_more_often(snapshot):
    before, after = weigh_offers(ACTIONS, None), weigh_offers(ACTIONS, snapshot.everything)
    good, idle = (ACTIONS.action_ids.index(f"email_coupon_{each}") for each in (2, 5))
    assert after[good] / after[idle] > before[good] / before[idle]
    assert after[1:].max() / after[1:].min() <= MOST_OFTEN + 1e-12
    few = snapshot.everything.take(np.arange(20))
    assert weigh_offers(ACTIONS, few) == pytest.approx(before)


def test_the_skew_is_in_the_propensities_and_estimates_correct_for_it():
    rows, _ = make_rows(5, n=30_000)
    contexts = build_contexts(rows, programme=PROGRAMME, actions=ACTIONS)
    weights = weigh_offers(ACTIONS, None)
    policy = ExplorationOnly(ACTIONS, 0.02, 50.0, weights).probabilities(contexts)
    evenly = ExplorationOnly(ACTIONS, 0.02, 50.0, EVENLY).probabilities(contexts)
    assert policy.sum(axis=1) == pytest.approx(1)
    assert policy[:, 0] == pytest.approx(evenly[:, 0])
    assert (policy[~contexts.eligible] == 0).all()
    # Data of the skewed policy cost less.
    assert (policy * COST).sum() < 0.9 * (evenly * COST).sum()
    random = np.random.default_rng(6)
    drawn = (random.random((len(policy), 1)) > policy.cumsum(axis=1)).sum(axis=1).clip(0, 9)
    age = contexts.context[:, contexts.feature_names.index("age")]
    coupon = ACTIONS.action_ids.index("email_coupon_5")
    value = age / 10 + 1.5 * (drawn == coupon) + random.normal(size=len(policy))
    propensity = policy[np.arange(len(policy)), drawn]
    estimate = contrast_actions(value, drawn, propensity, chosen=coupon, against=0).mean()
    assert estimate == pytest.approx(1.5, abs=0.2)


def test_the_snapshot_of_a_first_week_serves():
    rows, _ = make_rows(3, n=500)
    logged = take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS).everything
    assert np.isfinite(weigh_offers(ACTIONS, logged)).all()
