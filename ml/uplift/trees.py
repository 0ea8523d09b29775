"""Boosted trees as every learner uses them: binned once, deterministic, one thread, few leaves."""

from dataclasses import dataclass, replace
from typing import Literal

import lightgbm as lgb
import numpy as np

from ml.uplift.forest import Forest

Objective = Literal["regression", "binary"]
MAX_BINS = 63


@dataclass(frozen=True, kw_only=True)
class TreeSettings:
    """LightGBM settings shared by every model of the heads."""

    n_trees: int = 60
    n_leaves: int = 16
    minimum_leaf_rows: int = 200
    learning_rate: float = 0.15
    ridge: float = 30.0
    seed: int = 1

    def reseed(self, number: int) -> "TreeSettings":
        """Return the settings of another member; number 0 keeps the seed."""
        return replace(self, seed=(self.seed + 7_919 * number) % 2**31)

    def to_params(self) -> dict[str, object]:
        """Return LightGBM parameters."""
        return {
            "num_leaves": self.n_leaves,
            "min_data_in_leaf": self.minimum_leaf_rows,
            "learning_rate": self.learning_rate,
            "lambda_l2": self.ridge,
            "extra_trees": True,
            "feature_fraction": 0.7,
            "seed": self.seed,
            **BINNING,
        }


BINNING: dict[str, object] = {
    "max_bin": MAX_BINS,
    "feature_pre_filter": False,
    "num_threads": 1,
    "deterministic": True,
    # Several columns in one sparse bin corrupt memory on a Dataset's subset (LightGBM 4.7): by rows
    # always, by columns where sparse bins are enabled.
    "force_col_wise": True,
    "is_enable_sparse": False,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Binned:
    """Decisions binned once: every model of them shares the bins.

    ``dataset`` holds x and the description of the taken action, ``n_context`` says how many
    columns are x.
    """

    dataset: lgb.Dataset
    n_context: int
    n_rows: int
    n_columns: int


def bin_decisions(context: np.ndarray, described: np.ndarray) -> Binned:
    """Bin contexts and the descriptions of the actions taken.

    Parameters
    ----------
    context : shape (n, d), NaN where unknown
        Features.
    described : shape (n, p)
        Descriptors of the action that each row took.

    Returns
    -------
    Binned
        At most 63 bins a column.
    """
    columns = np.column_stack([context, described])
    dataset = lgb.Dataset(columns, params=BINNING, free_raw_data=True).construct()
    return Binned(dataset, context.shape[1], *columns.shape)


def fit_forest(
    binned: Binned,
    target: np.ndarray,
    *,
    weights: np.ndarray,
    settings: TreeSettings,
    objective: Objective = "regression",
    offset: np.ndarray | None = None,
    is_joint: bool = True,
) -> Forest:
    """Fit a boosted ensemble to the rows of positive weight.

    Parameters
    ----------
    binned
        n decisions.
    target : shape (n,)
        What is predicted; 0 or 1 for 'binary', whose raw scores are log-odds.
    weights : shape (n,), >= 0
        Rows of weight 0 are left out.
    settings
        Tree settings.
    objective
        Squared error, or log loss.
    offset : shape (n,), optional
        Known part of the raw score; the forest predicts what is to be added.
    is_joint
        Whether it may split on the action.

    Returns
    -------
    Forest
        Scores are raw; 0 where no row has weight.
    """
    rows = np.flatnonzero(weights > 0)
    if not len(rows):
        return Forest("", binned.n_context)
    dataset = binned.dataset.subset(rows).construct()
    dataset.set_label(target[rows].astype(np.float32))
    dataset.set_weight(weights[rows].astype(np.float32))
    params = {**settings.to_params(), "objective": objective}
    if offset is not None:
        dataset.set_init_score(offset[rows])
    if not is_joint:
        params["interaction_constraints"] = [list(range(binned.n_context))]
    booster = lgb.train(params, dataset, num_boost_round=settings.n_trees)
    return Forest(booster.model_to_string(), binned.n_context)
