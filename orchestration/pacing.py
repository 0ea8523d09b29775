"""Decide: tonight's budget where finance paces its period, from what is out and what was paid.

Reads: lake logged_decisions, assignment_table, raw_events, night_pace. Writes: nothing.
"""

from datetime import date

import polars as pl

from ml.core.actions import ActionSet
from ml.core.programme import Programme
from ml.pipeline.eligibility import take_audience
from ml.pipeline.pace import PacedNight, list_nights, pace_programme
from orchestration.lake import Lake

_DECIDED = {
    "decision_id": pl.String,
    "decision_date": pl.Date,
    "action_id": pl.String,
    "realised_action_id": pl.String,
}


def read_pace(lake: Lake, programme: Programme, night: date, catalogue: ActionSet) -> PacedNight:
    """Return what a champion may spend on a night.

    Parameters
    ----------
    lake
        With the marts up to the night.
    programme
        With pacing.
    night
        To be decided.
    catalogue
        Tonight's actions.

    Returns
    -------
    PacedNight
        Budget, and how it comes about.

    Raises
    ------
    BudgetError
        If the night lies before the first period.
    """
    first, last = list_nights(night, programme)
    decided = pl.LazyFrame(schema=_DECIDED)
    if any(first <= day <= last for day in lake.dates("logged_decisions")):
        decided = lake.scan("logged_decisions", since=first, until=last).select(*_DECIDED)
    decisions = decided.with_columns(expected_cost_effect=pl.lit(None, dtype=pl.Float64))
    if any(first <= day <= last for day in lake.dates("assignment_table")):
        # Before there is a policy nothing is expected: its rows carry the offers' declared most.
        expected = (
            lake.scan("assignment_table", since=first, until=last)
            .filter(pl.col("arm").is_in(["champion", "challenger"]))
            .select("decision_id", "expected_cost_effect")
        )
        decisions = decided.join(expected, on="decision_id", how="left")
    redemptions = (
        lake.scan("raw_events", since=first, until=night)
        .filter((pl.col("type") == "redemption") & pl.col("decision_id").is_not_null())
        .select("decision_id", "amount", pl.col("occurred_at").dt.date().alias("redeemed_date"))
        .filter(pl.col("redeemed_date") < night)
        .join(decided.drop("realised_action_id"), on="decision_id")
    )
    due = take_audience(lake.read("customer_features", night), programme).filter(
        pl.col("is_due") & ~pl.col("is_holdout")
    )
    return pace_programme(
        decisions.collect(),
        redemptions.collect(),
        catalogue=catalogue,
        programme=programme,
        night=night,
        n_due=due.height,
    )


def read_period(lake: Lake, night: date) -> pl.DataFrame:
    """Return the paced nights of a night's period up to it, decision_date and NightPace columns.

    Parameters
    ----------
    lake
        With the night's pace.
    night
        Paced.

    Returns
    -------
    pl.DataFrame
        In order.
    """
    begin = lake.read("night_pace", night)["period_begin"].item()
    return pl.concat(
        [
            lake.read("night_pace", day).with_columns(decision_date=pl.lit(day))
            for day in lake.dates("night_pace")
            if begin <= day <= night
        ]
    )
