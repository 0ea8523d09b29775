"""Everybody gets each action's mean effect, from weighted means: the baseline of heterogeneity."""

from collections.abc import Mapping

import numpy as np

from ml.uplift.ensemble import Learner, Part, Prepared
from ml.uplift.sample import Sample, Scores
from ml.uplift.trees import TreeSettings


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    """Take self-normalised means of the outcome; an action never taken has control's."""
    weights, k = sample.weights * counts, sample.n_actions
    total = np.bincount(sample.action, weights=weights * sample.outcome, minlength=k)
    weight = np.bincount(sample.action, weights=weights, minlength=k)
    means = np.divide(total, weight, out=np.zeros(k), where=weight > 0)
    return Part(numbers={"means": np.where(weight > 0, means, means[0])})


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    return np.broadcast_to(numbers["means"], shape)


# Every lifecycle's mean is calibrated anyway.
LEARNER = Learner("constant", _combine, _fit, is_pooled_only=True)
