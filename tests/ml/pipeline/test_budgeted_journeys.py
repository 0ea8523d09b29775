"""Action values under a budget: within it, and never worse than a fixed price's choice."""

from dataclasses import replace

import numpy as np
import pytest
from known_journey import Tiers
from oracles.tiers import COST

from ml.control.agent import AgentSettings
from ml.control.training import train_offline
from ml.core.journeys import Situation, choose_evenly, live_journeys
from ml.pipeline.budgeted_journeys import BudgetedChooser, find_price

BUDGET, DUE = 0.4, 0.05


@pytest.fixture(scope="module")
def many():
    """What actions of 2,000 customers add and cost, and which they may get."""
    random = np.random.default_rng(1)
    state = random.normal(size=(2_000, 4)).astype(np.float32)
    return Situation(
        state, np.column_stack([np.ones(2_000, bool), random.random((2_000, 3)) < 0.8])
    )


def _advantages(state):
    return np.column_stack([5 * np.ones(len(state)), np.exp(state[:, :3])])


def _costs(state):
    # Of earlier offers .05 is due without any; predictions may fall below it.
    return np.column_stack([np.full(len(state), DUE), state[:, :3] ** 2 - 0.1])


def test_it_spends_the_budget_on_what_is_worth_most(many):
    policy = BudgetedChooser(_advantages, _costs, BUDGET).choose(many)
    assert (policy.sum(axis=1) == 1).all()
    assert (policy[~many.eligible] == 0).all()
    cost = np.maximum(_costs(many.state) - DUE, 0)
    spent = (policy * cost).sum(axis=1).mean()
    assert BUDGET - DUE - 0.01 < spent <= BUDGET - DUE
    value = _advantages(many.state)
    value[:, 0] = 0
    # Brute force: the best of choices at one price that stay within.
    best = 0.0
    for price in np.linspace(0, 20, 400):
        score = np.where(many.eligible, value - price * cost, -np.inf)
        at_price = np.eye(4)[score.argmax(axis=1)]
        if (at_price * cost).sum(axis=1).mean() <= BUDGET - DUE:
            best = max(best, (at_price * value).sum())
    assert (policy * value).sum() >= best


def test_enough_budget_is_no_limit(many):
    policy = BudgetedChooser(_advantages, _costs, 100.0).choose(many)
    value = np.where(many.eligible, _advantages(many.state), -np.inf)
    value[:, 0] = 0
    np.testing.assert_array_equal(policy.argmax(axis=1), value.argmax(axis=1))


def test_the_price_is_what_more_budget_would_bring():
    log = live_journeys(Tiers(2_000), choose_evenly, seed=2)

    def advantages(state):
        return state @ np.array([[0, 1, 3], [0, 1, 2], [0, 1, 1.5], [0, 0.5, 0.5]])

    def costs(state):
        return np.broadcast_to([0.0, 0.5, 2.0], (len(state), 3))

    def worth(budget):
        now = Situation(log.state, log.eligible)
        policy = BudgetedChooser(advantages, costs, budget).choose(now)
        return (policy * advantages(log.state)).sum(axis=1).mean()

    price = find_price(log, advantages, costs, budget=0.7)
    assert (worth(0.71) - worth(0.7)) / 0.01 == pytest.approx(price, rel=0.02)
    assert find_price(log, advantages, costs, budget=10.0) == 0.0


def test_an_agent_that_learns_under_a_price_spends_less():
    log = live_journeys(Tiers(2_000), choose_evenly, seed=2)
    settings = AgentSettings(
        hidden=(16,), n_members=1, n_updates=400, batch_size=1_024, learning_rate=5e-3, discount=0.5
    )
    now = Situation(log.state, log.eligible)
    spent = []
    for price in (0.0, 3.0):
        chosen = train_offline(log, replace(settings, price=price)).choose(now).argmax(axis=1)
        spent.append(COST[chosen].mean())
    assert spent[1] < 0.7 * spent[0]


def test_a_price_that_the_advantages_hold_is_charged_once(many):
    price = 2.0

    def priced(state):
        return _advantages(state) - price * np.maximum(_costs(state) - DUE, 0)

    free = BudgetedChooser(_advantages, _costs, 100.0).choose(many)
    np.testing.assert_array_equal(
        BudgetedChooser(priced, _costs, 100.0, price=price).choose(many), free
    )
