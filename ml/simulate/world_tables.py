"""What a world's day delivers, as tables of the input contract."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ml.core.actions import ActionSet
from ml.simulate.config import CHANNELS, OTHER_ACTION, OTHER_SURFACE, WorldConfig
from ml.simulate.dynamics import Customers, Happened, Moved, is_due
from ml.simulate.population import Population, describe_customers, describe_reach

EVENT_SCHEMA: dict[str, pl.DataType] = {
    "customer_id": pl.String(),
    "occurred_at": pl.Datetime("us", "UTC"),
    "available_at": pl.Datetime("us", "UTC"),
    "type": pl.String(),
    "amount": pl.Float64(),
    "decision_id": pl.String(),
    "item": pl.String(),
}
_RECEIPT_SCHEMA: dict[str, pl.DataType] = {
    "decision_id": pl.String(),
    "status": pl.String(),
    "realised_action_id": pl.String(),
    "delivered_at": pl.Datetime("us", "UTC"),
}


def at_time(config: WorldConfig, day: int, *, hour: int = 0, minute: int = 0) -> datetime:
    """Return the UTC time of a day."""
    midnight = datetime.combine(config.first_date + timedelta(days=day), time(), UTC)
    return midnight + timedelta(hours=hour, minutes=minute)


def write_decisions(
    config: WorldConfig,
    actions: ActionSet,
    day: int,
    customer_id: pl.Series,
    taken: np.ndarray,
    policy: np.ndarray,
    *,
    arm: str,
    policy_version: str,
) -> pl.DataFrame:
    """Return our programme's decisions of a day; ``World.log_decisions`` explains them."""
    names = np.array(actions.action_ids)
    listed, columns = np.nonzero(policy > 0)
    offsets: Any = pa.array(np.searchsorted(listed, np.arange(len(taken) + 1)).astype(np.int32))
    lists: Any = pa.ListArray
    eligible = lists.from_arrays(offsets, pa.array(names).take(pa.array(columns)))
    vector = lists.from_arrays(offsets, pa.array(policy[listed, columns]))
    return pl.DataFrame({"customer_id": customer_id}).select(
        (pl.lit(f"{at_time(config, day).date()}:") + pl.col("customer_id")).alias("decision_id"),
        "customer_id",
        pl.lit(at_time(config, day, hour=1, minute=30)).alias("decided_at"),
        pl.lit(config.programme.surface).alias("surface"),
        pl.Series("eligible_actions", pl.from_arrow(eligible), dtype=pl.List(pl.String)),
        pl.Series("action_id", names[taken], dtype=pl.String),
        pl.Series("propensity", policy[np.arange(len(taken)), taken]),
        pl.Series("eligible_propensities", pl.from_arrow(vector), dtype=pl.List(pl.Float64)),
        pl.lit(policy_version).alias("policy_version"),
        pl.lit(arm).alias("arm"),
        pl.lit(None, dtype=pl.String).alias("experiment"),
        pl.lit(False).alias("is_exploration"),
    )


def write_customers(
    config: WorldConfig,
    population: Population,
    day: int,
    before: Customers,
    after: Customers,
    moved: Moved,
) -> pl.DataFrame:
    """Return who signed up today, and who begins tomorrow in another tier."""
    people = population.people
    joined = np.flatnonzero(people.signup_day == day)
    changed = np.flatnonzero(moved.moves_tier)
    evening = pl.Series([at_time(config, day, hour=23, minute=55)], dtype=pl.Datetime("us", "UTC"))
    return pl.concat(
        [
            describe_customers(config, population, joined, tier=before.tier[joined]),
            describe_customers(
                config,
                population,
                changed,
                tier=after.tier[changed],
                known_from=evening.new_from_index(0, len(changed)),
            ),
        ]
    )


def write_contactability(
    config: WorldConfig,
    population: Population,
    day: int,
    before: Customers,
    happened: Happened,
    moved: Moved,
) -> pl.DataFrame:
    """Return the channels of who signed up, and those that closed or opened again."""
    people, ids = population.people, population.customer_id
    joined = np.flatnonzero(people.signup_day == day)
    left = np.flatnonzero(happened.opted_out >= 0)
    parts = [
        describe_reach(config, population, joined),
        pl.DataFrame(
            {
                "customer_id": ids[left],
                "channel": np.array(CHANNELS)[happened.opted_out[left]],
            },
            schema_overrides={"channel": pl.String},
        ).select(
            "customer_id",
            "channel",
            pl.lit(at_time(config, day, hour=12)).alias("valid_from"),
            pl.lit(False).alias("is_allowed"),
        ),
    ]
    back = np.flatnonzero(moved.returns)
    for position, channel in enumerate(CHANNELS):
        rows = back[(before.closed[back] >> position) & 1 == 1]
        parts.append(
            pl.DataFrame({"customer_id": ids[rows]}).select(
                "customer_id",
                pl.lit(channel).alias("channel"),
                pl.lit(at_time(config, day, hour=23, minute=55)).alias("valid_from"),
                pl.lit(True).alias("is_allowed"),
            )
        )
    return pl.concat(parts)


def write_other_decisions(
    config: WorldConfig, population: Population, day: int, moved: Moved
) -> pl.DataFrame:
    """Return the other programme's decisions of this evening, with their propensities."""
    other, people = config.other_programme, population.people
    rows = np.flatnonzero(is_due(people, day + 1) & people.has_app & (other is not None))
    share = 0.5 if other is None else other.share
    is_given = moved.is_offered_other[rows]
    names = [config.offers[0].action_id, OTHER_ACTION]
    return pl.DataFrame({"customer_id": population.customer_id[rows]}).select(
        (pl.lit(f"{OTHER_SURFACE}:{at_time(config, day).date()}:") + pl.col("customer_id")).alias(
            "decision_id"
        ),
        "customer_id",
        pl.lit(at_time(config, day, hour=20)).alias("decided_at"),
        pl.lit(OTHER_SURFACE).alias("surface"),
        pl.lit(pl.Series([names])).first().alias("eligible_actions"),
        pl.Series("action_id", np.where(is_given, names[1], names[0]), dtype=pl.String),
        pl.Series("propensity", np.where(is_given, share, 1 - share), dtype=pl.Float64),
        pl.lit(pl.Series([[1 - share, share]])).first().alias("eligible_propensities"),
        pl.lit("free-delivery-1").alias("policy_version"),
        pl.lit(OTHER_SURFACE).alias("arm"),
        pl.lit(None, dtype=pl.String).alias("experiment"),
        pl.lit(True).alias("is_exploration"),
    )


def write_receipts(
    config: WorldConfig,
    actions: ActionSet,
    day: int,
    decisions: pl.DataFrame,
    assigned: np.ndarray,
    realised: np.ndarray,
) -> pl.DataFrame:
    """Return what became of each decision."""
    if not decisions.height:
        return pl.DataFrame(schema=_RECEIPT_SCHEMA)
    rows = decisions["customer_id"].cast(pl.Int64).to_numpy()
    names = np.array(actions.action_ids)
    return pl.DataFrame(
        {
            "decision_id": decisions["decision_id"],
            "status": np.where(realised[rows] == assigned[rows], "delivered", "failed"),
            "realised_action_id": names[realised[rows]],
        }
    ).with_columns(pl.lit(at_time(config, day, hour=2, minute=30)).alias("delivered_at"))


def write_events(
    config: WorldConfig,
    population: Population,
    day: int,
    happened: Happened,
    chance: dict[str, np.ndarray],
    decision_ids: pl.Series,
) -> pl.DataFrame:
    """Return the day's events with both clocks, and what each is about."""
    tokens = population.tokens
    demand = config.demand
    is_here = population.people.signup_day < day
    share = np.where(happened.visits, demand.browsing_share, demand.browsing_at_home)
    share = np.where(is_here & ~happened.buys, share, 0.0).astype(np.float32)
    browses = chance["browses"] < share
    reads = chance["browses"] < share / 2
    vocabulary = tokens.vocabulary
    midnight = np.datetime64(at_time(config, day).replace(tzinfo=None), "us")
    late = config.late_share
    parts = []
    for kind, happens, amount, topic in (
        ("visit", happened.visits, None, None),
        ("purchase", happened.buys, happened.spend, 0),
        ("read", reads, None, 1),
        ("click", browses & ~reads, None, 2),
        ("redemption", happened.redeems, happened.redeemed, None),
    ):
        rows = np.flatnonzero(happens)
        # 02:00 to 23:53; most are known within five minutes, the late ones in one to 3 days.
        seconds = (7_200 + 78_800 * chance["second"][rows].astype(float)).astype(np.int64)
        share = chance["late"][rows].astype(float)
        delay = np.where(
            share < late, 86_400 + share / max(late, 1e-9) * 172_799, 1 + share * 298
        ).astype(np.int64)
        occurred = midnight + seconds * np.timedelta64(1_000_000, "us")
        item = None
        if topic is not None:
            item = vocabulary[tokens.draw(rows, topic, chance["about"][rows].astype(float))]
        parts.append(
            pl.DataFrame(
                {
                    "customer_id": population.customer_id[rows],
                    "occurred_at": occurred,
                    "available_at": occurred + delay * np.timedelta64(1_000_000, "us"),
                    "amount": None if amount is None else amount[rows],
                    "decision_id": decision_ids[rows] if kind == "redemption" else None,
                    "item": item,
                },
                # A day of a small world may see none.
                schema_overrides={
                    "occurred_at": pl.Datetime("us"),
                    "available_at": pl.Datetime("us"),
                    "amount": pl.Float64,
                    "decision_id": pl.String,
                    "item": pl.String,
                },
            ).with_columns(pl.lit(kind).alias("type"))
        )
    utc = pl.col("occurred_at", "available_at").dt.replace_time_zone("UTC")
    return (
        pl.concat(parts)
        .with_columns(utc)
        .select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
    )
