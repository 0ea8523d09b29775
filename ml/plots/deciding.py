"""Figures of a night: who gets what, what was left out, how limits and the period stand."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.core.schemas import LIFECYCLE_NAMES, PRUNING_REASONS
from ml.plots.drawing import BLUE, GREY, ORANGE, draw_note


def plot_assignments(assignments: pl.DataFrame) -> Figure:
    """Plot tonight's customers per action, stacked by lifecycle.

    Parameters
    ----------
    assignments
        AssignmentTable rows.

    Returns
    -------
    Figure
        One bar per action.
    """
    counts = assignments.group_by("action_id", pl.col("lifecycle").alias("part")).len()
    colours = dict(zip(LIFECYCLE_NAMES, (ORANGE, BLUE, GREY), strict=True))
    return _stack_bars(counts, colours, label="customers")


def plot_channels(assignments: pl.DataFrame, catalogue: pl.DataFrame) -> Figure:
    """Plot tonight's offers per channel, stacked by family.

    Parameters
    ----------
    assignments
        AssignmentTable rows.
    catalogue
        ActionCatalogue rows.

    Returns
    -------
    Figure
        One bar per channel; who gets no offer is in none.
    """
    offers = catalogue.filter(~pl.col("is_control")).select(
        "action_id",
        pl.col("channel").fill_null("no channel"),
        pl.col("family").alias("part"),
    )
    counts = (
        assignments.join(offers, on="action_id")
        .group_by(pl.col("channel").alias("action_id"), "part")
        .len()
    )
    if counts.is_empty():
        return draw_note("nobody gets an offer")
    families = sorted(set(counts["part"]))
    colours = {family: f"C{place}" for place, family in enumerate(families)}
    return _stack_bars(counts, colours, label="customers")


def plot_pruning(assignments: pl.DataFrame) -> Figure:
    """Plot why pairs of customer and offer were left out tonight, an offer a row.

    Parameters
    ----------
    assignments
        AssignmentTable rows.

    Returns
    -------
    Figure
        A stacked bar per offer, share of customers; what is left of 1 went to the optimiser.
    """
    counts = (
        assignments.select("pruned_actions", "pruned_reasons")
        .explode("pruned_actions", "pruned_reasons")
        .drop_nulls()
        .group_by(
            pl.col("pruned_actions").alias("action_id"),
            pl.col("pruned_reasons").cast(pl.String).alias("part"),
        )
        .agg(pl.len() / assignments.height)
    )
    if counts.is_empty():
        return draw_note("no pair was pruned")
    present = [each for each in PRUNING_REASONS if each in set(counts["part"])]
    figure = _stack_bars(
        counts,
        {reason: f"C{place}" for place, reason in enumerate(present)},
        label="share of tonight's customers; the rest went to the optimiser",
    )
    figure.axes[0].set_xlim(0, 1)
    return figure


def plot_limits(limits: pl.DataFrame) -> Figure:
    """Plot the expected use of the budget and of every limit, as a share of what it allows.

    Parameters
    ----------
    limits
        LimitUsage rows.

    Returns
    -------
    Figure
        A bar per side of a limit, with its price; 1 is the bound.
    """
    rows = limits.filter(pl.col("bound") > 0)
    if rows.is_empty():
        return draw_note("no budget and no limit binds tonight")
    figure = Figure(figsize=(7.5, 0.45 * rows.height + 1.2), layout="constrained")
    axes = figure.subplots()
    position = np.arange(rows.height)[::-1]
    share = (rows["expected"] / rows["bound"]).to_numpy()
    colours = [ORANGE if price > 0 else BLUE for price in rows["price"]]
    axes.barh(position, share, color=colours, height=0.6)
    for place, row, width in zip(position, rows.to_dicts(), share, strict=True):
        unit = "per unit" if row["measure"] == "cost" else "per offer"
        text = f" {row['expected']:,.1f} of {row['bound']:,.1f}"
        text += f", price {row['price']:.2f} {unit}" if row["price"] > 0 else ""
        axes.text(width, place, text, va="center", fontsize=8)
    axes.axvline(1, color="black", lw=0.8, ls=":")
    axes.set_yticks(position, [f"{row['limit']}, at {row['side']}" for row in rows.to_dicts()])
    axes.set_xlim(0, max(1.6, float(share.max()) * 1.5))
    axes.set_xlabel("expected use over what is allowed (orange: it binds)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_pacing(nights: pl.DataFrame, *, currency: str) -> Figure:
    """Plot how a period's spending stands before each night, and what the nights were allowed.

    Parameters
    ----------
    nights
        decision_date and NightPace columns of one period.
    currency
        Unit.

    Returns
    -------
    Figure
        Left: paid so far and expected of what is out, against the target. Right: a bar per night.
    """
    rows = nights.sort("decision_date")
    dates = rows["decision_date"].to_list()
    begin, end, target = (rows[name][-1] for name in ("period_begin", "period_end", "target"))
    realised, outstanding = rows["realised"].to_numpy(), rows["outstanding"].to_numpy()
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    marker = {"marker": "o", "ms": 3}
    left.plot([begin, end], [0, target], color=GREY, lw=1, ls="--", label="even spending")
    left.axhline(target, color="black", lw=0.8, ls=":", label="the period's budget")
    left.plot(dates, realised, color=BLUE, label="paid so far", **marker)
    left.fill_between(
        dates, realised, realised + outstanding, color=ORANGE, alpha=0.3, label="still to be paid"
    )
    left.plot(dates, realised + outstanding, color=ORANGE, **marker)
    left.set_xlim(begin, end)
    left.set_ylim(bottom=0)
    left.set_ylabel(f"of the period, {currency}")
    left.legend(frameon=False, fontsize=8)
    for steering, colour in (("steered", BLUE), ("capped", ORANGE), ("stopped", GREY)):
        part = rows.filter(pl.col("steering") == steering)
        if part.height:
            right.bar(part["decision_date"].to_list(), part["budget"], color=colour, label=steering)
    right.set_xlim(begin, end)
    right.set_ylabel(f"a night's budget, {currency}")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=30)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _stack_bars(counts: pl.DataFrame, colours: Mapping[str, str], *, label: str) -> Figure:
    """Draw a bar per action, its parts one after the other: columns action_id, part, len."""
    actions = sorted(counts["action_id"].unique().to_list())
    figure = Figure(figsize=(8.5, 0.45 * len(actions) + 1.5), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(actions))
    for name, colour in colours.items():
        part = counts.filter(pl.col("part") == name)
        sizes = dict(zip(part["action_id"], part["len"], strict=True))
        widths = np.array([sizes.get(action, 0) for action in actions], dtype=float)
        axes.barh(actions, widths, left=left, color=colour, label=name, height=0.6)
        left += widths
    axes.set_xlabel(label)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
