"""The search on logs where present settings are bad, or as good as any."""

from datetime import date

import polars as pl
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.logged import build_logged_decisions
from ml.core.schemas import LearningSettingsRow
from ml.pipeline.learning_settings import pin_settings, search_settings
from ml.pipeline.snapshots import take_snapshot
from ml.uplift.fitting import LearningSettings
from ml.uplift.search import search_trees
from ml.uplift.trees import TreeSettings

STUNTED = LearningSettings(trees=TreeSettings(n_trees=2, n_leaves=2, learning_rate=0.05))


def _log(seed):
    rows, _ = make_rows(seed, n=6_000)
    return build_logged_decisions(rows, programme=PROGRAMME, actions=ACTIONS)


def test_better_settings_than_stunted_ones_are_found_and_confirmed():
    said = []
    found = search_trees(
        _log(1), actions=ACTIONS, seed=1, n_trials=6, settings=STUNTED, progress=said.append
    )
    assert found.is_pinned
    assert found.confirmed_difference < -found.confirmed_error < 0
    assert found.risk_difference < 0
    assert found.trees.n_trees > 2
    assert len(said) == 6


def test_the_same_search_finds_the_same():
    first, second = (
        search_trees(_log(2), actions=ACTIONS, seed=1, n_trials=3, settings=STUNTED)
        for _ in range(2)
    )
    assert first == second


def test_trainings_use_the_newest_pinned_settings():
    assert pin_settings(LearningSettingsRow.create_empty()) == LearningSettings()
    rows, _ = make_rows(3, n=6_000)
    row = search_settings(
        take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS),
        programme=PROGRAMME,
        actions=ACTIONS,
        searched_for_date=date(2026, 3, 2),
        n_trials=2,
        settings=STUNTED,
    )
    later = row.with_columns(pl.lit(date(2026, 4, 1)).alias("searched_for_date"))
    history = pl.concat(
        [
            row.with_columns(pl.lit(True).alias("is_pinned")),
            later.with_columns(
                pl.lit(False).alias("is_pinned"), pl.lit(7).cast(pl.Int64).alias("n_trees")
            ),
        ]
    )
    assert pin_settings(history).trees.n_trees == row["n_trees"][0]
    newest = history.with_columns(pl.lit(True).alias("is_pinned"))
    assert pin_settings(newest).trees.n_trees == 7
