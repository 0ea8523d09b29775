"""A world's media: weekly spend, carry-over, saturation, and what they add to demand."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from ml.core.errors import ContractError
from ml.simulate.config import Media, MediaChannel

_WEEK = 7


@dataclass(frozen=True)
class MediaHistory:
    """Weeks from ``first_week`` (a number of weeks before day 0, negative) on.

    ``spend`` has shape (weeks, channels), currency per week; ``lift`` shape (weeks,), log-odds of
    a visit, centred on the mean of the weeks before day 0; ``walk_in`` shape (7 weeks,), currency
    per day.
    """

    media: Media
    first_week: int
    spend: np.ndarray
    lift: np.ndarray
    walk_in: np.ndarray

    def lift_on(self, day: int) -> float:
        """Return the log-odds that media add to a visit on a day.

        Raises
        ------
        ContractError
            If the day lies outside of the weeks that were drawn.
        """
        week = day // _WEEK - self.first_week
        if not 0 <= week < len(self.lift):
            last = _WEEK * (len(self.lift) + self.first_week)
            raise ContractError(f"day {day} has no media: the world's weeks end before day {last}")
        return float(self.lift[week])


def carry_over(spend: np.ndarray, *, kept: float) -> np.ndarray:
    """Return geometric carry-over, normalised: (1 - kept) sum_l kept^l spend_{t-l}.

    Parameters
    ----------
    spend : shape (weeks,), currency
        From the first week; nothing was spent before it.
    kept
        Share kept from week to week, in [0, 1).

    Returns
    -------
    np.ndarray
        Shape (weeks,), currency.
    """
    stock, level = np.empty(len(spend)), 0.0
    for week, amount in enumerate(spend):
        level = kept * level + (1 - kept) * amount
        stock[week] = level
    return stock


def saturate(stock: np.ndarray, *, half: float, slope: float) -> np.ndarray:
    """Return Hill saturation stock^slope / (stock^slope + half^slope), in [0, 1)."""
    powered = stock**slope
    return powered / (powered + half**slope)


def lift_of(channel: MediaChannel, spend: np.ndarray) -> np.ndarray:
    """Return a channel's uncentred log-odds lift per week, shape (weeks,)."""
    stock = carry_over(spend, kept=channel.carry_over)
    return channel.lift * saturate(stock, half=channel.half_saturation, slope=channel.slope)


def draw_media(
    media: Media, *, seed: int, n_weeks: int, weekday: tuple[float, ...]
) -> MediaHistory:
    """Draw media from ``history_weeks`` before day 0 on.

    Parameters
    ----------
    media
        Channels.
    seed
        Of the world.
    n_weeks
        Weeks from day 0 on. More weeks leave the earlier ones as they are.
    weekday
        Log-odds of the weekdays, Monday first.

    Returns
    -------
    MediaHistory
        The same for the same seed.
    """
    spend = np.column_stack(
        [
            _draw_spend(channel, media, n_weeks, [seed, 30, index])
            for index, channel in enumerate(media.channels)
        ]
    )
    lift = np.sum(
        [lift_of(channel, spend[:, index]) for index, channel in enumerate(media.channels)], axis=0
    )
    lift = lift - lift[: media.history_weeks].mean()
    noise = np.random.default_rng([seed, 31]).normal(0, media.walk_in_log_sd, (len(lift), _WEEK))
    walk_in = media.walk_in_sales * np.exp(lift[:, None] + np.array(weekday) + noise)
    return MediaHistory(media, -media.history_weeks, spend, lift, walk_in.ravel())


def deliver_media(
    history: MediaHistory, first_date: date, *, from_day: int, until_day: int
) -> dict[str, pl.DataFrame]:
    """Return the contract's media tables for days in [from_day, until_day).

    A week's spend is delivered in equal daily parts.

    Parameters
    ----------
    history
        Of the world.
    first_date
        Day 0.
    from_day, until_day
        Which days.

    Returns
    -------
    dict
        'media_spend' and 'media_kpi'.
    """
    days = np.arange(from_day, until_day)
    weeks = days // _WEEK - history.first_week
    dates = pl.Series("day", [first_date + timedelta(days=int(day)) for day in days], dtype=pl.Date)
    spend = pl.concat(
        [
            pl.DataFrame(
                {
                    "day": dates,
                    "channel": [channel.channel] * len(days),
                    "spend": (history.spend[weeks, index] / _WEEK).round(2),
                    "impressions": (
                        history.spend[weeks, index] / _WEEK / channel.cost_per_thousand * 1000
                    ).round(0),
                }
            )
            for index, channel in enumerate(history.media.channels)
        ]
    )
    walk_in = history.walk_in[days - _WEEK * history.first_week]
    return {
        "media_spend": spend,
        "media_kpi": pl.DataFrame({"day": dates, "kpi": walk_in.round(2)}),
    }


def _draw_spend(channel: MediaChannel, media: Media, n_weeks: int, key: list[int]) -> np.ndarray:
    """Return weekly spend; later weeks are drawn after earlier ones, so the past stays."""
    weeks = media.history_weeks + n_weeks
    size = np.random.default_rng([*key, 0]).normal(0, channel.spend_log_sd, weeks)
    is_on_air = np.random.default_rng([*key, 1]).random(weeks) >= channel.off_air_share
    return channel.weekly_spend * np.exp(size) * is_on_air
