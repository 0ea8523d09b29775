"""What every policy is: contexts in, a distribution over actions out."""

from typing import Protocol

import numpy as np

from ml.core.contexts import Contexts
from ml.core.errors import BudgetError

FROZEN = "frozen"
"""Kind, arm and reason of decisions on nights when no policy was to decide."""


class Policy(Protocol):
    """A distribution over actions for each context."""

    @property
    def kind(self) -> str:
        """Short name of the policy's class, shown in reports."""
        ...

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return shape (n, K), rows sum to 1, 0 where an action is not eligible."""
        ...


def explore(target: np.ndarray, eligible: np.ndarray, *, floor: float) -> np.ndarray:
    """Mix a target policy with uniform exploration so that every eligible action has support.

    pi(a | x) = floor + (1 - K_x floor) target(a | x) for the K_x eligible actions of x.

    Parameters
    ----------
    target : shape (n, K), rows sum to 1
        The policy before exploration.
    eligible : shape (n, K), bool
        Which actions may be taken.
    floor
        Smallest probability of an eligible action, in [0, 1 / K].

    Returns
    -------
    np.ndarray
        Shape (n, K), rows sum to 1.

    Raises
    ------
    BudgetError
        If the floor leaves the target no probability.
    """
    counts = eligible.sum(axis=1, keepdims=True)  # (n, 1)
    if counts.size and floor * counts.max() > 1:
        raise BudgetError(
            f"propensity_floor {floor} times {int(counts.max())} eligible actions exceeds 1: "
            "lower the floor or the number of actions"
        )
    return eligible * floor + (1 - counts * floor) * target


def draw_actions(probabilities: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draw one action per row by the inverse distribution function.

    Parameters
    ----------
    probabilities : shape (n, K), rows sum to 1
        Policy of each customer.
    uniforms : shape (n,), in [0, 1)
        One draw per row.

    Returns
    -------
    np.ndarray
        Shape (n,), int; never an action of probability 0.
    """
    cumulative = probabilities.cumsum(axis=1)
    drawn = (uniforms[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    last_possible = probabilities.shape[1] - 1 - (probabilities[:, ::-1] > 0).argmax(axis=1)
    return np.minimum(drawn, last_possible)
