"""Consent and contactability: which channels are open tonight, from the delivered rows themselves.

Features hold the channels as of the decision date's midnight. What a customer said since, as far
as it is delivered, closes channels too: a hard rule, checked apart from the features.
"""

from datetime import date, datetime, timedelta

import polars as pl

_DAY = timedelta(days=1)


def find_open_channels(contactability: pl.LazyFrame, *, night: date) -> pl.DataFrame:
    """Return the channels that each customer may be contacted on through a night's whole day.

    A channel is open if its latest row says so at the decision date's midnight, and no row that
    holds from later that day closes it.

    Parameters
    ----------
    contactability
        Accepted contract rows in order of delivery: of two that hold from the same time, the
        later one counts.
    night
        The decision date.

    Returns
    -------
    pl.DataFrame
        customer_id, contactable_channels (comma-separated, in order); customers without an open
        channel are absent.
    """
    midnight = datetime(night.year, night.month, night.day)
    since = pl.col("valid_from").dt.replace_time_zone(None)
    key = ["customer_id", "channel"]
    rows = contactability.filter(since < midnight + _DAY).select(
        *key, "is_allowed", since.alias("since")
    )
    standing = (
        rows.filter(pl.col("since") < midnight)
        .sort("since", maintain_order=True)
        .unique(key, keep="last", maintain_order=True)
    )
    closing = rows.filter((pl.col("since") >= midnight) & ~pl.col("is_allowed"))
    return (
        standing.filter(pl.col("is_allowed"))
        .join(closing, on=key, how="anti")
        .sort("channel")
        .group_by("customer_id", maintain_order=True)
        .agg(pl.col("channel").str.join(",").alias("contactable_channels"))
        .collect()
    )


def close_channels(features: pl.DataFrame, open_channels: pl.DataFrame) -> pl.DataFrame:
    """Return the features with only those channels that are open in both.

    Parameters
    ----------
    features
        customer_features rows.
    open_channels
        As of ``find_open_channels``.

    Returns
    -------
    pl.DataFrame
        The same rows in the same order.
    """
    both = (
        features.select("customer_id", built="contactable_channels")
        .join(open_channels, on="customer_id", how="left", maintain_order="left")
        .select(
            pl.col("built")
            .str.split(",")
            .list.set_intersection(pl.col("contactable_channels").fill_null("").str.split(","))
            .list.sort()
            .list.join(",")
            .alias("contactable_channels")
        )
    )
    return features.with_columns(both["contactable_channels"])
