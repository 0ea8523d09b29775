"""One model of the outcome per action."""

from collections.abc import Mapping

import numpy as np

from ml.uplift.arms import fit_arms
from ml.uplift.ensemble import Learner, Part, Prepared
from ml.uplift.sample import Sample, Scores
from ml.uplift.trees import TreeSettings


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    return Part(fit_arms(sample, counts=counts, settings=settings))


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    # An action never taken has control's mean: no effect.
    control = scores.get("mean_0", np.zeros(shape[0]))
    return np.column_stack([scores.get(f"mean_{action}", control) for action in range(shape[1])])


LEARNER = Learner("t_learner", _combine, _fit)
