"""Figures of monitoring: what came in and matured against what was expected."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ml.plots.drawing import BLUE, GREY, ORANGE, draw_note


def plot_cost_watch(
    costs: pl.DataFrame, *, tolerance: float, limit: float, currency: str
) -> Figure:
    """Plot what offers cost by night against what was expected, and each offer's sums.

    Parameters
    ----------
    costs
        action_id, decision_date, n_offers, cost, expected_cost, standard_error, rise, fall.
    tolerance
        Relative, shaded.
    limit
        Of the sums.
    currency
        Unit.

    Returns
    -------
    Figure
        Left: realised cost per offer with 95 % intervals, expected cost as a line. Right: an
        offer's sum above its expectation upwards, below it downwards; beyond a line it alarms.
    """
    if costs.is_empty():
        return draw_note("no offer of this policy has matured yet")
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_costs(left, costs, tolerance=tolerance, currency=currency)
    for (name,), rows in costs.group_by("action_id", maintain_order=True):
        nights = rows["decision_date"].to_list()
        rise, fall = rows["rise"].to_numpy(), rows["fall"].to_numpy()
        right.plot(nights, np.where(rise >= fall, rise, -fall), lw=1.2, label=name)
    for line in (-limit, limit):
        right.axhline(line, color=ORANGE, lw=1, ls="--")
    right.set_ylabel("sum beyond tolerance (CUSUM)")
    right.legend(frameon=False, fontsize=7)
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=30)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_costs(axes: Axes, costs: pl.DataFrame, *, tolerance: float, currency: str) -> None:
    """Draw all offers' realised and expected cost per offer, night by night."""
    nights = (
        costs.group_by("decision_date")
        .agg(
            pl.col("n_offers", "cost", "expected_cost").sum(),
            (pl.col("standard_error") ** 2).sum().sqrt(),
        )
        .sort("decision_date")
    )
    dates, n_offers = nights["decision_date"].to_list(), nights["n_offers"].to_numpy()
    expected = nights["expected_cost"].to_numpy() / n_offers
    axes.fill_between(
        dates, (1 - tolerance) * expected, (1 + tolerance) * expected, color=GREY, alpha=0.25
    )
    axes.plot(dates, expected, color=GREY, label="expected, with tolerance")
    axes.errorbar(
        dates,
        nights["cost"].to_numpy() / n_offers,
        yerr=1.96 * nights["standard_error"].to_numpy() / n_offers,
        fmt="o",
        ms=4,
        color=BLUE,
        capsize=2,
        label="realised, 95 % interval",
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"cost per offer, {currency}")
    axes.legend(frameon=False, fontsize=8)


def plot_effect_watch(effects: pl.DataFrame, *, outcome: str, unit: str) -> Figure:
    """Plot each offer's recent effect beside that of its experiment.

    Parameters
    ----------
    effects
        action_id, outcome, effect, standard_error, reference, reference_error.
    outcome
        Which.
    unit
        Of the effect.

    Returns
    -------
    Figure
        Two points per offer with 95 % intervals.
    """
    rows = effects.filter(pl.col("outcome") == outcome)
    if rows.is_empty():
        return draw_note("too few offers have matured to compare")
    figure = Figure(figsize=(7.5, 0.45 * max(rows.height, 2) + 1.2), layout="constrained")
    axes = figure.subplots()
    position = np.arange(rows.height)[::-1]
    for shift, colour, label, middle, error in (
        (0.14, GREY, "its experiment", "reference", "reference_error"),
        (-0.14, BLUE, "the last weeks", "effect", "standard_error"),
    ):
        axes.errorbar(
            rows[middle],
            position + shift,
            xerr=1.96 * rows[error].to_numpy(),
            fmt="o",
            ms=4,
            color=colour,
            capsize=2,
            label=label,
        )
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(position, rows["action_id"].to_list())
    axes.set_xlabel(f"effect on {outcome} against no-offer, {unit} (95 % intervals)")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
