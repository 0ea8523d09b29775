"""Slow, obvious features and outcomes: every row filters the whole event table."""

from datetime import UTC, datetime, time, timedelta

import polars as pl


def features_of(customer_id, day, events, *, knows_the_future=False):
    """Return the trailing windows of one customer strictly before a date.

    ``knows_the_future`` leaves out the second clock, to see what would have leaked.
    """
    at = datetime.combine(day, time(), UTC)
    mine = events.filter(
        (pl.col("customer_id") == customer_id)
        & (pl.col("occurred_at") < at)
        & (knows_the_future | (pl.col("available_at") < at))
    )

    def count(kind, days):
        return mine.filter(
            (pl.col("type") == kind) & (pl.col("occurred_at") >= at - timedelta(days=days))
        )

    def days_of(kind, n_days):
        happened = {(day - at.date()).days for at in count(kind, n_days)["occurred_at"]}
        return sum(1 << (ago - 1) for ago in happened)

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
        **{f"{kind}_days": days_of(kind, 49) for kind in ("visit", "purchase", "redemption")},
        "days_since_visit": last("visit"),
        "days_since_purchase": last("purchase"),
    }


def circumstances_of(customer_id, day, customers, contactability, assignments):
    """Return tenure, channels and recent offers of one customer as of a date."""
    at = datetime.combine(day, time(), UTC)
    versions = customers.filter(
        (pl.col("customer_id") == customer_id)
        & (pl.col("valid_from").dt.date() < day)
        & (pl.col("available_at").dt.date() < day)
    ).sort("valid_from")
    (signed_up,) = versions["signed_up_at"].unique()
    mine = contactability.filter(
        (pl.col("customer_id") == customer_id) & (pl.col("valid_from") < at)
    )
    latest = {row["channel"]: row["is_allowed"] for row in mine.sort("valid_from").to_dicts()}
    offers = assignments.filter(
        (pl.col("customer_id") == customer_id)
        & (pl.col("action_id") != "no_offer")
        & (pl.col("decided_at") < at)
    )

    def decided(is_own, days):
        recent = pl.col("decided_at") >= at - timedelta(days=days)
        return offers.filter(recent & ((pl.col("surface") == "lifecycle") == is_own))["decided_at"]

    def count(is_own, days):
        return len(decided(is_own, days))

    return {
        "attributes": versions["attributes"][-1],
        "tenure_days": (day - signed_up.date()).days,
        "contactable_channels": ",".join(sorted(name for name, ok in latest.items() if ok)),
        "offers_28d": count(True, 28),
        "offer_days": sum(
            1 << (ago - 1) for ago in {(day - each.date()).days for each in decided(True, 28)}
        ),
        "other_offers_7d": count(False, 7),
    }


def lifecycle_of(tenure_days, days_since_purchase):
    """Return the documented lifecycle at thresholds of 28 days."""
    if tenure_days < 28:
        return "activation"
    if days_since_purchase is None or days_since_purchase > 28:
        return "resurrection"
    return "habituation"


def outcome_of(decision, events, horizon_days, margin):
    """Return value and redemption cost of one decision, known by one day after its horizon."""
    start = decision["decided_at"].replace(tzinfo=UTC)
    matured = datetime.combine(decision["decision_date"], time(), UTC) + timedelta(
        days=horizon_days + 1
    )
    window = events.filter(
        (pl.col("occurred_at") >= start)
        & (pl.col("occurred_at") < start + timedelta(days=horizon_days))
        & (pl.col("available_at") < matured)
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
