"""The budgeted assignment: one action per customer, most net value, expected cost in budget."""

from dataclasses import dataclass

import numpy as np

from ml.core.errors import BudgetError

_BISECTIONS = 80


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


def choose_actions(
    reward: np.ndarray, cost: np.ndarray, eligible: np.ndarray, *, price: float
) -> np.ndarray:
    """Return each customer's best action at a price of cost: argmax_a reward - price cost.

    Ties go to the lower index, so control wins where an offer brings nothing.

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
    priced = np.where(eligible, reward - price * cost, -np.inf)
    return np.asarray(priced.argmax(axis=1))


def solve_budget(
    reward: np.ndarray,
    cost: np.ndarray,
    eligible: np.ndarray,
    *,
    budget: float,
    weights: np.ndarray | None = None,
) -> BudgetCut:
    """Find the cut at which the expected cost meets the budget.

    Maximises sum_i w_i reward[i, a_i] subject to sum_i w_i cost[i, a_i] <= budget through its
    Lagrangian: spend falls in steps as the price rises, so bisection finds the step and its
    tie share. Optimal up to the customers on that one step.

    Parameters
    ----------
    reward, cost : shape (n, K), currency, cost >= 0; column 0 is 0
        What the budget is spent for, and what it pays.
    eligible : shape (n, K), bool; column 0 true
        Which actions may be taken.
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
        If the budget is negative, or an input is not finite or a cost negative.
    """
    if budget < 0:
        raise BudgetError(f"budget {budget:.2f} is negative: exploration alone costs more")
    if not (np.isfinite(reward[eligible]).all() and np.isfinite(cost[eligible]).all()):
        raise BudgetError("reward and cost of eligible actions must be finite")
    if (cost[eligible] < 0).any():
        raise BudgetError("an eligible action has a negative expected cost")
    share = np.ones(len(reward)) if weights is None else weights
    rows = np.arange(len(reward))

    def spend(price: float) -> float:
        chosen = choose_actions(reward, cost, eligible, price=price)
        return float(share @ cost[rows, chosen])

    spend_low = spend(0.0)
    if spend_low <= budget:
        return UNLIMITED
    low, high = 0.0, 1.0
    while (spend_high := spend(high)) > budget:
        low, spend_low, high = high, spend_high, 2 * high
        if high > 1e12:
            raise BudgetError("no price brings the cost within the budget")
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        spend_middle = spend(middle)
        if spend_middle > budget:
            low, spend_low = middle, spend_middle
        else:
            high, spend_high = middle, spend_middle
    tie_share = (budget - spend_high) / (spend_low - spend_high)
    return BudgetCut(low, high, float(np.clip(tie_share, 0.0, 1.0)))


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
