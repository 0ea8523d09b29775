"""The bakery as an environment: the world's own dynamics, and nothing latent in the state."""

import numpy as np
import pytest

from ml.core.journeys import choose_evenly, live_journeys
from ml.simulate.journeys import FEATURES, BakeryJourneys
from ml.simulate.worlds import BAKERY

N = 3_000


@pytest.fixture(scope="module")
def bakery():
    return BakeryJourneys(BAKERY, n_customers=N, n_steps=8)


def _live(bakery, action, *, seed=1, weeks=8):
    now = bakery.begin(seed)
    rewards, out = [], []
    for _ in range(weeks):
        chosen = np.where(now.eligible[:, action], action, 0)
        came = bakery.step(chosen)
        rewards.append(came.reward)
        out.append(bakery.facts)
        now = came.then
    return np.array(rewards), out, now


def test_the_same_seed_is_the_same_journey_whatever_was_lived_before(bakery):
    first, _, then = _live(bakery, 0)
    _live(bakery, 3, seed=2)
    again, _, after = _live(bakery, 0)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(then.state, after.state)


def test_actions_that_differ_meet_the_same_luck(bakery):
    deepest = bakery.world.actions.action_ids.index("email_coupon_5")
    nothing, _, _ = _live(bakery, 0, weeks=1)
    coupon, facts, _ = _live(bakery, deepest, weeks=1)
    reached = facts[0].is_sent
    # Who got nothing lived the same week.
    np.testing.assert_array_equal(nothing[0][~reached], coupon[0][~reached])
    assert 0.85 < reached.mean() < 0.97


def test_coupons_bring_purchases_and_messages_wear_out(bakery):
    deepest = bakery.world.actions.action_ids.index("email_coupon_5")
    _, quiet, _ = _live(bakery, 0)
    _, loud, then = _live(bakery, deepest)
    more = [b.purchases.mean() - a.purchases.mean() for a, b in zip(quiet, loud, strict=True)]
    assert more[0] > 0.1
    # Fatigue: the eighth coupon in a row brings less than the first.
    assert np.mean(more[5:]) < 0.8 * more[0]
    assert sum(week.opted_out.max() >= 0 for week in loud) > 0
    closed = then.state[:, FEATURES.index("is_closed_email")] > 0
    assert closed.any()
    assert not then.eligible[closed][:, deepest].any()


def test_the_state_is_what_a_company_sees(bakery):
    now = bakery.begin(4)
    assert now.state.shape == (N, len(FEATURES)) == (N, bakery.n_features)
    assert np.isfinite(now.state).all()
    assert now.eligible[:, 0].all()
    deepest = bakery.world.actions.action_ids.index("email_coupon_5")
    came = bakery.step(np.where(now.eligible[:, deepest], deepest, 0))
    sent = bakery.facts.is_sent
    exposure = came.then.state[:, FEATURES.index("exposure_email")]
    np.testing.assert_array_equal(exposure, sent.astype(np.float32))
    np.testing.assert_array_equal(came.then.state[:, FEATURES.index("discounts")], 5.0 * sent)
    bought = bakery.facts.purchases > 0
    assert (came.then.state[bought, FEATURES.index("weeks_since_purchase")] == 0).all()
    assert (came.then.state[~bought, FEATURES.index("weeks_since_purchase")] >= 1).all()
    tiers = came.then.state[:, [FEATURES.index(f"is_{t}") for t in ("none", "gold")]]
    np.testing.assert_array_equal(tiers[:, 1] == 1, bakery.facts.next_tier == 3)


def test_a_log_of_the_experiment_is_lived_week_by_week(bakery):
    log = live_journeys(bakery, choose_evenly, seed=5)
    assert log.n_steps == 8 * N
    assert log.eligible[np.arange(log.n_steps), log.action].all()
    np.testing.assert_allclose(log.propensity, 1 / log.eligible.sum(axis=1))
    assert not log.is_over.any()
