"""Whether there is any outcome, times how much: for sparse, heavy-tailed money.

    mu(x, a) = P(y > 0 | x, a) E[y | y > 0, x, a]

Each factor is a cross-fitted baseline of x (shared by members) plus what the action adds: to the
log-odds of the first, to the second itself.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from ml.uplift.baseline import fit_baseline
from ml.uplift.ensemble import Learner, Part, Prepared, spread_over_actions
from ml.uplift.sample import WINSOR_QUANTILE, Sample, Scores
from ml.uplift.trees import TreeSettings, fit_forest

_FEWEST_SHARE = 0.02
_FEWEST_POSITIVE = 500


def _refuse(sample: Sample) -> str:
    outcome = sample.outcome[sample.is_usable]
    if (outcome < 0).any():
        return "the outcome is negative in places: there is no hurdle at 0"
    n_positive, n_zero = int((outcome > 0).sum()), int((outcome == 0).sum())
    if n_zero < _FEWEST_SHARE * len(outcome):
        return f"only {n_zero} of {len(outcome)} outcomes are 0: there is no hurdle"
    if n_positive < _FEWEST_POSITIVE:
        return f"only {n_positive} outcomes are above 0, fewer than {_FEWEST_POSITIVE}"
    return ""


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    is_positive = sample.outcome > 0
    amount = _cap_amounts(sample)
    happens = fit_baseline(
        sample,
        is_positive.astype(float),
        settings=settings,
        objective="binary",
        name="happens_baseline",
    )
    amounts = fit_baseline(
        sample, amount, settings=settings, is_fitted_on=is_positive, name="amount_baseline"
    )
    return Prepared(
        part=Part({**happens.forests, **amounts.forests}),
        arrays={"happens": happens.offset, "amount": amounts.offset},
    )


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    is_positive, weights = sample.outcome > 0, sample.weights * counts
    happens = fit_forest(
        sample.binned,
        is_positive.astype(float),
        weights=weights,
        settings=settings,
        objective="binary",
        offset=prepared.arrays["happens"],
    )
    amount = fit_forest(
        sample.binned,
        _cap_amounts(sample) - prepared.arrays["amount"],
        weights=weights * is_positive,
        settings=settings,
    )
    return Part({"happens": happens, "amount": amount})


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    parts = []
    for part in ("happens", "amount"):
        folds = [each for name, each in scores.items() if name.startswith(f"{part}_baseline_")]
        baseline = np.mean(folds, axis=0)[:, None]
        parts.append(baseline + spread_over_actions(scores[part], shape))
    return expit(parts[0]) * np.maximum(parts[1], 0.0)


def _cap_amounts(sample: Sample) -> np.ndarray:
    """Return the outcome, capped at the 99.5 % quantile of those above 0."""
    positive = sample.outcome[(sample.outcome > 0) & sample.is_usable]
    return np.minimum(sample.outcome, np.quantile(positive, WINSOR_QUANTILE))


LEARNER = Learner("hurdle", _combine, _fit, _prepare, _refuse)
