"""The agentic-marketing document's programme, as frozen before any agent was trained."""

import numpy as np
import pytest

from ml.core.journeys import choose_evenly, live_journeys
from ml.simulate.loyalty import ACTIONS, GOLD, RATCHET, Loyalty, LoyaltyConfig


def _gold_share(config, action, *, n_seeds=6):
    shares = []
    for seed in range(n_seeds):
        programme = Loyalty(config)
        programme.begin(seed)
        for _ in range(config.n_steps):
            programme.step(np.full(config.n_customers, action))
        shares.append((programme.tier == GOLD).mean())
    return np.mean(shares)


def test_without_messages_at_most_sixty_percent_end_gold():
    share = _gold_share(LoyaltyConfig(), 0)
    assert 0.45 < share <= 0.60
    # Where nobody drops, time alone makes most gold: what the document's 99 % may be.
    assert RATCHET.is_ratchet
    assert _gold_share(RATCHET, 0) > 0.75


def test_the_programme_is_the_documents_in_size():
    programme = Loyalty()
    now = programme.begin(1)
    assert now.state.shape == (500, 8)
    assert len(ACTIONS) == programme.n_actions == 10
    np.testing.assert_array_equal(np.bincount(programme.tier), [200, 150, 100, 50])
    log = live_journeys(Loyalty(), choose_evenly, seed=1)
    assert log.n_steps == 25_000
    assert log.is_over.sum() == 500


def test_purchases_and_money_follow_the_stated_probabilities():
    config = LoyaltyConfig(n_customers=40_000)
    programme = Loyalty(config)
    programme.begin(3)
    action = np.random.default_rng(0).integers(0, 10, config.n_customers)
    chance = programme.purchase_probability(action)
    came = programme.step(action)
    facts = programme.facts
    assert abs((facts.buys - chance).mean()) < 4 * np.sqrt((chance * (1 - chance)).mean() / 40_000)
    spent = facts.ticket * config.margin - programme.cost(action, facts.buys)
    np.testing.assert_allclose(came.reward, spent)
    assert (facts.ticket[~facts.buys] == 0).all()
    rises = (facts.next_tier > facts.tier)[facts.buys & (facts.tier == 0)].mean()
    assert rises == pytest.approx(config.tier_up[0], abs=0.02)
    falls = (facts.next_tier < facts.tier)[~facts.buys & (facts.tier == GOLD)].mean()
    assert falls == pytest.approx(config.tier_down[GOLD], abs=0.02)
    assert not ((facts.next_tier < facts.tier) & facts.buys).any()


def test_no_message_costs_nothing_and_moves_nobody():
    programme = Loyalty()
    programme.begin(2)
    nothing = np.zeros(500, dtype=int)
    assert programme.response(nothing).max() == 0
    assert programme.cost(nothing, np.ones(500, dtype=bool)).max() == 0
    for action in range(1, 10):
        more = programme.purchase_probability(np.full(500, action))
        young = programme.age < 30
        assert (more[young] > programme.purchase_probability(nothing)[young]).mean() > 0.9
