"""Fitted Q evaluation: what a policy's journeys are worth, by regression on a log of another's."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ml.core.errors import SupportError
from ml.core.journeys import Chooser, Situation, Transitions

_ROWS_AT_ONCE = 100_000
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class FittedValues:
    """Action values of a policy's journeys: linear in random Fourier features, per action.

    ``weights`` has shape (K, D); ``change`` is the last iteration's largest, over their spread.
    """

    mean: np.ndarray
    spread: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray
    weights: np.ndarray
    change: float

    def featurise(self, state: np.ndarray) -> np.ndarray:
        """Return features, shape (n, D), float32: 1, the state, and cosines of it."""
        scaled = ((state - self.mean) / self.spread).astype(np.float32)
        waves = np.cos(scaled @ self.frequencies + self.phases)
        return np.column_stack([np.ones(len(scaled), np.float32), scaled, waves])

    def value(self, state: np.ndarray) -> np.ndarray:
        """Return action values, shape (n, K), currency."""
        parts = [
            self.featurise(state[start : start + _ROWS_AT_ONCE]) @ self.weights.T
            for start in range(0, len(state), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.weights)))


def fit_values(
    log: Transitions,
    choose: Chooser,
    *,
    discount: float,
    n_waves: int = 100,
    penalty: float = 1.0,
    n_iterations: int = 200,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> FittedValues:
    """Fit a policy's action values to a log of any policy that takes its actions too.

    Q_k+1(s, a) regresses r + discount sum_b policy(b | s') Q_k(s', b) on s, a ridge per action
    (Le, Voloshin and Yue 2019). The Gram matrices are factored once.

    Parameters
    ----------
    log
        Transitions.
    choose
        The policy to be valued.
    discount
        Of the next step, below 1.
    n_waves
        Random Fourier features, of a Gaussian kernel as wide as the state has dimensions.
    penalty
        Ridge, in rows.
    n_iterations, tolerance
        At most so many; ends where no value moves by more than the tolerance x their spread.
    seed
        Of the features.

    Returns
    -------
    FittedValues
        Of a model class that no agent has.

    Raises
    ------
    SupportError
        If an action that the policy takes is hardly in the log.
    """
    n_actions = log.eligible.shape[1]
    following = choose(Situation(log.next_state, log.next_eligible))  # (m, K)
    # After its end a journey has no action, and perhaps none that would be eligible.
    following = np.where(log.is_over[:, None], 0.0, following)
    wanted = following.sum(axis=0) + choose(Situation(log.state, log.eligible)).sum(axis=0)
    taken = np.bincount(log.action, minlength=n_actions)
    rare = [
        action for action in range(n_actions) if wanted[action] > 0 and taken[action] < 10 * penalty
    ]
    if rare:
        raise SupportError(
            f"the policy takes actions {rare}, which the log holds less than {10 * penalty:.0f} "
            "times: their journeys can't be valued"
        )
    random = np.random.default_rng([seed, 21])
    spread = log.state.std(axis=0)
    n_features = log.state.shape[1]
    fitted = FittedValues(
        mean=log.state.mean(axis=0),
        spread=np.where(spread > _LEAST_SPREAD, spread, 1.0),
        frequencies=(random.standard_normal((n_features, n_waves)) / np.sqrt(n_features)).astype(
            np.float32
        ),
        phases=random.uniform(0, 2 * np.pi, n_waves).astype(np.float32),
        weights=np.zeros((n_actions, 1 + n_features + n_waves)),
        change=np.inf,
    )
    features, after = fitted.featurise(log.state), fitted.featurise(log.next_state)
    rows = [np.flatnonzero(log.action == action) for action in range(n_actions)]
    roots = []
    for own in rows:
        part = features[own].astype(float)
        roots.append(cho_factor(part.T @ part + penalty * np.eye(part.shape[1])))
    weights, change = fitted.weights, np.inf
    scale = float(log.reward.std()) / (1 - discount) or 1.0
    before = np.zeros(log.n_steps)
    for _ in range(n_iterations):
        target = log.reward + discount * before
        weights = np.stack(
            [
                cho_solve(root, features[own].T.astype(float) @ target[own])
                for root, own in zip(roots, rows, strict=True)
            ]
        )
        now = np.einsum("mk,mk->m", following, after @ weights.T)
        change = float(np.abs(now - before).max()) / scale
        before = now
        if change < tolerance:
            break
    return FittedValues(
        fitted.mean, fitted.spread, fitted.frequencies, fitted.phases, weights, change
    )
