"""Learn: what every training asset reads.

Reads: lake marts, randomisation_checks and training_beliefs.
"""

from datetime import date

import polars as pl

from ml.core.actions import ActionSet, read_actions
from ml.core.contexts import join_beliefs
from ml.core.errors import ContractError
from ml.interactors.histories import join_histories
from ml.pipeline.snapshots import Snapshot, take_snapshot
from orchestration.lake import Lake
from orchestration.resources import ProgrammeFile

SNAPSHOT = [
    "logged_decisions",
    "customer_features",
    "realised_outcomes",
    "action_catalogue",
    "randomisation_checks",
    "training_beliefs",
]
"""What a training reads; the checks fix its date."""


def newest_night(lake: Lake) -> date:
    """Return the newest night whose marts are in the lake."""
    return lake.dates("customer_features")[-1]


def find_training_date(lake: Lake) -> date:
    """Return the date that training is as of: that of the newest randomisation checks.

    A training checks the log first and keeps to that date, whatever nights are ingested meanwhile.

    Raises
    ------
    ContractError
        If nothing was checked yet.
    """
    days = lake.dates("randomisation_checks")
    if not days:
        raise ContractError("the log was not checked yet: materialise randomisation_checks first")
    return days[-1]


def read_snapshot(
    lake: Lake,
    programme: ProgrammeFile,
    training_date: date,
    *,
    since: date | None = None,
    has_beliefs: bool = False,
    has_histories: bool = False,
) -> tuple[Snapshot, ActionSet]:
    """Read every decision matured by a date, from another on if given, and its action set.

    With beliefs where policies are fitted or valued: they may have been learned from them; with
    histories where one of those policies asks of them.
    """
    catalogue_day = [day for day in lake.dates("action_catalogue") if day <= training_date][-1]
    actions = read_actions(lake.read("action_catalogue", catalogue_day))
    rows = read_matured(
        lake, training_date, since=since, has_beliefs=has_beliefs, has_histories=has_histories
    )
    return take_snapshot(rows, programme=programme.read(), actions=actions), actions


def read_matured(
    lake: Lake,
    training_date: date,
    *,
    since: date | None = None,
    has_beliefs: bool = False,
    has_histories: bool = False,
) -> pl.DataFrame:
    """Read matured decisions with outcomes, features and, if asked, beliefs and histories."""
    outcomes = lake.scan("realised_outcomes", until=training_date).filter(
        pl.col("matured_date") <= training_date
    )
    logged = lake.scan("logged_decisions", until=training_date)
    if since is not None:
        logged = logged.filter(pl.col("decision_date") >= since)
    rows = (
        logged.join(
            outcomes.drop("customer_id", "decision_date", "delivered_date"),
            on="decision_id",
            how="inner",
        )
        .join(
            lake.scan("customer_features", until=training_date),
            on=["customer_id", "decision_date"],
            how="inner",
        )
        .collect()
    )
    if has_histories:
        rows = join_histories(rows, read_tokens(lake, until=training_date))
    believed = [day for day in lake.dates("training_beliefs") if day <= training_date]
    if not has_beliefs or not believed:
        return rows
    return join_beliefs(rows, lake.read("training_beliefs", believed[-1]))


def read_tokens(lake: Lake, *, until: date) -> pl.DataFrame:
    """Return what events were about, and since when a decision could know it.

    What was delivered late was not known to the nights before, whatever its own clock says; what a
    night delivers, all its decisions know, those at midnight too.
    """
    delivered = pl.col("decision_date").cast(pl.Datetime("us")) - pl.duration(microseconds=1)
    return (
        lake.scan("customer_tokens", until=until)
        .select(
            "customer_id",
            "kind",
            "item",
            pl.max_horizontal(pl.col("available_at").cast(pl.Datetime("us")), delivered).alias(
                "available_at"
            ),
        )
        .collect()
    )
