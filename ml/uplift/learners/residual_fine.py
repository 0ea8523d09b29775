"""The residual learner with finer trees, for small logs: the usual leaves are coarse there.

A leaf of 200 rows is a hundredth of 20,000: effects that stand out from their noise come out flat.
Where they don't stand out, finer trees fit noise; risk tells the two apart. A lifecycle's share of
a small log is too little for them.
"""

from dataclasses import replace

import numpy as np

from ml.uplift.ensemble import Learner, Part, Prepared
from ml.uplift.learners import residual
from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings

_MOST_ROWS = 30_000


def _refine(settings: TreeSettings) -> TreeSettings:
    return replace(
        settings, n_trees=150, n_leaves=31, minimum_leaf_rows=30, learning_rate=0.1, ridge=3.0
    )


def _refuse(sample: Sample) -> str:
    if sample.n_rows > _MOST_ROWS:
        return f"{sample.n_rows} decisions are over {_MOST_ROWS}: the usual leaves are fine enough"
    return residual.LEARNER.refuse(sample)


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    return residual.LEARNER.prepare(sample, _refine(settings))


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    return residual.LEARNER.fit_member(sample, prepared, counts, _refine(settings))


LEARNER = Learner(
    "residual_fine", residual.LEARNER.combine, _fit, _prepare, _refuse, is_pooled_only=True
)
