"""Convex combinations of candidates, weighted by doubly robust risk."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import nnls

from ml.uplift.selection import CONFIRMING_FOLD, N_FOLDS, Judged

STACK = "stack"
SMALLEST_WEIGHT = 0.05
_SUM_TO_ONE = 1e3

Mixture = dict[str, float]
"""Candidate to weight; positive, summing to 1."""


def stack_across(
    effects: Mapping[str, np.ndarray],
    judged: Judged,
    *,
    admitted: Mapping[str, Sequence[str]] | None = None,
) -> tuple[np.ndarray, dict[str, Mixture]]:
    """Mix candidates by lifecycle, each fold with the weights that the other folds give.

    Parameters
    ----------
    effects : name to shape (n, K)
        Of rows that their models didn't see.
    judged
        The same rows; the confirming fold gives no weights.
    admitted
        Lifecycle to the candidates that may be mixed there; None: all.

    Returns
    -------
    tuple
        Mixed effects, shape (n, K), and each lifecycle's mixture over all tuning folds.
    """
    mixed, mixtures = np.zeros_like(judged.pseudo), {}
    for lifecycle in np.unique(judged.lifecycle):
        names = list(effects) if admitted is None else admitted[str(lifecycle)]
        own = judged.lifecycle == lifecycle
        tuning = own & (judged.fold != CONFIRMING_FOLD)
        moments = {
            held: _sum_moments(
                [effects[name] for name in names], judged, tuning & (judged.fold == held)
            )
            for held in range(N_FOLDS)
            if held != CONFIRMING_FOLD
        }
        for held in range(N_FOLDS):
            others = [each for fold, each in moments.items() if fold != held]
            mixture = _weigh(names, others)
            rows = own & (judged.fold == held)
            mixed[rows] = mix({name: effects[name][rows] for name in mixture}, mixture)
        mixtures[str(lifecycle)] = _weigh(names, list(moments.values()))
    return mixed, mixtures


def mix(effects: Mapping[str, np.ndarray], mixture: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum of effects of equal shapes."""
    return np.asarray(sum(weight * effects[name] for name, weight in mixture.items()))


def _sum_moments(
    effects: Sequence[np.ndarray], judged: Judged, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of tau_c tau_d, shape (C, C), and of tau_c psi, shape (C,)."""
    possible = judged.possible[rows][:, 1:]
    tau = np.stack([each[rows][:, 1:][possible] for each in effects])  # (C, pairs)
    return tau @ tau.T, tau @ judged.pseudo[rows][:, 1:][possible]


def _weigh(names: Sequence[str], moments: Sequence[tuple[np.ndarray, np.ndarray]]) -> Mixture:
    """Minimise sum (psi - sum_c w_c tau_c)^2 over w >= 0 that sum to 1; tiny weights are dropped.

    With the Gram matrix's root R, that is non-negative least squares of R^-T b on R.
    """
    gram, cross = (np.sum([each[part] for each in moments], axis=0) for part in (0, 1))
    scale = max(float(np.trace(gram)), 1e-12)
    values, vectors = np.linalg.eigh(gram / scale)
    root = np.sqrt(np.maximum(values, 1e-12))
    left = root[:, None] * vectors.T
    right = (vectors.T @ (cross / scale)) / root
    weights, _ = nnls(
        np.vstack([left, np.full(len(names), _SUM_TO_ONE)]), np.append(right, _SUM_TO_ONE)
    )
    weights = np.where(weights >= SMALLEST_WEIGHT * weights.sum(), weights, 0.0)
    total = float(weights.sum())
    return {
        name: float(weight) / total
        for name, weight in zip(names, weights, strict=True)
        if weight > 0
    }
