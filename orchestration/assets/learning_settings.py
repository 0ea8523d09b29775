"""Learn: tree settings by search.

Reads: lake marts. Writes: lake learning_settings.
"""

from datetime import date, timedelta

import dagster as dg
import polars as pl

from ml.core.schemas import LearningSettingsRow
from ml.pipeline.learning_settings import pin_settings, search_settings
from ml.uplift.fitting import LearningSettings
from orchestration.assets.embedding import tabulate
from orchestration.assets.snapshots import SNAPSHOT, find_training_date, read_snapshot
from orchestration.lake import Lake, describe
from orchestration.resources import ProgrammeFile


class SearchConfig(dg.Config):
    """How long to search."""

    n_trials: int = 20


def read_learning_settings(lake: Lake, training_date: date) -> LearningSettings:
    """Return the settings that searches up to a date pinned, or the defaults."""
    days = [day for day in lake.dates("learning_settings") if day <= training_date]
    if not days:
        return LearningSettings()
    return pin_settings(pl.concat([lake.read("learning_settings", day) for day in days]))


@dg.asset(
    deps=SNAPSHOT,
    group_name="learn",
    kinds={"lightgbm", "optuna"},
)
def learning_settings(
    context: dg.AssetExecutionContext, config: SearchConfig, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Tree settings by search; pinned for later trainings if a fold that no trial saw agrees."""
    training_date = find_training_date(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date)
    found = search_settings(
        snapshot,
        programme=programme.read(),
        actions=actions,
        searched_for_date=training_date,
        n_trials=config.n_trials,
        # As pinned before: searching a date again starts from the same.
        settings=read_learning_settings(lake, training_date - timedelta(days=1)),
        progress=lambda message: context.log.info(message),
    )
    written = lake.write(found, "learning_settings", training_date, schema=LearningSettingsRow)
    return dg.MaterializeResult(
        metadata={
            **describe([written], LearningSettingsRow),
            "is_pinned": bool(found["is_pinned"][0]),
            "found": tabulate(found),
        },
        data_version=dg.DataVersion(written.sha256),
    )
