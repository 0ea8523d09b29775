"""Fitted propensities, for a log that lacks them: cross-fitted, calibrated, kept off 0.

They stand on the assumption that features tell everything the old rule looked at. Nothing in the
log can show that, so what is learned with them is never valued on them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from scipy import optimize

from ml.uplift.trees import BINNING

_N_FOLDS = 5
_N_TREES = 60
_SMALLEST = 0.01
_PARAMS: dict[str, object] = {
    "num_leaves": 8,
    "min_data_in_leaf": 100,
    "learning_rate": 0.1,
    "lambda_l2": 10.0,
    **BINNING,
}


@dataclass(frozen=True)
class FittedPropensities:
    """``policy``, shape (n, K): rows sum to 1; 0 where not eligible or never taken at all.

    ``log_loss`` per decision, cross-fitted, and ``constant_log_loss`` of mean shares alone:
    equal if the old rule looked at nothing that the features know. ``temperature``: what the
    log-odds are divided by; 1 if they were calibrated.
    """

    policy: np.ndarray
    log_loss: float
    constant_log_loss: float
    temperature: float


def fit_propensities(
    context: np.ndarray,
    action: np.ndarray,
    eligible: np.ndarray,
    customer: np.ndarray,
    *,
    seed: int,
) -> FittedPropensities:
    """Fit the probability of every eligible action from features, by models of other customers.

    Parameters
    ----------
    context : shape (n, d), NaN where unknown
        Features as of the decision.
    action : shape (n,), int
        Assigned.
    eligible : shape (n, K), bool
        What could have been assigned.
    customer : shape (n,), int
        Dense customer number; folds are of customers.
    seed
        Of folds and trees.

    Returns
    -------
    FittedPropensities
        One temperature calibrates all log-odds.
    """
    fold = np.random.default_rng([seed, 74]).integers(0, _N_FOLDS, int(customer.max()) + 1)
    held = fold[customer]
    present, label = np.unique(action, return_inverse=True)
    log_odds = np.full(eligible.shape, -np.inf)
    dataset = lgb.Dataset(context, params=BINNING, free_raw_data=False).construct()
    for number in range(_N_FOLDS):
        rows = held == number
        if rows.any():
            score = _fit_choice(dataset, label, eligible[:, present], ~rows, seed=seed)
            log_odds[np.ix_(rows, present)] = score(context[rows])
    shares = np.bincount(action, minlength=eligible.shape[1]) / np.maximum(eligible.sum(axis=0), 1)
    with np.errstate(divide="ignore"):
        constant = _normalise(np.broadcast_to(np.log(shares), eligible.shape), eligible)
    taken = np.arange(len(action)), action

    def lose(temperature: float) -> float:
        policy = _normalise(log_odds / temperature, eligible)
        return float(-np.log(np.maximum(policy[taken], 1e-12)).mean())

    temperature = float(optimize.minimize_scalar(lose, bounds=(0.5, 5.0), method="bounded").x)
    # What was never taken could not be drawn, whatever the log calls it.
    drawn = eligible & np.isin(np.arange(eligible.shape[1]), present)
    policy = np.where(drawn, np.maximum(_normalise(log_odds / temperature, eligible), _SMALLEST), 0)
    policy /= policy.sum(axis=1, keepdims=True)
    return FittedPropensities(
        policy=policy,
        log_loss=lose(temperature),
        constant_log_loss=float(-np.log(np.maximum(constant[taken], 1e-12)).mean()),
        temperature=temperature,
    )


def _fit_choice(
    dataset: lgb.Dataset, label: np.ndarray, eligible: np.ndarray, rows: np.ndarray, *, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the choice among eligible actions to the given rows; return what gives log-odds.

    The softmax is over each row's own eligible actions: what couldn't be chosen tells nothing.
    """
    taken = np.eye(eligible.shape[1])[label[rows]]
    possible = eligible[rows]
    shares = np.log(taken.mean(axis=0) / np.maximum(possible.mean(axis=0), 1e-9) + 1e-9)

    def choose(scores: np.ndarray, _: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
        policy = _normalise(scores.reshape(taken.shape, order="F") + shares, possible)
        slope = policy - taken * possible
        return slope, np.maximum(2 * policy * (1 - policy), 1e-6)

    part = dataset.subset(np.flatnonzero(rows)).construct()
    part.set_label(label[rows])
    params = {**_PARAMS, "objective": choose, "num_class": taken.shape[1], "seed": seed % 2**31}
    booster = lgb.train(params, part, _N_TREES)
    return lambda context: (
        shares
        + np.asarray(booster.predict(context, raw_score=True, num_threads=1)).reshape(
            len(context), -1
        )
    )


def _normalise(log_odds: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Return the softmax over eligible actions, shape (n, K)."""
    masked = np.where(eligible, log_odds, -np.inf)
    highest = masked.max(axis=1, keepdims=True)
    weight = np.where(eligible, np.exp(masked - np.where(np.isfinite(highest), highest, 0.0)), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weight, total, out=np.zeros_like(weight), where=total > 0))
