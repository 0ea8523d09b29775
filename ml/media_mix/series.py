"""Weekly spend and KPI, and tests that measured what a change of spend adds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from ml.core.errors import ContractError

_WEEK = 7


@dataclass(frozen=True)
class MediaSeries:
    """T weeks of C channels, with what else moves the KPI.

    ``weeks`` are Mondays without gaps; ``spend``, shape (T, C), and ``kpi``, shape (T,), in
    currency per week; ``controls``, shape (T, R), in units of their own, none of them caused by
    spend.
    """

    channels: tuple[str, ...]
    weeks: tuple[date, ...]
    spend: np.ndarray
    kpi: np.ndarray
    control_names: tuple[str, ...]
    controls: np.ndarray

    @property
    def n_weeks(self) -> int:
        """Number of weeks, T."""
        return len(self.weeks)

    def first(self, n_weeks: int) -> "MediaSeries":
        """Return the first weeks."""
        return MediaSeries(
            self.channels,
            self.weeks[:n_weeks],
            self.spend[:n_weeks],
            self.kpi[:n_weeks],
            self.control_names,
            self.controls[:n_weeks],
        )

    def keep_channels(self, kept: np.ndarray) -> "MediaSeries":
        """Return the series of some channels, a mask of shape (C,)."""
        names = tuple(name for name, is_kept in zip(self.channels, kept, strict=True) if is_kept)
        return replace(self, channels=names, spend=self.spend[:, kept])


@dataclass(frozen=True)
class LiftTest:
    """What an experiment measured: the KPI with a channel's spend, less the KPI without it.

    Attributes
    ----------
    channel
        Whose spend the experiment took away.
    weeks : shape (T,), bool
        Weeks in which spend was taken away.
    measured : shape (T,), bool
        Weeks whose KPI was compared.
    share
        Share of the channel's spend that was taken away, in (0, 1].
    lift, standard_error
        Currency over all measured weeks.
    """

    channel: str
    weeks: np.ndarray
    measured: np.ndarray
    share: float
    lift: float
    standard_error: float

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        faults = [
            (not np.any(self.weeks), "took spend away in no week"),
            (not np.any(self.measured), "measured no week"),
            (not 0 < self.share <= 1, "share must lie in (0, 1]"),
            (not self.standard_error > 0, "standard_error must be positive"),
            (not np.isfinite(self.lift), "lift must be a number"),
        ]
        broken = [fault for is_broken, fault in faults if is_broken]
        if broken:
            raise ContractError(f"lift test of '{self.channel}': {'; '.join(broken)}")


def sum_weeks(
    media_daily: pl.DataFrame, *, controls: pl.DataFrame | None = None, until: date | None = None
) -> MediaSeries:
    """Sum days to whole weeks from Monday on.

    Parameters
    ----------
    media_daily
        Columns day, channel, spend, kpi: a row per day and channel, the day's KPI in each.
    controls
        Column week (Monday) and one per control; weeks that lack one are refused.
    until
        Days from here on are left out; a week that is not whole is left out.

    Returns
    -------
    MediaSeries
        Channels in alphabetical order.

    Raises
    ------
    ContractError
        If a day lacks a channel or its KPI between the first and the last, or a control a week.
    """
    days = media_daily if until is None else media_daily.filter(pl.col("day") < until)
    channels = tuple(days["channel"].unique().sort())
    if days.height == 0:
        raise ContractError("media_daily holds no day: deliver media_spend and media_kpi")
    wide = days.pivot("channel", index=["day", "kpi"], values="spend").sort("day")
    wide = wide.with_columns(pl.col("day").dt.truncate("1w").alias("week"))
    wide = wide.filter(pl.len().over("week") == _WEEK)
    faulty = wide.filter(pl.any_horizontal(pl.all().is_null()))
    if faulty.height:
        day, lacks = faulty["day"][0], [each for each in wide.columns if faulty[each][0] is None]
        raise ContractError(f"media_daily, {day}: {', '.join(lacks)} missing; 0 is a spend too")
    weekly = wide.group_by("week").agg(pl.col("kpi", *channels).sum()).sort("week")
    if weekly.height < 2:
        raise ContractError("media_daily holds less than two whole weeks")
    _refuse_gaps(weekly["week"].to_list())
    names: tuple[str, ...] = ()
    table = np.zeros((weekly.height, 0))
    if controls is not None:
        names = tuple(each for each in controls.columns if each != "week")
        joined = weekly.select("week").join(controls, on="week", how="left").sort("week")
        lacking = joined.filter(pl.any_horizontal(pl.col(names).is_null()))
        if lacking.height:
            raise ContractError(f"week {lacking['week'][0]} lacks a control of {', '.join(names)}")
        table = joined.select(names).to_numpy().astype(float)
    return MediaSeries(
        channels=channels,
        weeks=tuple(weekly["week"]),
        spend=weekly.select(channels).to_numpy(),
        kpi=weekly["kpi"].to_numpy(),
        control_names=names,
        controls=table,
    )


def _refuse_gaps(weeks: Sequence[date]) -> None:
    for before, after in pairwise(weeks):
        if after - before != timedelta(days=_WEEK):
            raise ContractError(
                f"media_daily has no whole week between {before} and {after}: deliver the missing "
                "days, with spend 0 where nothing was spent"
            )
