"""What the action adds to a baseline: E[y - m(x) | x, a], m cross-fitted and shared by members.

Valid for any m: rows are weighted as if randomised alike, so what m misses is the same for every
action. A good m takes most noise away, and a few leaves are left to describe the effects alone.
"""

from collections.abc import Mapping

import numpy as np

from ml.uplift.baseline import fit_baseline
from ml.uplift.ensemble import Learner, Part, Prepared, spread_over_actions
from ml.uplift.sample import Sample, Scores, refuse_zero_control
from ml.uplift.trees import TreeSettings, fit_forest


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    baseline = fit_baseline(sample, sample.capped, settings=settings)
    return Prepared(arrays={"offset": baseline.offset})


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    residual = sample.capped - prepared.arrays["offset"]
    weights = sample.weights * counts
    forest = fit_forest(sample.binned, residual, weights=weights, settings=settings)
    return Part({"added": forest})


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    return spread_over_actions(scores["added"], shape)


LEARNER = Learner("residual", _combine, _fit, _prepare, refuse_zero_control)
