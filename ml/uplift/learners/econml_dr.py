"""EconML's DRLearner on LightGBM, with the logged propensities; by its own cross-fitting."""

import numpy as np
from lightgbm import LGBMRegressor

from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings
from ml.uplift.wrapping import LoggedPropensity, choose_rows, wrap_estimator

_MOST_ROWS = 200_000


def _estimate(sample: Sample, counts: np.ndarray, settings: TreeSettings) -> np.ndarray:
    from econml.dr import DRLearner

    rows = choose_rows(sample, counts, most=_MOST_ROWS, seed=settings.seed)
    actions, taken = np.unique(sample.action[rows], return_inverse=True)
    context, folds = sample.context[rows], sample.fold[rows]
    learner = DRLearner(
        model_propensity=LoggedPropensity(len(actions)),
        model_regression=_make_trees(settings),
        model_final=_make_trees(settings),
        min_propensity=1e-3,
        cv=[(np.flatnonzero(folds != held), np.flatnonzero(folds == held)) for held in (0, 1)],
        categories=list(range(len(actions))),
        allow_missing=True,
        random_state=settings.seed,
    )
    learner.fit(sample.capped[rows], taken, X=context, W=sample.logging_policy[rows][:, actions])
    effects = np.zeros((sample.n_rows, sample.n_actions))
    wanted = sample.is_usable
    effects[np.ix_(wanted, actions[1:])] = learner.const_marginal_effect(
        sample.context[wanted]
    ).reshape(int(wanted.sum()), -1)
    return effects


def _make_trees(settings: TreeSettings) -> LGBMRegressor:
    return LGBMRegressor(
        n_estimators=settings.n_trees,
        num_leaves=settings.n_leaves,
        min_child_samples=settings.minimum_leaf_rows,
        learning_rate=settings.learning_rate,
        reg_lambda=settings.ridge,
        n_jobs=1,
        verbose=-1,
        random_state=settings.seed,
    )


LEARNER = wrap_estimator("econml_dr", _estimate)
