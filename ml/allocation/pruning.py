"""Pruning: which pairs of customer and action are left out before the optimiser, and why."""

import numpy as np

from ml.core.schemas import PRUNING_REASONS


class PrunedPairs:
    """Reasons of n customers' K actions; the first one that is marked stays.

    ``codes``, shape (n, K), uint8: 0 where nothing speaks against the pair, else 1 + the reason's
    place in ``PRUNING_REASONS``. Control, column 0, is never pruned.
    """

    def __init__(self, n_customers: int, n_actions: int) -> None:
        self.codes = np.zeros((n_customers, n_actions), dtype=np.uint8)

    def mark(self, pairs: np.ndarray, reason: str) -> None:
        """Mark pairs, bool, of shape (n, K) or what broadcasts to it, that have no reason yet."""
        new = np.broadcast_to(pairs, self.codes.shape) & (self.codes == 0)
        new[:, 0] = False
        self.codes[new] = 1 + PRUNING_REASONS.index(reason)

    @property
    def is_kept(self) -> np.ndarray:
        """Which pairs are left, shape (n, K), bool."""
        return np.asarray(self.codes == 0)


def prune_by_economics(
    pruned: PrunedPairs,
    *,
    value_bound: np.ndarray,
    value_effect: np.ndarray,
    cost_effect: np.ndarray,
    supported: np.ndarray,
    reward: np.ndarray,
    least_reward: float,
    most_cost_per_value: float | None,
) -> None:
    """Mark the pairs that an uplift policy has no reason to give.

    Parameters
    ----------
    pruned
        Marked in place; what is marked already keeps its reason.
    value_bound : shape (n, K), currency
        Lower bound of the value effect, or the effect itself.
    value_effect, cost_effect : shape (n, K), currency
        Expected.
    supported : shape (n, K), bool
        Whether the log has enough of the action.
    reward : shape (n, K), currency
        What the budget would be spent for; only above 0 is it spent.
    least_reward
        Below it offers would go to more customers than the log ever sent to.
    most_cost_per_value
        Guardrail on cost per unit of incremental value; None: none.
    """
    pruned.mark(~supported, "thin_support")
    pruned.mark(~(value_bound > 0), "value_not_positive")
    if most_cost_per_value is not None:
        pruned.mark(cost_effect > most_cost_per_value * value_effect, "too_dear")
    pruned.mark(~(reward > 0), "does_not_pay")
    pruned.mark(~(reward > least_reward), "log_supports_fewer")
