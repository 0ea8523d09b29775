"""The counterfactual adapter: what an action adds, the state held fixed.

Toggling the action in a network of (state, action) extrapolates where the log has no overlap, and
is biased where the network is. Here the network is a nuisance alone: effects come from an
orthogonal regression of residuals on residuals (Nie and Wager 2021), linear in the state on the
scale of log-odds, and are refused where the log does not identify them.
"""

from dataclasses import dataclass

import numpy as np

from ml.core.errors import ModelError, SupportError

_FOLDS = 5
_PENALTIES = 10.0 ** np.arange(-1, 6)
_LEAST_SPREAD = 0.25


@dataclass(frozen=True)
class Residuals:
    """What the orthogonal regression needs of every row, shape (n,) each.

    ``outcome`` less its expectation given the state; ``action``, 0 or 1, less its ``propensity``;
    ``slope`` is how much a probability moves with its log-odds, p (1 - p), 1 for a number;
    ``customer`` whose row.
    """

    outcome: np.ndarray
    action: np.ndarray
    slope: np.ndarray
    customer: np.ndarray


@dataclass(frozen=True)
class CounterfactualAdapter:
    """Effects of one action: slope(x) (constant + (x - mean) / scale . coefficients)."""

    constant: float
    coefficients: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    penalty: float

    def predict(self, state: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Return the effect of each row, a difference of expectations.

        Parameters
        ----------
        state : shape (n, d)
            As fitted.
        slope : shape (n,)
            p (1 - p) of the outcome without regard to the action; 1 for a number.

        Returns
        -------
        np.ndarray
            Shape (n,).
        """
        centred = (state - self.mean) / self.scale
        return np.asarray(slope * (self.constant + centred @ self.coefficients))


def guard_identification(propensity: np.ndarray, *, floor: float, action: str) -> None:
    """Refuse an action that the log does not vary.

    Parameters
    ----------
    propensity : shape (n,)
        Of the action, given all that the state says.
    floor
        Smallest probability, of the action and of its absence, at which effects are estimated.
    action
        Its name.

    Raises
    ------
    SupportError
        If it was certain or impossible for any row, or less likely than the floor.
    """
    low, high = float(propensity.min()), float(propensity.max())
    certain = float(((propensity <= 0) | (propensity >= 1)).mean())
    if certain > 0:
        raise SupportError(
            f"{action}: certain or impossible for {certain:.1%} of the rows, so what it adds there "
            "can't be known from the log; randomise it, or leave those rows out"
        )
    if low < floor or high > 1 - floor:
        raise SupportError(
            f"{action}: propensities from {low:.4f} to {high:.4f}, beyond the floor {floor}; raise "
            "exploration, or leave those rows out"
        )


def fit_counterfactual(
    state: np.ndarray,
    residuals: Residuals,
    propensity: np.ndarray,
    *,
    floor: float,
    action: str = "the action",
) -> CounterfactualAdapter:
    """Fit the effect of an action by ridge regression of residuals on residuals.

    Minimises sum_i v_i^-1 [ (y - m)_i - (a - e)_i v_i (c + x_i . b) ]^2 + penalty |b|^2 with v the
    slope: an R-learner whose effect is linear on the scale of log-odds. The constant is not
    shrunken; the penalty is the best of a grid over folds of customers.

    Parameters
    ----------
    state : shape (n, d)
        What effects may depend on.
    residuals
        Of models that didn't see the row's customer.
    propensity : shape (n,)
        Of the action.
    floor, action
        As for ``guard_identification``.

    Returns
    -------
    CounterfactualAdapter
        Constant on the log-odds scale where no penalty beats it.

    Raises
    ------
    SupportError
        As ``guard_identification``.
    ModelError
        If there are fewer customers than folds.
    """
    guard_identification(propensity, floor=floor, action=action)
    customers = np.unique(residuals.customer)
    if len(customers) < _FOLDS:
        raise ModelError(f"{len(customers)} customers are too few for {_FOLDS} folds")
    mean = state.mean(axis=0)
    scale = np.maximum(state.std(axis=0), _LEAST_SPREAD)
    design = np.column_stack([np.ones(len(state)), (state - mean) / scale])
    # Each row's error has the variance of a coin: weighting makes them alike.
    width = np.sqrt(residuals.slope)
    weighted = design * (residuals.action * width)[:, None]
    target = residuals.outcome / np.maximum(width, 1e-6)
    fold = np.random.default_rng(0).integers(_FOLDS, size=len(customers))[
        np.searchsorted(customers, residuals.customer)
    ]
    grams = np.stack([weighted[fold == k].T @ weighted[fold == k] for k in range(_FOLDS)])
    sums = np.stack([weighted[fold == k].T @ target[fold == k] for k in range(_FOLDS)])
    losses = np.zeros(len(_PENALTIES) + 1)
    for k in range(_FOLDS):
        gram, total = grams.sum(axis=0) - grams[k], sums.sum(axis=0) - sums[k]
        for place, penalty in enumerate((*_PENALTIES, np.inf)):
            found = _solve(gram, total, penalty)
            losses[place] += found @ grams[k] @ found - 2 * found @ sums[k]
    penalty = float((*_PENALTIES, np.inf)[int(losses.argmin())])
    found = _solve(grams.sum(axis=0), sums.sum(axis=0), penalty)
    return CounterfactualAdapter(float(found[0]), found[1:], mean, scale, penalty)


def _solve(gram: np.ndarray, total: np.ndarray, penalty: float) -> np.ndarray:
    """Return ridge coefficients, the first not shrunken; infinite: the first alone."""
    if np.isinf(penalty):
        found = np.zeros(len(total))
        found[0] = total[0] / gram[0, 0]
        return found
    shrunken = gram + penalty * np.diag(np.arange(len(total)) > 0)
    return np.asarray(np.linalg.lstsq(shrunken, total, rcond=None)[0])
