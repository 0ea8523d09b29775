"""EconML's CausalForestDML, honest, with the logged propensities; on 5,000 rows at most.

It takes a minute for 20,000 rows, and six times as long for four times as many.
"""

import numpy as np
from lightgbm import LGBMRegressor

from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings
from ml.uplift.wrapping import LoggedPropensity, choose_rows, wrap_estimator

_MOST_ROWS = 5_000
_N_TREES = 100
_FEWEST_LEAF_ROWS = 20


def _estimate(sample: Sample, counts: np.ndarray, settings: TreeSettings) -> np.ndarray:
    from econml.dml import CausalForestDML

    rows = choose_rows(sample, counts, most=_MOST_ROWS, seed=settings.seed)
    actions, taken = np.unique(sample.action[rows], return_inverse=True)
    folds = sample.fold[rows]
    # Its trees know no unknown values.
    means = np.nan_to_num(np.nanmean(sample.context[rows], axis=0))
    context = np.where(np.isnan(sample.context), means, sample.context)
    forest = CausalForestDML(
        model_y=LGBMRegressor(
            n_estimators=settings.n_trees,
            num_leaves=settings.n_leaves,
            learning_rate=settings.learning_rate,
            n_jobs=1,
            verbose=-1,
            random_state=settings.seed,
        ),
        model_t=LoggedPropensity(len(actions)),
        discrete_treatment=True,
        categories=list(range(len(actions))),
        cv=[(np.flatnonzero(folds != held), np.flatnonzero(folds == held)) for held in (0, 1)],
        n_estimators=_N_TREES,
        min_samples_leaf=_FEWEST_LEAF_ROWS,
        inference=False,
        n_jobs=1,
        random_state=settings.seed,
    )
    forest.fit(
        sample.capped[rows], taken, X=context[rows], W=sample.logging_policy[rows][:, actions]
    )
    effects = np.zeros((sample.n_rows, sample.n_actions))
    wanted = sample.is_usable
    effects[np.ix_(wanted, actions[1:])] = forest.const_marginal_effect(context[wanted]).reshape(
        int(wanted.sum()), -1
    )
    return effects


LEARNER = wrap_estimator("econml_forest", _estimate)
