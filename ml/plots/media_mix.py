"""Figures of the media mix: the KPI decomposed, returns, response curves, the recommended split."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.plots.drawing import BLUE, GREY, ORANGE


def plot_contributions(contributions: pl.DataFrame, kpi: pl.DataFrame, *, currency: str) -> Figure:
    """Plot what each channel adds to the KPI, week by week, over the base.

    Parameters
    ----------
    contributions
        MediaContributions.
    kpi
        week, kpi: as it was.
    currency
        Of both.

    Returns
    -------
    Figure
        Means stacked, the KPI as a line.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    wide = contributions.pivot("part", index="week", values="mean").sort("week")
    parts = ["base", *sorted(set(wide.columns) - {"week", "base"})]
    shades = ["#d9d9d9", *(_shade(index) for index in range(len(parts) - 1))]
    axes.stackplot(
        wide["week"].to_list(),
        *(wide[part].to_numpy() for part in parts),
        labels=parts,
        colors=shades,
    )
    axes.plot(kpi["week"].to_list(), kpi["kpi"], color="black", linewidth=0.8, label="KPI")
    axes.set_ylabel(f"{currency} a week")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_returns(returns: pl.DataFrame, *, currency: str) -> Figure:
    """Plot average and marginal returns with 90 % intervals, with and without lift tests.

    Parameters
    ----------
    returns
        MediaReturns.
    currency
        Of KPI and spend.

    Returns
    -------
    Figure
        A panel per kind of return.
    """
    channels = returns["channel"].unique().sort().to_list()
    figure = Figure(figsize=(10, 0.8 + 0.5 * len(channels)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("average", "marginal"), strict=True):
        for fit, color, offset in (("without", GREY, 0.15), ("with_lift_tests", BLUE, -0.15)):
            rows = returns.filter((pl.col("kind") == kind) & (pl.col("fit") == fit))
            heights = np.array([channels.index(each) for each in rows["channel"]]) + offset
            low, mean, high = (rows[name].to_numpy() for name in ("low", "mean", "high"))
            if rows.height:
                axes.errorbar(
                    mean,
                    heights,
                    xerr=np.maximum([mean - low, high - mean], 0),
                    fmt="o",
                    markersize=4,
                    color=color,
                    label=fit.replace("_", " "),
                )
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(channels)), channels)
        axes.set_xlabel(f"{kind} return, {currency} of KPI per {currency}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def plot_responses(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    current: Mapping[str, float],
    recommended: Mapping[str, float],
    currency: str,
) -> Figure:
    """Plot what steady spend adds a week, with 90 % bands.

    Parameters
    ----------
    curves
        Channel to spend, shape (G,), and draws of what it adds, shape (S, G).
    current, recommended
        Weekly spend by channel.
    currency
        Of both axes.

    Returns
    -------
    Figure
        A panel per channel; where spend is now, and where the split would have it.
    """
    n_columns = min(3, len(curves))
    n_rows = -(-len(curves) // n_columns)
    figure = Figure(figsize=(10, 2.6 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, (channel, (spend, drawn)) in zip(panels, curves.items(), strict=False):
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        axes.fill_between(spend, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(spend, drawn.mean(axis=0), color=BLUE)
        axes.axvline(current[channel], color=GREY, linewidth=0.8, label="now")
        axes.axvline(recommended[channel], color=ORANGE, linewidth=0.8, label="recommended")
        axes.set_title(channel, fontsize=9)
        axes.set_xlabel(f"spend, {currency} a week", fontsize=8)
        axes.set_ylabel(f"added, {currency} a week", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def plot_split(budgets: pl.DataFrame, *, currency: str) -> Figure:
    """Plot spend now beside the recommended split and the 90 % of best splits.

    Parameters
    ----------
    budgets
        channel, current, recommended, low, high.
    currency
        Of them.
    """
    figure = Figure(figsize=(10, 0.8 + 0.4 * budgets.height), layout="constrained")
    axes = figure.subplots()
    heights = np.arange(budgets.height)
    axes.barh(heights, budgets["current"], color=(0.85, 0.85, 0.85), label="now")
    best, low, high = (budgets[name].to_numpy() for name in ("recommended", "low", "high"))
    axes.errorbar(
        best,
        heights,
        xerr=np.maximum([best - low, high - best], 0),
        fmt="o",
        color=BLUE,
        label="recommended, and 90 % of the splits best in a draw",
    )
    axes.set_yticks(heights, _names(budgets))
    axes.set_xlabel(f"{currency} a week")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _names(budgets: pl.DataFrame) -> Sequence[str]:
    return [
        f"{channel} messages" if is_message else channel
        for channel, is_message in budgets.select("channel", "is_message").iter_rows()
    ]


def _shade(index: int) -> str:
    shades = (
        "#3b6fb6",
        "#e08214",
        "#5aae61",
        "#9970ab",
        "#b2182b",
        "#35978f",
        "#bf812d",
        "#666666",
    )
    return shades[index % len(shades)]
