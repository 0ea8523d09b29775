import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.allocation import best_assignment_value, solve_linear_programme

from ml.allocation import budget as budget_module
from ml.allocation.budget import (
    UNLIMITED,
    assign_actions,
    choose_actions,
    cut_probabilities,
    exploration_cost,
    reserve_for_chance,
    solve_budget,
)
from ml.core.errors import BudgetError


def _problem(seed, n=6, k=3):
    random = np.random.default_rng(seed)
    reward = random.normal(0.5, 1, (n, k)).round(2)
    cost = random.exponential(1, (n, k)).round(1)
    eligible = random.random((n, k)) < 0.8
    reward[:, 0], cost[:, 0], eligible[:, 0] = 0, 0, True
    return reward, cost, eligible


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1.2))
def test_the_cut_meets_the_budget_and_loses_at_most_one_customer(seed, share):
    reward, cost, eligible = _problem(seed)
    rows = np.arange(len(reward))
    greedy = choose_actions(reward, cost, eligible, price=0.0)
    budget = share * cost[rows, greedy].sum()
    cut = solve_budget(reward, cost, eligible, budget=budget)
    policy = cut_probabilities(reward, cost, eligible, cut=cut)
    assert policy.sum(axis=1) == pytest.approx(1)
    assert (policy[~eligible] == 0).all()
    assert (policy * cost).sum() <= budget + 1e-9
    # The fractional policy is the linear programme's optimum: no integer assignment beats it.
    best = best_assignment_value(reward, cost, eligible, budget)
    assert (policy * reward).sum() >= best - 1e-6


def _degenerate(seed, n=8, k=4):
    """Zero and negative costs, ties, equal efficiencies, rows without any offer."""
    random = np.random.default_rng(seed)
    reward = random.integers(-2, 4, (n, k)) / 2
    cost = random.integers(-1, 4, (n, k)) / 2
    if seed % 3 == 0:
        reward = cost * random.choice([0.5, 1.0, 2.0], (n, 1))
    eligible = random.random((n, k)) < 0.7
    if seed % 5 == 0:
        eligible[: n // 2] = False
    reward[:, 0], cost[:, 0], eligible[:, 0] = 0, 0, True
    return reward, cost, eligible


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.one_of(st.just(0.0), st.floats(0, 1.2), st.just(np.inf)),
    is_degenerate=st.booleans(),
)
def test_an_assignment_keeps_the_budget_and_comes_within_a_customer_of_the_bound(
    seed, share, is_degenerate
):
    reward, cost, eligible = (_degenerate if is_degenerate else _problem)(seed)
    most = np.where(eligible, np.abs(cost), 0).max(axis=1).sum()
    budget = share * most if np.isfinite(share) else np.inf
    found = assign_actions(reward, cost, eligible, budget=budget)
    rows = np.arange(len(reward))
    assert eligible[rows, found.chosen].all()
    assert found.cost == pytest.approx(cost[rows, found.chosen].sum(), abs=1e-9)
    assert found.reward == pytest.approx(reward[rows, found.chosen].sum(), abs=1e-9)
    assert found.cost <= budget + 1e-9
    spread = np.where(eligible, reward, 0).max(axis=1) - np.where(eligible, reward, 0).min(axis=1)
    assert found.reward >= found.bound - spread.max() - 1e-9
    assert found.bound == pytest.approx(
        solve_linear_programme(reward, cost, eligible, min(budget, 1e6)), abs=1e-6
    )
    policy = cut_probabilities(reward, cost, eligible, cut=found.cut)
    assert (policy * cost).sum() <= budget + 1e-9
    assert (policy * reward).sum() == pytest.approx(found.bound, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999, 1.0])
def test_a_price_bracketed_by_a_sample_is_the_one_of_all_customers(share):
    """Above some thousand customers only those who move near the price are sorted."""
    random = np.random.default_rng(4)
    n = 60_000
    cost = random.exponential(1, (n, 5))
    reward = cost * random.lognormal(0, 0.7, (n, 5)) - 0.3 * cost
    cost[:, 0] = reward[:, 0] = 0
    # In order of efficiency, where a sample of the first rows would be wrong.
    order = np.argsort(-(reward[:, 1] / cost[:, 1]))
    reward, cost = reward[order], cost[order]
    free = choose_actions(reward, cost, np.ones_like(cost, dtype=bool), price=0.0)
    budget = share * cost[np.arange(n), free].sum()
    found = assign_actions(reward, cost, None, budget=budget)
    assert found.cost <= budget + 1e-6
    assert found.bound - found.reward <= reward.max()
    assert share < 0.1 or found.gap < 1e-6
    price = found.cut.shadow_price
    # The dual's value at the price is a bound, and the smallest one.
    dual = {
        at: (reward - at * cost).max(axis=1).sum() + at * budget
        for at in (price, price * 1.001 + 1e-4, price * 0.999)
    }
    assert dual[price] == pytest.approx(found.bound, rel=1e-9)
    assert min(dual.values()) == pytest.approx(dual[price], rel=1e-9)


def test_no_binding_budget_means_price_zero_and_greedy_choice():
    reward, cost, eligible = _problem(3)
    cut = solve_budget(reward, cost, eligible, budget=1e9)
    assert cut == UNLIMITED
    policy = cut_probabilities(reward, cost, eligible, cut=cut)
    greedy = np.where(eligible, reward, -np.inf).argmax(axis=1)
    assert (policy.argmax(axis=1) == greedy).all()


def test_more_budget_brings_more_reward_at_a_lower_price():
    reward, cost, eligible = _problem(5, n=400)
    cuts = [solve_budget(reward, cost, eligible, budget=budget) for budget in range(0, 300, 20)]
    prices = [cut.shadow_price for cut in cuts]
    rewards = [(cut_probabilities(reward, cost, eligible, cut=cut) * reward).sum() for cut in cuts]
    assert all(np.diff(prices) <= 1e-9)
    assert all(np.diff(rewards) >= -1e-9)


def test_ties_are_shared_so_that_equal_customers_spend_the_whole_budget():
    reward = np.tile([0.0, 1.0], (10, 1))
    cost = np.tile([0.0, 2.0], (10, 1))
    eligible = np.ones((10, 2), dtype=bool)
    cut = solve_budget(reward, cost, eligible, budget=8.0)
    policy = cut_probabilities(reward, cost, eligible, cut=cut)
    assert policy[:, 1] == pytest.approx(0.4)


def test_weights_count_only_the_probability_that_the_choice_is_taken():
    reward = np.tile([0.0, 1.0], (10, 1))
    cost = np.tile([0.0, 1.0], (10, 1))
    eligible = np.ones((10, 2), dtype=bool)
    cut = solve_budget(reward, cost, eligible, budget=4.0, weights=np.full(10, 0.5))
    assert cut_probabilities(reward, cost, eligible, cut=cut)[:, 1] == pytest.approx(0.8)


def test_impossible_inputs_are_refused():
    reward, cost, eligible = _problem(1)
    with pytest.raises(BudgetError, match="negative"):
        solve_budget(reward, cost, eligible, budget=-1.0)
    with pytest.raises(BudgetError, match="finite"):
        solve_budget(np.where(eligible, np.nan, 0), cost, eligible, budget=1.0)
    with pytest.raises(BudgetError, match="even the cheapest actions cost"):
        solve_budget(reward, cost + 5, eligible, budget=1.0)


def test_exploration_cost_by_hand():
    cost = np.array([[0.0, 2.0, 3.0]])
    eligible = np.array([[True, True, False]])
    assert exploration_cost(cost, eligible, floor=0.1) == pytest.approx([0.2])


def test_the_reserve_covers_the_chance_it_is_for():
    random = np.random.default_rng(2)
    n = 600
    cost = np.column_stack([np.zeros(n), random.exponential(2, n)])
    policy = np.tile([0.7, 0.3], (n, 1))
    reserve = reserve_for_chance(policy, cost, n_solved=len(policy), n_customers=n, deviations=3.0)
    spend = (random.random((4_000, n)) < 0.3) @ cost[:, 1]
    assert (spend > (policy * cost).sum() + reserve).mean() < 0.005
    assert reserve < 4 * spend.std()


@pytest.mark.parametrize("bracket", [(1.0, 1.0), (0.01, 0.01), (30.0, 30.0), (2.0, 2.0)])
def test_a_sample_whose_prices_are_one_is_got_away_from(bracket, monkeypatch):
    random = np.random.default_rng(5)
    cost = np.column_stack([np.zeros(20_000), np.ones(20_000)])
    reward = cost * random.lognormal(0, 1, (20_000, 1))
    expected = assign_actions(reward, cost, None, budget=5_000.0)
    monkeypatch.setattr(budget_module, "_guess", lambda *_: bracket)
    found = assign_actions(reward, cost, None, budget=5_000.0)
    assert (found.chosen == expected.chosen).all()
    # Equal efficiencies: every price in the sample is the same.
    reward = cost * 2.0
    found = assign_actions(reward, cost, None, budget=5_000.0)
    assert found.cost == 5_000


def test_a_budget_that_ends_at_the_price_between_two_brackets_is_found(monkeypatch):
    """Rounding calls the step of such a price within the one bracket and within the other."""
    n_found = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        reward, cost = 3 * random.random((50, 4)), np.sort(2 * random.random((50, 4)), axis=1)
        reward[:, 0] = cost[:, 0] = 0
        masked, weights = budget_module._check(reward, cost, None, 1.0, None)
        steps = budget_module._screen(masked, cost, weights, 0.0, np.inf)
        for price in steps.price[:40]:
            below = budget_module._screen(masked, cost, weights, 0.0, price)
            above = budget_module._screen(masked, cost, weights, price, np.inf)
            ends = above.cost + above.added.sum(), below.cost
            if ends[1] - ends[0] < 1e-9:
                continue
            n_found += 1
            budget = sum(ends) / 2
            monkeypatch.setattr(budget_module, "_guess", lambda *_: (0.0, np.inf))
            expected = assign_actions(reward, cost, None, budget=budget)
            for bracket in ((0.5 * price, price), (price, 2 * price)):
                monkeypatch.setattr(budget_module, "_guess", lambda *_, at=bracket: at)
                found = assign_actions(reward, cost, None, budget=budget)
                assert (found.chosen == expected.chosen).all()
                assert found.cost <= budget
    assert n_found > 10
