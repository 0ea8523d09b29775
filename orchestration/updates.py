"""When the loop learns anew: every week, or by the rule of drift and of new evidence.

Reads: lake monitoring, action_plan, evaluation_record, logged_decisions, action_catalogue,
champion_changes.
"""

from datetime import date, timedelta

import polars as pl

from ml.core.actions import read_actions
from ml.core.schemas import Monitoring
from ml.pipeline.updates import Update, choose_update, measure_information
from orchestration.champions import read_last_change
from orchestration.lake import Lake


def find_update(lake: Lake, *, night: date, matured_after_days: int) -> Update:
    """Return what the rule would run before a night, from what the lake holds.

    Parameters
    ----------
    lake
        After a first training.
    night
        That is to be decided.
    matured_after_days
        The programme's.

    Returns
    -------
    Update
        Job and reason.
    """
    last = lake.dates("evaluation_record")[-1]
    # Every training plans actions, and nothing else does.
    trained = lake.dates("action_plan")[-1]
    watched = [day for day in lake.dates("monitoring") if last < day < night]
    signals = lake.read("monitoring", watched[-1]) if watched else Monitoring.create_empty()
    catalogue = lake.read("action_catalogue", lake.dates("action_catalogue")[-1])
    control = read_actions(catalogue).action_ids[0]
    log = lake.scan("logged_decisions", until=night)
    matures = timedelta(days=matured_after_days)
    learned_from, known = (
        measure_information(log.filter(pl.col("decision_date") <= day - matures), control=control)
        for day in (trained, night)
    )
    change = read_last_change(lake)
    return choose_update(
        signals,
        has_heads=change is not None and change["cause"] != "first",
        days_since=(night - last).days - 1,
        learned_from=learned_from,
        gained=known - learned_from,
    )
