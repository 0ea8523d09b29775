"""Figures of agents: how they learned, and what whole journeys under a policy are worth."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.plots.drawing import BLUE, GREY, ORANGE, draw_note

_COLOURS = {"candidate": ORANGE, "champion": BLUE}


def plot_training(curve: pl.DataFrame) -> Figure:
    """Plot an agent's loss while it learned, a line per member.

    Parameters
    ----------
    curve
        member, update, loss (squared error of action values, in the reward's variances).

    Returns
    -------
    Figure
        Against targets that move: it may rise while the values of what follows grow.
    """
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for _, own in curve.group_by("member", maintain_order=True):
        axes.plot(own["update"], own["loss"], color=BLUE, alpha=0.6)
    axes.set_xlabel("gradient steps")
    axes.set_ylabel("squared error, variances of the reward")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_journeys(journeys: pl.DataFrame, *, currency: str) -> Figure:
    """Plot what journeys under each policy are worth: fitted, and doubly robust with intervals.

    Parameters
    ----------
    journeys
        Of ``value_journeys``.
    currency
        Unit.

    Returns
    -------
    Figure
        A point and its interval per policy; crosses are fitted values.
    """
    if journeys["fitted"].is_null().all():
        return draw_note("journeys could not be valued: the table says why")
    figure = Figure(figsize=(7.5, 0.6 * journeys.height + 1.6), layout="constrained")
    axes = figure.subplots()
    position = np.arange(journeys.height)[::-1]
    robust, low, high, fitted = (
        journeys[name].fill_null(float("nan")).to_numpy()
        for name in ("robust", "robust_low", "robust_high", "fitted")
    )
    for at, name, middle, ends in zip(
        position, journeys["policy"], robust, np.stack([low, high], axis=1), strict=True
    ):
        colour = _COLOURS.get(name, GREY)
        axes.plot(ends, [at, at], color=colour, lw=3)
        axes.plot(middle, at, "o", color=colour, ms=9)
    axes.plot(fitted, position - 0.25, "x", color="black", label="fitted Q evaluation alone")
    axes.set_ylim(-0.6, journeys.height - 0.4)
    axes.set_yticks(position, journeys["policy"].to_list())
    axes.set_xlabel(
        f"discounted net value of a journey, {currency} per customer; DR of its first decisions"
    )
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
