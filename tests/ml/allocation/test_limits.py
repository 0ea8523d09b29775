"""Many limits: against HiGHS on small problems, and by the dual's bound on larger ones."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.allocation import solve_limited_programme

from ml.allocation import dual
from ml.allocation.budget import solve_budget
from ml.allocation.dual import solve_limits
from ml.allocation.limits import Limit, LimitedCut, Prices, limit_probabilities
from ml.allocation.rounding import assign_within_limits
from ml.core.errors import BudgetError

EVERYBODY = np.ones(1, dtype=bool)


def _problem(seed, n=12, k=4):
    random = np.random.default_rng(seed)
    if seed % 2:
        reward, cost = random.normal(0.5, 1, (n, k)), random.exponential(1, (n, k))
    else:
        # Ties, zeros, equal efficiencies.
        reward, cost = random.integers(-2, 4, (n, k)) / 2, random.integers(0, 4, (n, k)) / 2
    eligible = random.random((n, k)) < 0.8
    reward[:, 0], cost[:, 0], eligible[:, 0] = 0, 0, True
    return random, reward, cost, eligible, random.integers(0, 2, n)


def _draw_limits(random, n, k, *, has_floors):
    limits = []
    for number in range(random.integers(1, 6)):
        actions = np.append(False, random.random(k - 1) < 0.6)
        if not actions.any():
            continue
        measure = "cost" if random.random() < 0.5 else "offers"
        floor = has_floors and measure == "offers" and random.random() < 0.5
        limits.append(
            Limit(
                f"limit {number}",
                measure,
                actions,
                random.random(2) < 0.7,
                most=np.inf if floor else float(random.integers(0, n) / 2),
                least=float(random.integers(1, 3)) if floor else -np.inf,
            )
        )
    return [each for each in limits if each.segments.any()]


def _use(limit, cost, segment, policy):
    counted = np.outer(limit.segments[segment], np.ones(policy.shape[1])) * limit.actions
    return float((policy * counted * (cost if limit.measure == "cost" else 1.0)).sum())


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), has_floors=st.booleans())
def test_small_problems_meet_the_linear_programmes_optimum(seed, has_floors):
    random, reward, cost, eligible, segment = _problem(seed)
    limits = _draw_limits(random, *reward.shape, has_floors=has_floors)
    if not limits:
        return
    best = solve_limited_programme(reward, cost, eligible, limits, segment)
    if best is None:
        with pytest.raises(BudgetError, match="in conflict: limit"):
            solve_limits(reward, cost, eligible, limits, segment=segment)
        return
    cut = solve_limits(reward, cost, eligible, limits, segment=segment)
    assert cut.bound == pytest.approx(best, abs=1e-5)
    policy = limit_probabilities(reward, cost, eligible, cut=cut, segment=segment)
    assert policy.sum(axis=1) == pytest.approx(1)
    assert (policy[~eligible] == 0).all()
    assert (policy * reward).sum() == pytest.approx(best, abs=1e-5)
    for limit in limits:
        used = _use(limit, cost, segment, policy)
        assert limit.least - 1e-5 <= used <= limit.most + 1e-5
    if not has_floors:
        found = assign_within_limits(reward, cost, eligible, limits, segment=segment)
        whole = np.eye(reward.shape[1])[found.chosen]
        assert eligible[np.arange(len(reward)), found.chosen].all()
        assert all(_use(each, cost, segment, whole) <= each.most + 1e-9 for each in limits)
        assert found.reward <= best + 1e-5


@pytest.fixture
def small_stages(monkeypatch):
    """Samples, boxes within boxes and their screens, among a dozen customers."""
    for name, value in {"_FEW": 2, "_MANY": 3, "_SMALLEST_SAMPLE": 3, "_SAMPLE_STRIDE": 2}.items():
        monkeypatch.setattr(dual, name, value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), has_floors=st.booleans())
def test_boxes_within_boxes_meet_the_same_optimum(seed, has_floors, small_stages):
    random, reward, cost, eligible, segment = _problem(seed)
    limits = _draw_limits(random, *reward.shape, has_floors=has_floors)
    best = solve_limited_programme(reward, cost, eligible, limits, segment) if limits else None
    if best is None:
        return
    cut = solve_limits(reward, cost, eligible, limits, segment=segment)
    assert cut.bound == pytest.approx(best, abs=1e-5)
    assert cut.reward == pytest.approx(best, abs=1e-5)


def _large(n=60_000, k=5, seed=3):
    random = np.random.default_rng(seed)
    cost = random.exponential(1, (n, k))
    reward = cost * random.lognormal(0, 0.7, (n, k)) - 0.3 * cost
    cost[:, 0] = reward[:, 0] = 0
    free = reward.argmax(axis=1)
    return reward, cost, free, random.integers(0, 3, n)


def test_a_large_problem_keeps_every_limit_close_to_the_bound():
    reward, cost, free, segment = _large()
    n, k = reward.shape
    whole = np.ones(3, dtype=bool)
    limits = [
        Limit(
            "budget",
            "cost",
            np.append(False, np.ones(k - 1, dtype=bool)),
            whole,
            most=0.5 * cost[np.arange(n), free].sum(),
        ),
        *(
            Limit(
                f"action {action}",
                "offers",
                np.arange(k) == action,
                whole,
                most=0.5 * (free == action).sum(),
            )
            for action in range(1, k)
        ),
        Limit("floor", "offers", np.arange(k) > 0, np.arange(3) == 1, least=0.25 * n),
    ]
    found = assign_within_limits(reward, cost, None, limits, segment=segment)
    taken = np.eye(k)[found.chosen]
    for limit in limits:
        used = _use(limit, cost, segment, taken)
        assert limit.least - 1e-6 <= used <= limit.most + 1e-6
    assert 0 <= found.gap < 5e-5
    assert found.reward == pytest.approx((taken * reward).sum())
    assert found.cut.prices_of["floor, least"] > 0
    # What one more unit of budget brings: its price, by solving again.
    more = [
        Limit(**{**vars(each), "most": each.most + (500 if each.name == "budget" else 0)})
        for each in limits
    ]
    gain = solve_limits(reward, cost, None, more, segment=segment).bound - found.bound
    assert gain / 500 == pytest.approx(found.cut.prices_of["budget, most"], rel=0.02)


def test_one_budget_is_the_special_case_of_one_limit():
    reward, cost, free, _ = _large()
    n, k = reward.shape
    budget = 0.3 * cost[np.arange(n), free].sum()
    limit = Limit("budget", "cost", np.arange(k) > 0, EVERYBODY, most=budget)
    many = solve_limits(reward, cost, None, [limit])
    one = solve_budget(reward, cost, None, budget=budget)
    assert many.prices_of["budget, most"] == pytest.approx(one.shadow_price, rel=1e-3)


def test_weights_count_only_the_probability_that_the_choice_is_taken():
    reward, cost, _, _ = _large(n=3_000)
    k = reward.shape[1]
    halved = Limit("budget", "cost", np.arange(k) > 0, EVERYBODY, most=100.0)
    whole = Limit("budget", "cost", np.arange(k) > 0, EVERYBODY, most=200.0)
    half = solve_limits(reward, cost, None, [halved], weights=np.full(3_000, 0.5))
    full = solve_limits(reward, cost, None, [whole])
    assert half.bound == pytest.approx(full.bound / 2, rel=1e-6)


def test_conflicts_are_named_and_faults_refused():
    reward, cost, _, _ = _large(n=500)
    k = reward.shape[1]
    offers = np.arange(k) > 0
    few = Limit("few", "offers", offers, EVERYBODY, most=10)
    many = Limit("many", "offers", np.arange(k) == 1, EVERYBODY, least=100)
    idle = Limit("idle", "cost", offers, EVERYBODY, most=1e9)
    with pytest.raises(BudgetError, match="many, least") as caught:
        solve_limits(reward, cost, None, [few, many, idle])
    assert "idle" not in str(caught.value)
    with pytest.raises(BudgetError, match="finite"):
        solve_limits(np.full_like(reward, np.nan), cost, None, [few])
    with pytest.raises(BudgetError, match="nothing binds"):
        solve_limits(reward, cost, None, [Limit("x", "cost", offers, EVERYBODY)])


@pytest.mark.parametrize(
    "shares", [(0.1,) * 10, (0.7, 0.2, 0.1 + 4e-16), (1 / 3, 1 / 3, 1 / 3 + 2e-9)]
)
def test_what_is_sure_has_probability_one_and_not_a_digit_more(shares):
    nil = Prices(np.zeros((1, 3)), np.zeros((1, 3)))
    cut = LimitedCut((nil,) * len(shares), shares, nil, {}, 0.0, 0.0, {})
    reward = np.array([[0.0, 2.0, 1.0], [0.0, -1.0, -1.0]])
    policy = limit_probabilities(reward, np.ones((2, 3)), None, cut=cut)
    assert policy.max() == 1.0
    assert (policy == [[0, 1, 0], [1, 0, 0]]).all()
