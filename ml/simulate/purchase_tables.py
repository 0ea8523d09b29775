"""The Purchase World as tables of the input contract."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from ml.simulate.purchase_world import PurchaseConfig, PurchaseHistory, PurchaseTraits

CHANNEL_OF = {"push": "push", "coupon": "email", "sale": "store"}
_RECEIPT_COLUMNS = ("decision_id", "status", "realised_action_id")


def deliver_purchases(config: PurchaseConfig, history: PurchaseHistory) -> dict[str, pl.DataFrame]:
    """Return the whole world as tables of the input contract.

    Every consumer-day has one logged decision on each of three surfaces, push, coupon and sale.
    The published sale is not random: its rows have propensity 1 and no vector. Visits are at
    12:00 and purchases at 12:30 UTC, known five minutes later; amounts are prices paid.

    Parameters
    ----------
    config, history
        The world.

    Returns
    -------
    dict of pl.DataFrame
        customers, actions, assignments, deliveries (no rows), events, contactability.
    """
    ids = pl.Series("customer_id", np.arange(config.n_customers)).cast(pl.String).str.zfill(8)
    opened = datetime.combine(config.first_date, datetime.min.time(), UTC) - timedelta(days=1)
    coupon = np.array(config.coupon_probability)[history.traits.loyalty.astype(int)]
    return {
        "customers": _write_customers(history.traits, ids, opened),
        "actions": _write_actions(),
        "assignments": pl.concat(
            [
                _write_surface(config, ids, "push", history.push, config.push_probability),
                _write_surface(config, ids, "coupon", history.coupon, coupon),
                _write_surface(config, ids, "sale", history.sale1, history.sale_propensity),
            ]
        ),
        "deliveries": pl.DataFrame(
            schema=dict.fromkeys(_RECEIPT_COLUMNS, pl.String())
            | {"delivered_at": pl.Datetime("us", "UTC")}
        ),
        "events": _write_events(config, history, ids),
        "contactability": ids.to_frame()
        .join(pl.DataFrame({"channel": sorted(CHANNEL_OF.values())}), how="cross")
        .with_columns(valid_from=pl.lit(opened), is_allowed=pl.lit(True)),
    }


def _write_customers(traits: PurchaseTraits, ids: pl.Series, opened: datetime) -> pl.DataFrame:
    """Return one version of every consumer, known from the day before the first."""
    attributes = pl.struct(
        pl.Series("age", traits.age),
        pl.Series("income", traits.income.round(2)),
        pl.Series("age_decade", traits.age_decade),
        pl.Series("income_quintile", traits.income_quintile),
        pl.Series("loyalty", traits.loyalty.astype(int)),
        pl.Series("store", traits.store),
    )
    return ids.to_frame().select(
        "customer_id",
        pl.lit(opened).alias("valid_from"),
        pl.lit(opened).alias("signed_up_at"),
        attributes.struct.json_encode().alias("attributes"),
        pl.lit(opened).alias("available_at"),
    )


def _write_actions() -> pl.DataFrame:
    """Return no-offer and the three actions; the simulation charges nothing for them."""
    surfaces = [None, *CHANNEL_OF]
    return pl.DataFrame(
        {
            "action_id": ["no_offer", *CHANNEL_OF],
            "family": ["none", *CHANNEL_OF],
            "channel": [None, *CHANNEL_OF.values()],
            "face_value": 0.0,
            "message_cost": 0.0,
            "is_control": [surface is None for surface in surfaces],
            "surface": surfaces,
        }
    )


def _write_surface(
    config: PurchaseConfig,
    ids: pl.Series,
    surface: str,
    taken: np.ndarray,
    probability: np.ndarray | float,
) -> pl.DataFrame:
    """Return the decisions of one surface, day by day; ``probability`` is the action's."""
    n_days, n = taken.shape
    treated = np.broadcast_to(probability, taken.shape).ravel()
    is_random = surface != "sale" or config.sale != "published"
    vector = pl.concat_list(1 - pl.col("treated"), "treated")
    is_taken = pl.col("is_taken")
    return pl.DataFrame(
        {
            "customer_id": ids[np.tile(np.arange(n), n_days)],
            "midnight": _midnights(config, np.repeat(np.arange(n_days), n)),
            "is_taken": taken.ravel(),
            "treated": treated,
        }
    ).select(
        pl.format("{}:{}:{}", pl.lit(surface), pl.col("midnight").dt.date(), "customer_id").alias(
            "decision_id"
        ),
        "customer_id",
        (pl.col("midnight") + pl.duration(hours=1, minutes=30)).alias("decided_at"),
        pl.lit(surface).alias("surface"),
        pl.lit(pl.Series([["no_offer", surface]])).first().alias("eligible_actions"),
        pl.when(is_taken).then(pl.lit(surface)).otherwise(pl.lit("no_offer")).alias("action_id"),
        pl.when(is_taken).then("treated").otherwise(1 - pl.col("treated")).alias("propensity"),
        (vector if is_random else pl.lit(None, dtype=pl.List(pl.Float64))).alias(
            "eligible_propensities"
        ),
        pl.lit(f"{config.name}-{config.version}").alias("policy_version"),
        pl.lit(surface).alias("arm"),
        pl.lit(None, dtype=pl.String).alias("experiment"),
        pl.lit(is_random).alias("is_exploration"),
    )


def _write_events(config: PurchaseConfig, history: PurchaseHistory, ids: pl.Series) -> pl.DataFrame:
    """Return visits and purchases in order of time and consumer."""
    happens = np.stack([history.visits, history.purchases], axis=1)  # (n_days, 2, n)
    days, kind, rows = np.nonzero(happens)
    occurred = pl.col("midnight") + pl.duration(minutes=720 + 30 * pl.col("kind"))
    is_purchase = pl.col("kind") == 1
    return pl.DataFrame(
        {
            "customer_id": ids[rows],
            "midnight": _midnights(config, days),
            "kind": kind,
            "price": history.price[days, rows].round(4),
        }
    ).select(
        "customer_id",
        occurred.alias("occurred_at"),
        (occurred + pl.duration(minutes=5)).alias("available_at"),
        pl.when(is_purchase).then(pl.lit("purchase")).otherwise(pl.lit("visit")).alias("type"),
        pl.when(is_purchase).then("price").alias("amount"),
        pl.lit(None, dtype=pl.String).alias("decision_id"),
        pl.lit(None, dtype=pl.String).alias("item"),
    )


def _midnights(config: PurchaseConfig, days: np.ndarray) -> pl.Series:
    """Return the UTC midnights at which days begin."""
    first = np.datetime64(config.first_date, "us")
    return pl.Series(first + days * np.timedelta64(1, "D")).dt.replace_time_zone("UTC")
