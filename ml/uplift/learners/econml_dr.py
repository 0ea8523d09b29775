"""EconML's DRLearner on LightGBM, with the logged propensities; by its own cross-fitting."""

import numpy as np

from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings
from ml.uplift.wrapping import LoggedPropensity, arrange, make_trees, wrap_estimator

_MOST_ROWS = 200_000


def _estimate(sample: Sample, counts: np.ndarray, settings: TreeSettings) -> np.ndarray:
    from econml.dr import DRLearner

    chosen = arrange(sample, counts, most=_MOST_ROWS, seed=settings.seed)
    rows, actions = chosen.rows, chosen.actions
    learner = DRLearner(
        model_propensity=LoggedPropensity(len(actions)),
        model_regression=make_trees(settings),
        model_final=make_trees(settings),
        min_propensity=1e-3,
        cv=chosen.splits,
        categories=list(range(len(actions))),
        allow_missing=True,
        random_state=settings.seed,
    )
    policy = sample.logging_policy[rows][:, actions]
    learner.fit(sample.capped[rows], chosen.taken, X=sample.context[rows], W=policy)
    effects = np.zeros((sample.n_rows, sample.n_actions))
    wanted = sample.is_usable
    effects[np.ix_(wanted, actions[1:])] = learner.const_marginal_effect(
        sample.context[wanted]
    ).reshape(int(wanted.sum()), -1)
    return effects


LEARNER = wrap_estimator("econml_dr", _estimate)
