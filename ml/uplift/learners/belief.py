"""Effects linear in what the world model believes of a customer: a ridge R-learner.

    y - m(x) = sum_a (1{A = a} - e_a) (c_a + z . (b + d_a)) + noise

z: the belief's leading principal components; b is common to all offers and d_a each one's own, both
shrunken; constants are not. m is a cross-fitted baseline of x, e the logged propensities. Nie and
Wager (2021), Biometrika 108(2), eq. 4, with several actions.
"""

from collections.abc import Mapping

import numpy as np

from ml.uplift.baseline import fit_baseline
from ml.uplift.ensemble import Learner, Part, Prepared
from ml.uplift.sample import CONTEXT, Sample, Scores, refuse_zero_control
from ml.uplift.trees import TreeSettings

_COMPONENTS, _FEWEST_KNOWN = 8, 500
_PENALTIES = 10.0 ** np.arange(0, 6.1, 0.5)


def _refuse(sample: Sample) -> str:
    if not sample.n_belief:
        return "the rows carry no belief"
    n_known = int((~np.isnan(sample.belief[sample.is_usable]).any(axis=1)).sum())
    if n_known < _FEWEST_KNOWN:
        return f"only {n_known} rows carry a belief, fewer than {_FEWEST_KNOWN}"
    return refuse_zero_control(sample)


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    """Fit the baseline, the components and the penalty, which predicts the other fold best."""
    baseline = fit_baseline(sample, sample.capped, settings=settings)
    known = sample.belief[sample.is_usable]
    known = known[~np.isnan(known).any(axis=1)]
    mean = known.mean(axis=0)
    spread, axes = np.linalg.eigh(np.atleast_2d(np.cov(known, rowvar=False)))
    leading = np.argsort(spread)[::-1][: min(_COMPONENTS, sample.n_belief)]
    axes = axes[:, leading] / np.sqrt(np.maximum(spread[leading], 1e-12))
    numbers = {"mean": mean, "axes": axes}
    design = _lay_out(sample, _project(sample.belief, numbers))
    residual = sample.capped - baseline.offset
    rows = sample.is_usable.astype(float)
    halves = [rows * (sample.fold == fold) for fold in (0, 1)]
    grams = [(design * each[:, None]).T @ design for each in halves]
    sums = [design.T @ (each * residual) for each in halves]
    losses = [
        sum(
            found @ grams[1 - k] @ found - 2 * found @ sums[1 - k]
            for k in (0, 1)
            for found in [_solve(grams[k], sums[k], penalty, sample.n_actions)]
        )
        for penalty in _PENALTIES
    ]
    numbers["penalty"] = _PENALTIES[[int(np.argmin(losses))]]
    return Prepared(Part(numbers=numbers), {"design": design, "residual": residual})


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    design, rows = prepared.arrays["design"], sample.is_usable * counts
    gram = (design * rows[:, None]).T @ design
    total = design.T @ (rows * prepared.arrays["residual"])
    penalty = float(prepared.part.numbers["penalty"][0])
    found = _solve(gram, total, penalty, sample.n_actions)
    n_offers = sample.n_actions - 1
    slopes = found[n_offers:].reshape(n_offers + 1, -1)
    return Part(numbers={"constants": found[:n_offers], "slopes": slopes[0] + slopes[1:]})


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    belief = scores[CONTEXT][:, -len(numbers["mean"]) :]
    effects = np.zeros(shape)
    effects[:, 1:] = numbers["constants"] + _project(belief, numbers) @ numbers["slopes"].T
    return effects


def _project(belief: np.ndarray, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the components, shape (n, c); 0, the mean, where the belief is unknown."""
    centred = np.nan_to_num(belief - numbers["mean"], nan=0.0)
    return np.asarray(centred @ numbers["axes"])


def _lay_out(sample: Sample, components: np.ndarray) -> np.ndarray:
    """Return the design: a constant per offer, the common slopes, then each offer's own."""
    policy = sample.logging_policy
    taken = np.eye(sample.n_actions)[sample.action]
    moved = (taken - policy)[:, 1:]  # (n, K - 1)
    own = (moved[:, :, None] * components[:, None, :]).reshape(len(moved), -1)
    return np.column_stack([moved, moved.sum(axis=1, keepdims=True) * components, own])


def _solve(gram: np.ndarray, total: np.ndarray, penalty: float, n_actions: int) -> np.ndarray:
    shrunken = gram + penalty * np.diag(np.arange(len(total)) >= n_actions - 1)
    return np.asarray(np.linalg.lstsq(shrunken, total, rcond=None)[0])


LEARNER = Learner("belief", _combine, _fit, _prepare, _refuse, is_pooled_only=True)
