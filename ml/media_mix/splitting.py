"""A budget split across channels: the most expected KPI, and how sure the split is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.core.errors import BudgetError
from ml.media_mix.fitting import MediaMix
from ml.media_mix.reading import respond

_STEPS = 200
_SPLITS = 200


@dataclass(frozen=True)
class Split:
    """What C channels should spend a week, steadily; currency.

    ``spend`` brings most on average over the posterior; ``low`` and ``high`` hold 90 % of the
    splits that would be best if a draw were the truth; ``gain`` has the draws' KPI per week over
    ``current`` spend, shape (S,); ``marginal`` what one more currency unit would add there.
    """

    channels: tuple[str, ...]
    current: np.ndarray
    spend: np.ndarray
    low: np.ndarray
    high: np.ndarray
    marginal: np.ndarray
    gain: np.ndarray

    def to_frame(self) -> pl.DataFrame:
        """Return a row per channel."""
        return pl.DataFrame(
            {
                "channel": self.channels,
                "current": self.current,
                "spend": self.spend,
                "low": self.low,
                "high": self.high,
                "marginal": self.marginal,
            }
        )


def split_budget(
    mix: MediaMix,
    *,
    budget: float,
    current: Mapping[str, float],
    most_change: float = 0.5,
) -> Split:
    """Split a weekly budget where it brings most, within reach of what was seen.

    Response curves are S-shaped where slope > 1, so a budget's best split isn't where marginal
    returns are equal: dynamic programming over 200 steps of the budget finds it whatever the shape.

    Parameters
    ----------
    mix
        Fitted.
    budget
        Currency per week, over the channels of ``current``.
    current
        Their spend per week now.
    most_change
        A channel keeps within (1 - most_change) and (1 + most_change) of its current spend:
        further off the curve is prior rather than data.

    Returns
    -------
    Split
        Of the whole budget, to the step.

    Raises
    ------
    BudgetError
        If the budget lies outside what the channels may spend together.
    """
    channels = tuple(each for each in mix.series.channels if each in current)
    now = np.array([current[each] for each in channels], dtype=float)
    lowest, highest = now * (1 - most_change), now * (1 + most_change)
    if not lowest.sum() <= budget <= highest.sum():
        raise BudgetError(
            f"a budget of {budget:,.2f} a week can't be split with each channel within "
            f"{most_change:.0%} of its spend: {lowest.sum():,.2f} to {highest.sum():,.2f} can"
        )
    free = budget - lowest.sum()
    step = free / _STEPS
    grid = lowest + step * np.arange(_STEPS + 1)[:, None]  # (G, C)
    columns = [mix.series.channels.index(each) for each in channels]
    whole = np.zeros((_STEPS + 1, len(mix.series.channels)))
    whole[:, columns] = grid
    curves = respond(mix, whole)[:, :, columns]  # (S, G, C)
    curves = np.where(grid <= highest + step / 2, curves, -np.inf)
    best = _split_grid(curves.mean(axis=0)[None])[0]
    if (lowest + step * best > highest + step).any():
        raise BudgetError(
            f"a budget of {budget:,.2f} a week leaves no split in steps of {step:,.2f}: choose one "
            f"further from {highest.sum():,.2f}"
        )
    rows = np.linspace(0, len(curves) - 1, min(_SPLITS, len(curves))).astype(int)
    drawn = lowest + step * _split_grid(curves[rows])  # (S, C)
    spend = lowest + step * best
    before = np.zeros((2, len(mix.series.channels)))
    before[0, columns], before[1, columns] = now, spend
    added = respond(mix, before)[:, :, columns].sum(axis=2)  # (S, 2)
    return Split(
        channels=channels,
        current=now,
        spend=spend,
        low=np.quantile(drawn, 0.05, axis=0),
        high=np.quantile(drawn, 0.95, axis=0),
        marginal=_slopes(mix, before[1])[columns],
        gain=added[:, 1] - added[:, 0],
    )


def _slopes(mix: MediaMix, spend: np.ndarray) -> np.ndarray:
    """Return the mean curves' slopes at a spend, shape (C,)."""
    width = np.maximum(0.01 * spend, 1e-9)
    pair = respond(mix, np.stack([spend, spend + width])).mean(axis=0)  # (2, C)
    return np.asarray((pair[1] - pair[0]) / width)


def _split_grid(curves: np.ndarray) -> np.ndarray:
    """Return steps by channel that use all steps and bring most: (D, G, C) to (D, C)."""
    n, size, n_channels = curves.shape
    best = curves[:, :, 0]  # (D, G): most that the channels so far bring with g steps
    taken = np.zeros((n, size, n_channels), dtype=int)
    taken[:, :, 0] = np.arange(size)
    for channel in range(1, n_channels):
        reached = np.full((n, size), -np.inf)
        for steps in range(size):
            tried = best[:, : size - steps] + curves[:, [steps], channel]
            is_better = tried > reached[:, steps:]
            reached[:, steps:] = np.where(is_better, tried, reached[:, steps:])
            taken[:, steps:, channel] = np.where(is_better, steps, taken[:, steps:, channel])
        best = reached
    found = np.zeros((n, n_channels), dtype=int)
    left = np.full(n, size - 1)
    for channel in range(n_channels - 1, -1, -1):
        found[:, channel] = taken[np.arange(n), left, channel]
        left = left - found[:, channel]
    return found
