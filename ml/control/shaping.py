"""Rewards shaped by a potential: learning sees progress sooner, the best policy stays the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ml.core.journeys import Environment, Outcome, Situation, Transitions, measure_spread

Potential = Callable[[np.ndarray], np.ndarray]
_CUT = 3.0


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


@dataclass(frozen=True)
class LinearPotential:
    """A potential that is linear in the state: ``weights`` (1 + F,) of 1 and of standardised ones.

    States are cut at three standard deviations, so that nothing is extrapolated far.
    """

    mean: np.ndarray
    spread: np.ndarray
    weights: np.ndarray

    def __call__(self, state: np.ndarray) -> np.ndarray:
        """Return potentials, shape (n,), currency."""
        return np.asarray(self.featurise(state) @ self.weights)

    def featurise(self, state: np.ndarray) -> np.ndarray:
        """Return 1 and the state, standardised and cut: (n, 1 + F)."""
        scaled = np.clip((state - self.mean) / self.spread, -_CUT, _CUT)
        return np.column_stack([np.ones(len(scaled)), scaled])


def fit_potential(
    log: Transitions, *, discount: float, price: float = 0.0, penalty: float = 10.0
) -> LinearPotential:
    """Fit what the log's own policy's journeys are worth from a state on, linearly.

    Least squares on temporal differences (Bradtke and Barto 1996). As a potential it takes most of
    what a state is worth, whatever is done, out of what an agent has to learn; what actions add is
    left.

    Parameters
    ----------
    log
        Transitions.
    discount, price
        As the agent's.
    penalty
        Ridge, in rows.

    Returns
    -------
    LinearPotential
        Currency.
    """
    blank = LinearPotential(
        log.state.mean(axis=0).astype(float),
        measure_spread(log.state),
        np.zeros(1 + log.state.shape[1]),
    )
    now, then = blank.featurise(log.state), blank.featurise(log.next_state)
    then[log.is_over] = 0.0
    left = now.T @ (now - discount * then) + penalty * np.eye(now.shape[1])
    weights = np.linalg.solve(left, now.T @ (log.reward - price * log.cost))
    return replace(blank, weights=weights)


def shape_log(log: Transitions, potential: Potential, *, discount: float) -> Transitions:
    """Return a log whose rewards are shaped, as ``ShapedEnvironment`` shapes them.

    An agent that learns from it has the same advantages; its values are less by the potential.
    """
    after = np.where(log.is_over, 0.0, potential(log.next_state))
    return replace(log, reward=log.reward + discount * after - potential(log.state))
