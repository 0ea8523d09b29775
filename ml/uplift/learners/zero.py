"""No action has an effect: what every other candidate must beat."""

from collections.abc import Mapping

import numpy as np

from ml.uplift.ensemble import Learner
from ml.uplift.sample import Scores


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    return np.zeros(shape)


LEARNER = Learner("zero", _combine)
