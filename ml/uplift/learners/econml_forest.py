"""EconML's CausalForestDML, honest, with the logged propensities; on 5,000 rows at most.

It takes a minute for 20,000 rows, and six times as long for four times as many.
"""

import numpy as np

from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings
from ml.uplift.wrapping import LoggedPropensity, arrange, make_trees, wrap_estimator

_MOST_ROWS = 5_000
_N_TREES = 100
_FEWEST_LEAF_ROWS = 20


def _estimate(sample: Sample, counts: np.ndarray, settings: TreeSettings) -> np.ndarray:
    from econml.dml import CausalForestDML

    chosen = arrange(sample, counts, most=_MOST_ROWS, seed=settings.seed)
    rows, actions = chosen.rows, chosen.actions
    # Its trees know no unknown values.
    known = np.where(np.isnan(sample.context[rows]).all(axis=0), 0.0, sample.context[rows])
    context = np.where(np.isnan(sample.context), np.nanmean(known, axis=0), sample.context)
    forest = CausalForestDML(
        model_y=make_trees(settings),
        model_t=LoggedPropensity(len(actions)),
        discrete_treatment=True,
        categories=list(range(len(actions))),
        cv=chosen.splits,
        n_estimators=_N_TREES,
        min_samples_leaf=_FEWEST_LEAF_ROWS,
        inference=False,
        n_jobs=1,
        random_state=settings.seed,
    )
    policy = sample.logging_policy[rows][:, actions]
    forest.fit(sample.capped[rows], chosen.taken, X=context[rows], W=policy)
    effects = np.zeros((sample.n_rows, sample.n_actions))
    wanted = sample.is_usable
    effects[np.ix_(wanted, actions[1:])] = forest.const_marginal_effect(context[wanted]).reshape(
        int(wanted.sum()), -1
    )
    return effects


LEARNER = wrap_estimator("econml_forest", _estimate)
