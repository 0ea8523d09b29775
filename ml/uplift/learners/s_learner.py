"""One model of the outcome on context and action."""

from collections.abc import Mapping

import numpy as np

from ml.uplift.ensemble import Learner, Part, Prepared, spread_over_actions
from ml.uplift.sample import Sample, Scores
from ml.uplift.trees import TreeSettings, fit_forest


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    weights = sample.weights * counts
    forest = fit_forest(sample.binned, sample.capped, weights=weights, settings=settings)
    return Part({"mean": forest})


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    return spread_over_actions(scores["mean"], shape)


LEARNER = Learner("s_learner", _combine, _fit)
