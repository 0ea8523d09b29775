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
    costs
        Maps them to what each action is expected to cost, (n, K), currency.
    budget
        Per decision, currency.
    """

    advantages: StateValues
    costs: StateValues
    budget: float

    def choose(self, now: Situation) -> np.ndarray:
        """Return probabilities, shape (n, K), of 0 and 1; expected cost is within the budget."""
        value, cost = prepare(self.advantages(now.state), self.costs(now.state))
        budget = self.budget * len(value)
        assigned = assign_actions(value, cost, now.eligible, budget=budget)
        policy = np.zeros(value.shape)
        policy[np.arange(len(policy)), assigned.chosen] = 1.0
        return policy


def find_price(
    log: Transitions, advantages: StateValues, costs: StateValues, *, budget: float
) -> float:
    """Return what the last unit of a budget per decision brings on a log's states.

    An agent that is to live under the budget learns under this price (``AgentSettings.price``).
    """
    value, cost = prepare(advantages(log.state), costs(log.state))
    cut = solve_budget(value, cost, log.eligible, budget=budget * len(value))
    return cut.shadow_price


def prepare(advantage: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return advantages and costs as the allocator wants them: 0 for no offer, costs from 0 up."""
    value, cost = advantage.astype(float), np.maximum(cost, 0.0)
    value[:, 0] = cost[:, 0] = 0.0
    return value, cost
