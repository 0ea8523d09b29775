"""Slow, obvious features and outcomes: every row filters the whole event table."""

from datetime import UTC, datetime, time, timedelta

import polars as pl


def features_of(customer_id, day, events):
    """Return the trailing windows of one customer strictly before a date."""
    at = datetime.combine(day, time(), UTC)
    mine = events.filter(
        (pl.col("customer_id") == customer_id)
        & (pl.col("occurred_at") < at)
        & (pl.col("available_at") < at)
    )

    def count(kind, days):
        return mine.filter(
            (pl.col("type") == kind) & (pl.col("occurred_at") >= at - timedelta(days=days))
        )

    def last(kind):
        latest = mine.filter(pl.col("type") == kind)["occurred_at"].max()
        return None if latest is None else (day - latest.date()).days

    windows = {
        f"{name}_{days}d": count(kind, days).height
        for name, kind in (("visits", "visit"), ("purchases", "purchase"))
        for days in (7, 28, 90)
    }
    spend = {f"spend_{days}d": count("purchase", days)["amount"].sum() for days in (7, 28, 90)}
    return {
        **windows,
        **spend,
        "redemptions_28d": count("redemption", 28).height,
        "days_since_visit": last("visit"),
        "days_since_purchase": last("purchase"),
    }


def outcome_of(decision, events, horizon_days, margin):
    """Return value and redemption cost of one decision over the learning horizon."""
    start = decision["decided_at"].replace(tzinfo=UTC)
    window = events.filter(
        (pl.col("occurred_at") >= start)
        & (pl.col("occurred_at") < start + timedelta(days=horizon_days))
    )
    bought = window.filter(
        (pl.col("customer_id") == decision["customer_id"]) & (pl.col("type") == "purchase")
    )
    redeemed = window.filter(
        (pl.col("decision_id") == decision["decision_id"]) & (pl.col("type") == "redemption")
    )
    return {
        "value": bought["amount"].sum() * margin,
        "redemption_cost": redeemed["amount"].sum(),
    }
