"""The counterfactual adapter: what an action adds, the state held fixed.

Toggling the action in a network of (state, action) extrapolates where the log has no overlap, and
is biased where the network is. Here the network is a nuisance alone: effects come from an
orthogonal regression of residuals on residuals (Nie and Wager 2021), linear in the state and in the
outcome's own log-odds on the scale of log-odds, and are refused where the log does not identify
them.
"""

from dataclasses import dataclass

import numpy as np

from ml.core.errors import ModelError, SupportError

_FOLDS = 10
_PENALTIES = 10.0 ** np.arange(-1, 6.1, 0.5)
_LEAST_SPREAD = 0.25
_CLOSEST = 1e-4


@dataclass(frozen=True)
class Logged:
    """What the orthogonal regression needs of every row, shape (n,) each.

    ``outcome``, 0 or 1 if ``is_binary``, and what was ``expected`` of it given the state, whatever
    the action; ``action``, 0 or 1, and its ``propensity``; ``customer`` whose row.
    """

    outcome: np.ndarray
    expected: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    customer: np.ndarray
    is_binary: bool = True


@dataclass(frozen=True)
class CounterfactualAdapter:
    """Effects of one action: slope (constant + base log-odds + (x - mean) / scale . coefficients).

    ``slope`` is p (1 - p) of a binary outcome's expectation p: how far a step of log-odds moves it.
    Of a number it is 1, and ``base`` 0.
    """

    constant: float
    base: float
    coefficients: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    penalty: float
    is_binary: bool

    def predict(self, state: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return the effect of each row, a difference of expectations.

        Parameters
        ----------
        state : shape (n, d)
            As fitted.
        expected : shape (n,)
            Of the outcome, whatever the action.

        Returns
        -------
        np.ndarray
            Shape (n,).
        """
        slope, odds = _read_scale(expected, self.is_binary)
        centred = (state - self.mean) / self.scale
        return np.asarray(slope * (self.constant + self.base * odds + centred @ self.coefficients))


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
    state: np.ndarray, logged: Logged, *, floor: float, action: str = "the action"
) -> CounterfactualAdapter:
    """Fit the effect of an action by ridge regression of residuals on residuals.

    Minimises sum_i v_i^-1 [ (y - m)_i - (a - e)_i v_i (c + d l_i + x_i . b) ]^2 + penalty |b|^2
    with v = m (1 - m) and l the log-odds of m: an R-learner whose effect is linear on the scale of
    log-odds. Constant and base are not shrunken. Of a grid of penalties it takes the largest whose
    loss over folds of customers is within a standard error of the least (Breiman et al. 1984).

    Parameters
    ----------
    state : shape (n, d)
        What effects may depend on.
    logged
        With expectations of models that didn't see the row's customer.
    floor, action
        As for ``guard_identification``.

    Returns
    -------
    CounterfactualAdapter
        Constant on the scale of log-odds where nothing clearly beats it.

    Raises
    ------
    SupportError
        As ``guard_identification``.
    ModelError
        If there are fewer customers than folds.
    """
    guard_identification(logged.propensity, floor=floor, action=action)
    customers = np.unique(logged.customer)
    if len(customers) < _FOLDS:
        raise ModelError(f"{len(customers)} customers are too few for {_FOLDS} folds")
    mean = state.mean(axis=0)
    scale = np.maximum(state.std(axis=0), _LEAST_SPREAD)
    slope, odds = _read_scale(logged.expected, logged.is_binary)
    design = np.column_stack([np.ones(len(state)), odds, (state - mean) / scale])
    # Each row's error has the variance of a coin: weighting makes them alike.
    width = np.sqrt(slope)
    weighted = design * ((logged.action - logged.propensity) * width)[:, None]
    target = (logged.outcome - logged.expected) / np.maximum(width, 1e-6)
    fold = np.random.default_rng(0).integers(_FOLDS, size=len(customers))[
        np.searchsorted(customers, logged.customer)
    ]
    grams = np.stack([weighted[fold == k].T @ weighted[fold == k] for k in range(_FOLDS)])
    sums = np.stack([weighted[fold == k].T @ target[fold == k] for k in range(_FOLDS)])
    candidates = [*((penalty, logged.is_binary) for penalty in _PENALTIES)]
    candidates += [(np.inf, logged.is_binary), (np.inf, False)]
    losses = np.zeros((_FOLDS, len(candidates)))
    for k in range(_FOLDS):
        gram, total = grams.sum(axis=0) - grams[k], sums.sum(axis=0) - sums[k]
        for place, (penalty, has_base) in enumerate(candidates):
            found = _solve(gram, total, penalty, has_base)
            losses[k, place] = found @ grams[k] @ found - 2 * found @ sums[k]
    penalty, has_base = candidates[_pick_simplest(losses)]
    found = _solve(grams.sum(axis=0), sums.sum(axis=0), penalty, has_base)
    return CounterfactualAdapter(
        float(found[0]), float(found[1]), found[2:], mean, scale, float(penalty), logged.is_binary
    )


def _read_scale(expected: np.ndarray, is_binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a step of log-odds moves each row, and the log-odds; of numbers 1 and 0."""
    if not is_binary:
        return np.ones(len(expected)), np.zeros(len(expected))
    share = np.clip(expected, _CLOSEST, 1 - _CLOSEST)
    return share * (1 - share), np.log(share / (1 - share))


def _pick_simplest(losses: np.ndarray) -> int:
    """Return the last candidate that is within a standard error of the best, folds paired."""
    excess = losses - losses[:, [int(losses.sum(axis=0).argmin())]]
    error = excess.std(axis=0, ddof=1) * np.sqrt(len(losses))
    return int(np.flatnonzero(excess.sum(axis=0) <= error)[-1])


def _solve(gram: np.ndarray, total: np.ndarray, penalty: float, has_base: bool) -> np.ndarray:
    """Return ridge coefficients: constant and base not shrunken, the rest nil if infinitely so."""
    free = [0, 1] if has_base else [0]
    kept = free if np.isinf(penalty) else [*free, *range(2, len(total))]
    shrunken = gram[np.ix_(kept, kept)]
    if not np.isinf(penalty):
        shrunken = shrunken + penalty * np.diag(np.arange(len(kept)) >= len(free))
    found = np.zeros(len(total))
    found[kept] = np.linalg.lstsq(shrunken, total[kept], rcond=None)[0]
    return found
