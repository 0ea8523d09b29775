"""Doubly robust pseudo-outcomes, cross-fitted, regressed on x: one forest per action.

Kennedy (2023), Electronic Journal of Statistics 17(2), algorithm 1.
"""

import numpy as np

from ml.uplift.ensemble import Learner, Part, Prepared, stack_actions
from ml.uplift.nuisance import cross_fit_means, make_pseudo_outcomes
from ml.uplift.sample import Sample, refuse_zero_control
from ml.uplift.trees import TreeSettings, fit_forest


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    pseudo = make_pseudo_outcomes(sample, cross_fit_means(sample, settings=settings))
    return Prepared(arrays={"pseudo": pseudo})


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    # The pseudo-outcome holds the log's correction already.
    rows = counts * sample.is_usable
    forests = {
        f"effect_{action}": fit_forest(
            sample.binned,
            prepared.arrays["pseudo"][:, action],
            weights=rows * sample.is_possible[:, action],
            settings=settings,
            is_joint=False,
        )
        for action in range(1, sample.n_actions)
        if (rows * sample.is_possible[:, action] > 0).any()
    }
    return Part(forests)


LEARNER = Learner("dr_learner", stack_actions, _fit, _prepare, refuse_zero_control)
