"""Learn: how learners are fitted, searched on a schedule of its own and pinned."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import date

import polars as pl

from ml.core.actions import ActionSet
from ml.core.programme import Programme
from ml.core.schemas import LearningSettingsRow
from ml.pipeline.snapshots import Snapshot
from ml.uplift.fitting import LearningSettings
from ml.uplift.search import search_trees
from ml.uplift.trees import TreeSettings


def search_settings(
    snapshot: Snapshot,
    *,
    programme: Programme,
    actions: ActionSet,
    searched_for_date: date,
    n_trials: int,
    settings: LearningSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> pl.DataFrame:
    """Search tree settings on training customers.

    Parameters
    ----------
    snapshot
        Matured decisions.
    programme, actions
        Seed and action set.
    searched_for_date
        Of the snapshot.
    n_trials
        Settings to try.
    settings
        The present ones; None takes the defaults.
    progress
        Called with a line per trial.

    Returns
    -------
    pl.DataFrame
        LearningSettingsRow.
    """
    found = search_trees(
        snapshot.training,
        actions=actions,
        seed=programme.seed,
        n_trials=n_trials,
        settings=settings,
        progress=progress,
    )
    row = {**asdict(found.trees), **asdict(found)}
    row |= {"searched_for_date": searched_for_date, "data_hash": snapshot.data_hash}
    schema = LearningSettingsRow.create_empty().schema
    return LearningSettingsRow.validate(
        pl.DataFrame([{name: row[name] for name in schema}], schema=schema)
    )


def pin_settings(searched: pl.DataFrame) -> LearningSettings:
    """Return the newest pinned settings; the defaults where no search was pinned.

    Parameters
    ----------
    searched
        LearningSettingsRow rows.

    Returns
    -------
    LearningSettings
        For ``fit_candidate``.
    """
    pinned = searched.filter(pl.col("is_pinned")).sort("searched_for_date")
    if pinned.is_empty():
        return LearningSettings()
    row = pinned.row(-1, named=True)
    fields = ("n_trees", "n_leaves", "minimum_leaf_rows", "learning_rate", "ridge")
    return LearningSettings(trees=TreeSettings(**{name: row[name] for name in fields}))
