"""One outcome model per action, as T- and X-learner need them."""

import numpy as np

from ml.uplift.ensemble import Forests
from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings, fit_forest


def fit_arms(sample: Sample, *, counts: np.ndarray, settings: TreeSettings) -> Forests:
    """Fit the outcome on context among those who took each action.

    Parameters
    ----------
    sample
        n decisions.
    counts : shape (n,)
        How often each row counts.
    settings
        Of each forest.

    Returns
    -------
    Forests
        ``mean_<action>``; none for an action that nobody took.
    """
    weights = sample.weights * counts
    return {
        f"mean_{action}": fit_forest(
            sample.binned,
            sample.capped,
            weights=weights * (sample.action == action),
            settings=settings,
            is_joint=False,
        )
        for action in range(sample.n_actions)
        if (weights * (sample.action == action) > 0).any()
    }
