"""What a fitted media mix says: contributions, returns, response curves, predictions."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.media_mix import model
from ml.media_mix.fitting import Draws, MediaMix
from ml.media_mix.model import Design, over_draws
from ml.media_mix.series import MediaSeries

_MORE = 0.01


@dataclass(frozen=True)
class Returns:
    """Draws of the returns on spend, shape (S, C), KPI currency per currency.

    ``average``: what all the channel's spend added, over that spend; ``marginal``: what 1 % more
    in every week would add, over that 1 %.
    """

    channels: tuple[str, ...]
    average: np.ndarray
    marginal: np.ndarray

    def to_frame(self, *, share: float = 0.9) -> pl.DataFrame:
        """Return mean and equal-tailed interval by channel and kind."""
        rows = []
        for kind, drawn in (("average", self.average), ("marginal", self.marginal)):
            low, high = np.quantile(drawn, [(1 - share) / 2, (1 + share) / 2], axis=0)
            rows += [
                {
                    "channel": channel,
                    "kind": kind,
                    "mean": float(drawn[:, index].mean()),
                    "low": float(low[index]),
                    "high": float(high[index]),
                }
                for index, channel in enumerate(self.channels)
            ]
        return pl.DataFrame(rows)


def read_returns(mix: MediaMix) -> Returns:
    """Return draws of each channel's average and marginal return."""
    design = mix.design
    average, marginal = compute_returns(design, mix.draws)
    return Returns(mix.series.channels, average, marginal)


def compute_returns(design: Design, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Return average and marginal returns, each shape (S, C)."""
    more = design._replace(lagged=design.lagged * (1 + _MORE))
    with_spend = _contributions(design, draws).sum(axis=1)  # (S, C)
    with_more = _contributions(more, draws).sum(axis=1)
    nothing = _contributions(design._replace(lagged=0 * design.lagged), draws).sum(axis=1)
    return (
        (with_spend - nothing) / design.total,
        (with_more - with_spend) / (_MORE * design.total),
    )


def read_contributions(mix: MediaMix, *, share: float = 0.9) -> pl.DataFrame:
    """Decompose the KPI.

    Returns
    -------
    pl.DataFrame
        week, part (a channel, or 'base'), mean, low, high: currency per week.
    """
    sd = mix.scales.kpi_sd
    added = _contributions(mix.design, mix.draws) * sd  # (S, T, C)
    base = over_draws(model.expect_base, mix.design, mix.draws) * sd + mix.scales.kpi_mean
    parts = {"base": base} | {
        channel: added[:, :, index] for index, channel in enumerate(mix.series.channels)
    }
    frames = []
    for part, drawn in parts.items():
        low, high = np.quantile(drawn, [(1 - share) / 2, (1 + share) / 2], axis=0)
        frames.append(
            pl.DataFrame({"week": mix.series.weeks, "mean": drawn.mean(axis=0)}).with_columns(
                pl.lit(part).alias("part"), pl.Series("low", low), pl.Series("high", high)
            )
        )
    return pl.concat(frames).select("week", "part", "mean", "low", "high")


def respond(mix: MediaMix, spend: np.ndarray) -> np.ndarray:
    """Return what steady weekly spend adds a week, draws of response curves.

    Parameters
    ----------
    mix
        Fitted.
    spend : shape (G, C), currency per week
        Grid of each channel.

    Returns
    -------
    np.ndarray
        Shape (S, G, C), currency per week.
    """
    kept = {name: mix.draws[name][:, None] for name in ("half", "slope", "beta")}  # (S, 1, C)
    powered = (spend / mix.scales.spend) ** kept["slope"]
    shape = powered / (powered + kept["half"] ** kept["slope"])
    return np.asarray(mix.scales.kpi_sd * kept["beta"] * shape)


def predict_kpi(mix: MediaMix, series: MediaSeries, *, seed: int = 0) -> np.ndarray:
    """Return draws of every week's KPI, noise included: shape (S, T), currency.

    Parameters
    ----------
    mix
        Fitted on the first weeks of ``series``, or on all.
    series
        Spend and controls of the weeks to predict too; their KPI isn't looked at.
    seed
        Of the noise.
    """
    design = model.make_design(series, mix.scales, n_harmonics=mix.settings.n_harmonics)
    expected = over_draws(model.expect_kpi, design, mix.draws)
    noise = np.random.default_rng(seed).standard_normal(expected.shape)
    scaled = expected + noise * mix.draws["sigma"][:, None]
    return np.asarray(scaled * mix.scales.kpi_sd + mix.scales.kpi_mean)


def _contributions(design: Design, draws: Draws) -> np.ndarray:
    return over_draws(model.expect_contributions, design, draws)
