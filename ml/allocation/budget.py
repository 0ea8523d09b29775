"""The budgeted assignment: one action per customer, most net value, expected cost in budget."""

from dataclasses import dataclass

import numpy as np

from ml.allocation import kernels
from ml.core.errors import BudgetError

_SMALLEST_SAMPLE = 2_048
_SAMPLE_STRIDE = 64
_SAMPLE_DEVIATIONS = 2.0
_HIGHEST, _WIDER, _NARROWEST = 1e12, 8, 1e-3
_ROUNDING, _NEAR = 1e-13, 1e-7


@dataclass(frozen=True)
class BudgetCut:
    """Where the budget cuts: the shadow price, as the two sides of the last step.

    Between ``price_low`` (just over budget) and ``price_high`` (just within) some customers
    change their action; ``tie_share`` of that change fits, and is taken as a probability, so a
    cut is a policy that can be frozen and valued elsewhere.
    """

    price_low: float
    price_high: float
    tie_share: float

    @property
    def shadow_price(self) -> float:
        """Reward per unit of cost at the margin."""
        return self.price_high


UNLIMITED = BudgetCut(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Assignment:
    """One action for every customer within a budget, and how good that is.

    ``chosen`` has shape (n,); ``cost`` and ``reward`` are its totals, ``bound`` no assignment's
    reward exceeds, fractional ones included.
    """

    chosen: np.ndarray
    cost: float
    reward: float
    bound: float
    cut: BudgetCut

    @property
    def gap(self) -> float:
        """How far the reward may lie below the optimum, as a share of the bound."""
        return 1 - self.reward / self.bound if self.bound > 0 else 0.0


@dataclass(frozen=True)
class _Steps:
    """Between two prices, the steps to dearer actions, by falling price.

    ``chosen``, shape (n,): actions at the high price, which cost ``cost`` and earn ``reward``.
    """

    chosen: np.ndarray
    cost: float
    reward: float
    price: np.ndarray
    added: np.ndarray
    place: np.ndarray
    action: np.ndarray


def choose_actions(
    reward: np.ndarray, cost: np.ndarray, eligible: np.ndarray, *, price: float
) -> np.ndarray:
    """Return each customer's best action at a price of cost: argmax_a reward - price cost.

    Ties go to the lower index, so control wins where an offer brings nothing; at price 0 to the
    cheapest.

    Parameters
    ----------
    reward, cost : shape (n, K), currency; column 0 is control
        What the budget is spent for, and what it pays.
    eligible : shape (n, K), bool
        Which actions may be taken.
    price
        Shadow price, >= 0.

    Returns
    -------
    np.ndarray
        Shape (n,), int.
    """
    chosen = np.empty(len(reward), dtype=np.int64)
    kernels.choose(kernels.mask(reward, eligible), cost, price, chosen)
    return chosen


def solve_budget(
    reward: np.ndarray,
    cost: np.ndarray,
    eligible: np.ndarray | None,
    *,
    budget: float,
    weights: np.ndarray | None = None,
) -> BudgetCut:
    """Find the cut at which the expected cost meets the budget.

    Maximises sum_i w_i reward[i, a_i] subject to sum_i w_i cost[i, a_i] <= budget: every customer
    goes up the convex hull of their actions as the price of cost falls, and the step at which the
    budget ends is found exactly. A sample brackets the price, so that only customers who move
    within the bracket are sorted. Optimal among fractional assignments too.

    Parameters
    ----------
    reward, cost : shape (n, K), currency
        What the budget is spent for, and what it pays. Column 0, control, is 0 in both.
    eligible : shape (n, K), bool; column 0 true
        Which actions may be taken; None: all that have a reward above -inf.
    budget
        Total for these customers.
    weights : shape (n,), in [0, 1], optional
        Probability that the customer gets their chosen action (1 without exploration).

    Returns
    -------
    BudgetCut
        ``UNLIMITED`` where the best actions cost no more than the budget.

    Raises
    ------
    BudgetError
        If even the cheapest actions cost more than the budget, or an input is not a number.
    """
    reward, weights = _check(reward, cost, eligible, budget, weights)
    if not len(reward):
        return UNLIMITED
    steps = _bracket(reward, cost, weights, budget)
    return _cut(steps, reward, cost, weights, budget)


def assign_actions(
    reward: np.ndarray, cost: np.ndarray, eligible: np.ndarray | None, *, budget: float
) -> Assignment:
    """Give every customer one action within the budget, without chance.

    The steps of ``solve_budget`` are taken by falling price while they fit; what is left goes to
    later steps that still fit.

    Parameters
    ----------
    reward, cost, eligible, budget
        As for ``solve_budget``.

    Returns
    -------
    Assignment
        Never above the budget, and less than one customer's worth below the bound.

    Raises
    ------
    BudgetError
        As ``solve_budget``.
    """
    reward, weights = _check(reward, cost, eligible, budget, None)
    if not len(reward):
        return Assignment(np.zeros(0, dtype=np.int64), 0.0, 0.0, 0.0, UNLIMITED)
    steps = _bracket(reward, cost, weights, budget)
    cut = _cut(steps, reward, cost, weights, budget)
    taken = int(np.searchsorted(np.cumsum(steps.added), budget - steps.cost, side="right"))
    earned = steps.price * steps.added
    bound = steps.reward + float(earned[:taken].sum())
    if taken < len(steps.price):
        bound += float(steps.price[taken]) * (
            budget - steps.cost - float(steps.added[:taken].sum())
        )
    is_taken = np.zeros(len(steps.price), dtype=bool)
    kernels.fill(
        steps.added, steps.place, steps.action, budget - steps.cost, steps.chosen, is_taken
    )
    return Assignment(
        steps.chosen,
        steps.cost + float(steps.added[is_taken].sum()),
        steps.reward + float(earned[is_taken].sum()),
        bound,
        cut,
    )


def cut_probabilities(
    reward: np.ndarray, cost: np.ndarray, eligible: np.ndarray, *, cut: BudgetCut
) -> np.ndarray:
    """Return the policy that a cut stands for, before exploration.

    Parameters
    ----------
    reward, cost : shape (n, K), currency
        What the budget is spent for, and what it pays.
    eligible : shape (n, K), bool
        Which actions may be taken.
    cut
        From ``solve_budget``, on these or on other customers.

    Returns
    -------
    np.ndarray
        Shape (n, K), rows sum to 1; mostly 0 and 1, fractional on the cut's own step.
    """
    rows = np.arange(len(reward))
    target = np.zeros(reward.shape)
    within = choose_actions(reward, cost, eligible, price=cut.price_high)
    over = choose_actions(reward, cost, eligible, price=cut.price_low)
    target[rows, within] += 1 - cut.tie_share
    target[rows, over] += cut.tie_share
    return target


def _check(
    reward: np.ndarray,
    cost: np.ndarray,
    eligible: np.ndarray | None,
    budget: float,
    weights: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards that are -inf where an action may not be taken, and weights."""
    if not budget >= 0:
        raise BudgetError(f"budget {budget:.2f} is negative: exploration alone costs more")
    own = np.ones(1) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
    return kernels.mask(reward, eligible), own


def _bracket(reward: np.ndarray, cost: np.ndarray, weights: np.ndarray, budget: float) -> _Steps:
    """Return the steps of a bracket of prices that holds the one at which the budget ends."""
    low, high = _guess(reward, cost, weights, budget)
    has_risen = has_fallen = False
    while True:
        steps = _screen(reward, cost, weights, low, high)
        if steps.cost > budget:
            if np.isinf(high):
                raise BudgetError(
                    f"even the cheapest actions cost {steps.cost:.2f}, more than the budget "
                    f"{budget:.2f}"
                )
            # The sample was off: beside its bracket, a wider one each time. Where the budget ends
            # at the very price between two, rounding may call it beyond either: then over both.
            above = high + _WIDER * max(high - low, _NARROWEST * high)
            above = above if 0 < above < _HIGHEST else np.inf
            low, high, has_risen = low if has_fallen else high, above, True
        elif low > 0 and steps.cost + steps.added.sum() <= budget:
            below = max(0.0, low - _WIDER * max(high - low, _NARROWEST * low))
            low, high, has_fallen = below, high if has_risen else low, True
        else:
            return steps


def _guess(
    reward: np.ndarray, cost: np.ndarray, weights: np.ndarray, budget: float
) -> tuple[float, float]:
    """Return prices between which the budget ends, by a sample; it may be wrong."""
    n = len(reward)
    n_sampled = max(_SMALLEST_SAMPLE, n // _SAMPLE_STRIDE)
    if n < 4 * n_sampled:
        return 0.0, np.inf
    rows = np.random.default_rng(n).integers(n, size=n_sampled)
    own = weights if len(weights) == 1 else weights[rows]
    return guess_prices(
        reward[rows],
        cost[rows],
        budget=budget * n_sampled / n,
        deviations=_SAMPLE_DEVIATIONS,
        weights=own,
    )


def guess_prices(
    reward: np.ndarray,
    cost: np.ndarray,
    *,
    budget: float,
    deviations: float,
    weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return prices between which the budget of everybody ends, by a sample of them.

    Parameters
    ----------
    reward, cost : shape (m, K)
        Of the sample; reward -inf where an action may not be taken.
    budget
        The sample's share of the budget.
    deviations
        Standard deviations that the budget's price in the sample lies inside the bracket.
    weights : shape (m,) or (1,), optional
        As for ``solve_budget``.

    Returns
    -------
    tuple
        Wrong in one case of 22 with two deviations, in one of 370 with three.
    """
    own = np.ones(1) if weights is None else weights
    n_sampled = len(reward)
    steps = _screen(reward, cost, own, 0.0, np.inf)
    spend = steps.cost + np.cumsum(steps.added)
    chosen = steps.chosen.copy()
    reached = int(np.searchsorted(spend, budget))
    chosen[steps.place[:reached]] = steps.action[:reached]
    costs = own * cost[np.arange(n_sampled), chosen]
    reach = deviations * float(costs.std()) * np.sqrt(n_sampled)
    first, last = np.searchsorted(spend, [budget - reach, budget + reach])
    high = float(steps.price[first - 1]) if first > 0 else np.inf
    low = float(steps.price[last]) if last < len(steps.price) else 0.0
    return low, high


def _screen(
    reward: np.ndarray, cost: np.ndarray, weights: np.ndarray, low: float, high: float
) -> _Steps:
    """Return the steps between two prices; only rows that move between them are looked at twice."""
    n = len(reward)
    chosen, ends = np.empty((2, n), dtype=np.uint8)
    rows = np.empty(n, dtype=np.int32)
    n_moving, total_cost, total_reward = kernels.screen(
        reward, cost, weights, low, high, chosen, rows, ends
    )
    if n_moving < 0:
        raise BudgetError("reward and cost of eligible actions must be finite")
    rows = rows[:n_moving]
    capacity = 2 * n_moving
    while True:
        price, added = np.empty((2, capacity))
        place, action = np.empty(capacity, dtype=np.int32), np.empty(capacity, dtype=np.uint8)
        n_steps = kernels.walk(
            reward, cost, weights, rows, chosen, ends, low, price, added, place, action
        )
        if n_steps <= capacity:
            break
        capacity = n_steps
    order = kernels.order(-price[:n_steps])
    return _Steps(
        chosen, total_cost, total_reward, price[order], added[order], place[order], action[order]
    )


def _cut(
    steps: _Steps, reward: np.ndarray, cost: np.ndarray, weights: np.ndarray, budget: float
) -> BudgetCut:
    """Return the two prices around the step at which the budget ends, and what fits of it."""
    spent = steps.cost + np.cumsum(steps.added)
    taken = int(np.searchsorted(spent, budget, side="right"))
    if taken == len(steps.price):
        return UNLIMITED
    price = float(steps.price[taken])
    # Who moves near that price is asked anew: rounding moves a step by some last digits.
    first, last = np.searchsorted(-steps.price, [-price * (1 + _NEAR), -price * (1 - _NEAR)])
    rows = np.unique(steps.place[first:last])
    before = _choose_at(steps, rows, first)
    own = weights if len(weights) == 1 else weights[rows]
    near_reward, near_cost = reward[rows], cost[rows]
    place, chosen = np.arange(len(rows)), np.empty(len(rows), dtype=np.int64)
    fixed = float(spent[first - 1]) if first else steps.cost
    fixed -= float((own * near_cost[place, before]).sum())

    def spend(at: float) -> float:
        kernels.choose(near_reward, near_cost, at, chosen)
        return fixed + float((own * near_cost[place, chosen]).sum())

    width = _ROUNDING
    while True:
        low, high = price * (1 - width), price * (1 + width)
        at_low, at_high = spend(low), spend(high)
        if at_high <= budget < at_low or width > _NEAR / 32:
            break
        width *= 16
    if at_low <= budget:
        return BudgetCut(low, low, 0.0)
    return BudgetCut(low, high, max(0.0, (budget - at_high) / (at_low - at_high)))


def _choose_at(steps: _Steps, rows: np.ndarray, taken: int) -> np.ndarray:
    """Return the actions of some rows after the first so many steps."""
    chosen = steps.chosen[rows].astype(np.int64)
    is_own = np.isin(steps.place[:taken], rows)
    place = np.searchsorted(rows, steps.place[:taken][is_own])
    # Later steps of a row overwrite its earlier ones.
    chosen[place] = steps.action[:taken][is_own]
    return chosen


def exploration_cost(cost: np.ndarray, eligible: np.ndarray, *, floor: float) -> np.ndarray:
    """Return the expected cost of exploration per customer, shape (n,), currency."""
    return floor * (cost * eligible).sum(axis=1)


def reserve_for_chance(
    probabilities: np.ndarray,
    cost: np.ndarray,
    *,
    n_solved: int,
    n_customers: int,
    deviations: float,
) -> float:
    """Return how much of a budget to hold back so that chance hardly ever exceeds it.

    Two things are random: the draws of the actions, and how the customers that the price was not
    solved on differ from those it was. The reserve is ``deviations`` standard deviations of both,
    estimated on customers that it was solved on.

    Parameters
    ----------
    probabilities : shape (m, K)
        Policy of the customers that the price was solved on.
    cost : shape (m, K), currency
        Expected cost of each action.
    n_solved
        Customers of the night that the price is solved on.
    n_customers
        All customers that the night's budget is for, at least n_solved.
    deviations
        How many standard deviations; 3 leaves about one night in 700.

    Returns
    -------
    float
        Currency, for all ``n_customers``.
    """
    n_other = n_customers - n_solved
    expected = (probabilities * cost).sum(axis=1)  # (m,)
    draw_variance = float(((probabilities * cost**2).sum(axis=1) - expected**2).mean())
    spread = float(expected.var(ddof=1)) if len(expected) > 1 else 0.0
    cohort_variance = spread * n_other * (1 + n_other / n_solved)
    return deviations * float(np.sqrt(max(draw_variance, 0.0) * n_customers + cohort_variance))
