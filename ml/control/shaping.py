"""Rewards shaped by a potential: learning sees progress sooner, the best policy stays the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ml.core.journeys import Environment, Outcome, Situation

Potential = Callable[[np.ndarray], np.ndarray]


@dataclass
class ShapedEnvironment:
    """Another environment whose reward is r + discount Phi(s') - Phi(s) (Ng et al. 1999).

    Phi of an end is 0, so that a journey's shaped rewards sum to its own less Phi of its beginning,
    whatever is done. ``potential`` maps states (n, F) to (n,), currency.
    """

    inner: Environment
    potential: Potential
    discount: float

    def __post_init__(self) -> None:
        """Take the inner environment's sizes over."""
        self.n_features = self.inner.n_features
        self.n_actions = self.inner.n_actions
        self.n_steps = self.inner.n_steps

    def begin(self, seed: int) -> Situation:
        """Begin the inner journeys."""
        now = self.inner.begin(seed)
        self._before = self.potential(now.state)
        return now

    def step(self, action: np.ndarray) -> Outcome:
        """Live an inner step."""
        came = self.inner.step(action)
        after = np.where(came.is_over, 0.0, self.potential(came.then.state))
        shaped = came.reward + self.discount * after - self._before
        self._before = after
        return replace(came, reward=shaped)
