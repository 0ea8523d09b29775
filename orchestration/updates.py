"""When the loop learns anew: every week, or by the rule of drift and of new evidence.

Reads: lake monitoring, action_plan, evaluation_record, logged_decisions, action_catalogue,
champion_changes.
"""

from datetime import date, timedelta

import polars as pl

from ml.core.actions import read_actions
from ml.core.schemas import Monitoring
from ml.pipeline.policies import TREE
from ml.pipeline.updates import (
    REST_DAYS,
    TRAINING,
    Update,
    choose_update,
    measure_information,
)
from orchestration.lake import Lake


def find_due(lake: Lake, *, mode: str, night: date, matured_after_days: int) -> Update:
    """Return what there is to learn before a night, from what the lake holds.

    Parameters
    ----------
    lake
        Of the state folder.
    mode
        'weekly' or 'rule'.
    night
        That is to be decided.
    matured_after_days
        The programme's.

    Returns
    -------
    Update
        Job and reason. The first training is due once a decision has matured, in either mode.
    """
    records = lake.dates("evaluation_record")
    if not records:
        decided = next((day for day in lake.dates("logged_decisions") if _is_any(lake, day)), None)
        is_first = decided is not None and (night - decided).days > matured_after_days
        return Update(TRAINING if is_first else None, "nothing was learned yet")
    # Every training plans actions once its heads are fitted; recalibrations and agents don't.
    trained = max(lake.dates("action_plan"), default=records[-1])
    if mode == "weekly":
        is_due = (night - trained).days > REST_DAYS
        return Update(TRAINING if is_due else None, f"the last training is of {trained}")
    last = max([trained, *_find_recalibrations(lake, records)])
    watched = [day for day in lake.dates("monitoring") if last < day < night]
    signals = lake.read("monitoring", watched[-1]) if watched else Monitoring.create_empty()
    catalogue = lake.read("action_catalogue", lake.dates("action_catalogue")[-1])
    control = read_actions(catalogue).action_ids[0]
    log = lake.scan("logged_decisions", until=night)
    # A training before this night would be of the night before.
    newest, matures = night - timedelta(days=1), timedelta(days=matured_after_days)
    matured = pl.col("decision_date") + matures
    learned_from, gained = (
        measure_information(log.filter(span), control=control)
        for span in (matured <= trained, (matured > trained) & (matured <= newest))
    )
    changes = lake.scan("champion_changes").collect()
    rules = changes.filter(pl.col("cause") == "first")["to_version"].to_list()
    return choose_update(
        signals,
        days_since=(newest - last).days,
        days_decided=(newest - lake.dates("champion_changes")[-1]).days,
        can_recalibrate=(
            changes["to_version"][-1] not in rules
            and last == trained
            and not _is_tree(lake, changes["to_version"][-1])
        ),
        matured_after_days=matured_after_days,
        learned_from=learned_from,
        gained=gained,
    )


def _is_tree(lake: Lake, version: str) -> bool:
    """Return whether a version that decided the last night is a tree, which is grown anew."""
    days = lake.dates("night_budget")
    if not days:
        return False
    decided = lake.read("night_budget", days[-1]).row(0, named=True)
    return bool(decided["policy_version"] == version and decided["policy_kind"] == TREE)


def _is_any(lake: Lake, day: date) -> bool:
    return lake.read("logged_decisions", day).height > 0


def _find_recalibrations(lake: Lake, records: list[date]) -> list[date]:
    """Return the dates of recalibrations: those judged on what came after a drift alone."""
    since = [lake.read("evaluation_record", day)["judged_since"][0] for day in records]
    return [day for day, first in zip(records, since, strict=True) if first > min(since)]
