"""Cross-fitted outcome means, and the doubly robust pseudo-outcomes that judge and teach."""

import numpy as np

from ml.uplift.baseline import fit_baseline
from ml.uplift.calibration import doubly_robust_effect
from ml.uplift.forest import score_forests
from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings, fit_forest


def cross_fit_means(sample: Sample, *, settings: TreeSettings) -> np.ndarray:
    """Return E[outcome | x, a] of every row and action, each by models of other folds.

    The residual model: a baseline of x, and what the action adds to it.

    Parameters
    ----------
    sample
        n decisions.
    settings
        Of each forest.

    Returns
    -------
    np.ndarray
        Shape (n, K), currency; control's is 0 where it is 0 by construction.
    """
    means = np.zeros((sample.n_rows, sample.n_actions))
    folds = np.unique(sample.fold)
    baseline = np.zeros(sample.n_rows)
    if not sample.is_zero_without_offer:
        baseline = fit_baseline(sample, sample.capped, settings=settings).offset
    for held in folds:
        rows = sample.fold == held
        forest = fit_forest(
            sample.binned,
            sample.capped - baseline,
            weights=sample.weights * ~rows,
            settings=settings,
        )
        added = score_forests([forest], sample.context[rows], sample.descriptors)[0]
        means[rows] = baseline[rows, None] + (added if added.ndim > 1 else added[:, None])
    if sample.is_zero_without_offer:
        means[:, 0] = 0.0
    return means


def make_pseudo_outcomes(sample: Sample, means: np.ndarray) -> np.ndarray:
    """Return the doubly robust pseudo-outcome of every action's effect.

    Parameters
    ----------
    sample
        n decisions.
    means : shape (n, K)
        Expected outcomes, by models of other customers.

    Returns
    -------
    np.ndarray
        Shape (n, K), currency, from the uncapped outcome; 0 for control, and where action and
        control were not both possible.
    """
    pseudo = np.zeros_like(means)
    for action in range(1, sample.n_actions):
        rows = sample.is_possible[:, action]
        taken = sample.action[rows]
        pseudo[rows, action] = doubly_robust_effect(
            sample.outcome[rows],
            is_action=taken == action,
            is_control=(taken == 0) & (not sample.is_zero_without_offer),
            action_propensity=sample.logging_policy[rows, action],
            control_propensity=sample.logging_policy[rows, 0],
            action_mean=means[rows, action],
            control_mean=means[rows, 0],
        )
    return pseudo
