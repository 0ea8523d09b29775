"""Boosted trees as every head uses them: deterministic, one thread, few leaves."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np


@dataclass(frozen=True, kw_only=True)
class TreeSettings:
    """LightGBM settings shared by every model of the heads."""

    n_trees: int = 100
    n_leaves: int = 12
    minimum_leaf_rows: int = 400
    learning_rate: float = 0.1
    seed: int = 1

    def to_params(self) -> dict[str, object]:
        """Return LightGBM parameters."""
        return {
            "objective": "regression",
            "num_leaves": self.n_leaves,
            "min_data_in_leaf": self.minimum_leaf_rows,
            "learning_rate": self.learning_rate,
            "lambda_l2": 30.0,
            "extra_trees": True,
            "feature_fraction": 0.7,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "max_bin": 63,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": self.seed,
            "verbosity": -1,
        }


def fit_regression(
    context: np.ndarray,
    outcome: np.ndarray,
    *,
    weights: np.ndarray,
    settings: TreeSettings,
) -> lgb.Booster:
    """Fit a boosted regression of an outcome on the context.

    Parameters
    ----------
    context : shape (n, d), NaN where unknown
        Features.
    outcome : shape (n,)
        Realised, in its unit.
    weights : shape (n,), >= 0
        Of the rows.
    settings
        Tree settings.

    Returns
    -------
    lgb.Booster
        Predicts E[outcome | context].
    """
    dataset = lgb.Dataset(context, label=outcome, weight=weights, free_raw_data=True)
    return lgb.train(settings.to_params(), dataset, num_boost_round=settings.n_trees)


def predict(model: lgb.Booster, context: np.ndarray) -> np.ndarray:
    """Return a model's predictions, shape (n,), outcome's unit."""
    return np.asarray(model.predict(context, num_threads=1))
