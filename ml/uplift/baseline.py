"""What the outcome is without regard to the action, from other customers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml.core.errors import SupportError
from ml.uplift.forest import Forest, score_forests
from ml.uplift.sample import Sample
from ml.uplift.trees import Objective, TreeSettings, fit_forest


@dataclass(frozen=True)
class Baseline:
    """A cross-fitted model of x alone.

    ``offset``, shape (n,), are raw scores of the usable rows, each by a model of the other folds;
    for another row the folds' models are averaged.
    """

    offset: np.ndarray
    forests: Mapping[str, Forest]


def fit_baseline(
    sample: Sample,
    target: np.ndarray,
    *,
    settings: TreeSettings,
    objective: Objective = "regression",
    is_fitted_on: np.ndarray | None = None,
    name: str = "baseline",
) -> Baseline:
    """Fit a baseline over the sample's folds.

    Parameters
    ----------
    sample
        n decisions.
    target : shape (n,)
        What is predicted.
    settings, objective
        Of each fold's forest.
    is_fitted_on : shape (n,), bool, optional
        Rows that count, such as buyers; offsets are for all.
    name
        The forests are called ``<name>_<fold>``.

    Returns
    -------
    Baseline
        Weighted as if every action had been randomised alike.

    Raises
    ------
    SupportError
        If all rows that count are in one fold: nobody else could tell about them.
    """
    weights = sample.weights
    if is_fitted_on is not None:
        weights = weights * is_fitted_on
    offset, forests = np.zeros(sample.n_rows), {}
    for held in np.unique(sample.fold):
        rows = sample.fold == held
        scored = rows & sample.is_usable
        if not (weights * ~rows).any():
            raise SupportError(f"no rows outside of fold {held} to fit a baseline on")
        forest = fit_forest(
            sample.binned,
            target,
            weights=weights * ~rows,
            settings=settings,
            objective=objective,
            is_joint=False,
        )
        offset[scored] = score_forests([forest], sample.context[scored], sample.descriptors)[0]
        forests[f"{name}_{held}"] = forest
    return Baseline(offset, forests)
