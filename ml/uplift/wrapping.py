"""Other libraries' estimators as learners: judged like ours, and served as forests of ours.

Their effects are taught to forests, which have a file format without pickles, score fast and are
what is judged: what is lost in the teaching counts against the learner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from lightgbm import LGBMRegressor

from ml.core.errors import SupportError
from ml.uplift.ensemble import Learner, Part, Prepared, stack_actions
from ml.uplift.sample import Sample, refuse_zero_control
from ml.uplift.trees import BINNING, TreeSettings, fit_forest

_SEED = 7_121

Estimate = Callable[[Sample, np.ndarray, TreeSettings], np.ndarray]
"""(sample, counts (n,), settings) to effects of every row, shape (n, K), currency."""


class LoggedPropensity:
    """A classifier in scikit-learn's manner that knows: it returns the logged propensities.

    They travel as the last columns of the features, one per action of the fitted sample.
    """

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what ``clone`` needs."""
        return {"n_actions": self.n_actions}

    def fit(self, features: np.ndarray, action: np.ndarray, **_: Any) -> "LoggedPropensity":
        """Note which actions there are; nothing is learned."""
        self.classes_ = np.arange(self.n_actions)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return the propensities, shape (n, n_actions)."""
        return np.asarray(features[:, -self.n_actions :])


def wrap_estimator(name: str, estimate: Estimate) -> Learner:
    """Return a learner that teaches an estimator's effects to forests, one per action.

    Parameters
    ----------
    name
        Of the learner.
    estimate
        Fits the estimator on a resample and returns its effects.

    Returns
    -------
    Learner
        Each member fits the estimator anew. It refuses a cost, and everything if EconML is not
        installed.
    """

    def fit_member(
        sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings
    ) -> Part:
        effects = estimate(sample, counts, settings)
        rows = sample.is_usable * counts
        forests = {}
        for action in range(1, sample.n_actions):
            weights = rows * sample.is_possible[:, action]
            if (weights > 0).any():
                forests[f"effect_{action}"] = fit_forest(
                    sample.binned,
                    effects[:, action],
                    weights=weights,
                    settings=settings,
                    is_joint=False,
                )
        return Part(forests)

    return Learner(name, stack_actions, fit_member, refuse=_refuse)


@dataclass(frozen=True)
class Arranged:
    """Rows for an estimator that wants every action in each of two folds, control first.

    ``rows``, sorted indices, a row held twice is there twice; ``actions``, their numbers;
    ``taken``, shape of rows, positions in ``actions``; ``splits``, train and test positions.
    """

    rows: np.ndarray
    actions: np.ndarray
    taken: np.ndarray
    splits: list[tuple[np.ndarray, np.ndarray]]


def arrange(sample: Sample, counts: np.ndarray, *, most: int, seed: int) -> Arranged:
    """Return the usable rows of a resample, no more than ``most``.

    Parameters
    ----------
    sample
        n decisions.
    counts : shape (n,)
        How often a resample holds each row.
    most
        Rows that the estimator can bear.
    seed
        Of the draw.

    Returns
    -------
    Arranged
        Without actions that either fold lacks: their effects stay 0.

    Raises
    ------
    SupportError
        If control or every offer is among these.
    """
    rows = np.repeat(np.arange(sample.n_rows), (counts * sample.is_usable).astype(np.int64))
    if len(rows) > most:
        rows = np.random.default_rng([seed, _SEED]).choice(rows, most, replace=False)
    rows = np.sort(rows)
    is_second = sample.fold[rows] == sample.fold[rows].max(initial=0)
    actions = np.intersect1d(sample.action[rows][is_second], sample.action[rows][~is_second])
    if 0 not in actions or len(actions) < 2:
        raise SupportError("control and an offer are needed in each of the two folds")
    rows = rows[np.isin(sample.action[rows], actions)]
    is_second = sample.fold[rows] == sample.fold[rows].max(initial=0)
    halves = np.flatnonzero(is_second), np.flatnonzero(~is_second)
    taken = np.searchsorted(actions, sample.action[rows])
    return Arranged(rows, actions, taken, [halves, halves[::-1]])


def make_trees(settings: TreeSettings) -> LGBMRegressor:
    """Return LightGBM in scikit-learn's manner, with our settings, deterministic."""
    return LGBMRegressor(
        n_estimators=settings.n_trees,
        num_leaves=settings.n_leaves,
        min_child_samples=settings.minimum_leaf_rows,
        learning_rate=settings.learning_rate,
        reg_lambda=settings.ridge,
        random_state=settings.seed,
        n_jobs=1,
        **{name: each for name, each in BINNING.items() if name != "num_threads"},
    )


def _refuse(sample: Sample) -> str:
    if find_spec("econml") is None:
        return "EconML is not installed: pip install 'liftloop[causal]'"
    return refuse_zero_control(sample)
