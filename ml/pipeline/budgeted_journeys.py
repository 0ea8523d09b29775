"""Action values under a budget: at every step the knapsack that Decide solves every night."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ml.allocation.budget import assign_actions, solve_budget
from ml.core.journeys import Situation, Transitions

StateValues = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class BudgetedChooser:
    """A policy that takes, among all customers of a step, what is worth most within a budget.

    Attributes
    ----------
    advantages
        Maps states (n, F) to what each action adds over no offer, (n, K), currency: of the next
        step for a myopic policy, of all that follow for an agent.
    price
        Which the advantages hold against cost, an agent's ``AgentSettings.price``: this step's is
        given back, as the budget itself pays for it.
    costs
        Maps them to what a step is expected to cost with each action, (n, K), currency: without
        an offer too, where earlier ones may still be redeemed.
    budget
        Per decision, currency; what is due without any offer is paid first.
    """

    advantages: StateValues
    costs: StateValues
    budget: float
    price: float = 0.0

    def choose(self, now: Situation) -> np.ndarray:
        """Return probabilities, shape (n, K), of 0 and 1; expected cost is within the budget."""
        value, cost, due = _prepare(self.advantages(now.state), self.costs(now.state))
        value = value + self.price * cost
        budget = max(0.0, self.budget * len(value) - due)
        assigned = assign_actions(value, cost, now.eligible, budget=budget)
        policy = np.zeros(value.shape)
        policy[np.arange(len(policy)), assigned.chosen] = 1.0
        return policy


def find_price(
    log: Transitions, advantages: StateValues, costs: StateValues, *, budget: float
) -> float:
    """Return the shadow price of a budget: what its last unit brings on a log's states.

    An agent that is to live under the budget learns under this price (``AgentSettings.price``).

    Parameters
    ----------
    log
        Whose states and eligible actions count.
    advantages, costs, budget
        As for ``BudgetedChooser``.

    Returns
    -------
    float
        Reward per unit of cost; 0 where the budget suffices.
    """
    value, cost, due = _prepare(advantages(log.state), costs(log.state))
    left = max(0.0, budget * len(value) - due)
    return solve_budget(value, cost, log.eligible, budget=left).shadow_price


def _prepare(advantage: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return advantages, added costs from 0 up, (n, K), and what is due without any offer."""
    value = advantage.astype(float)
    value[:, 0] = 0.0
    due = np.maximum(cost[:, :1], 0.0)
    return value, np.maximum(cost - due, 0.0), float(due.sum())
