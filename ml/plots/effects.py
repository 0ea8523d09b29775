"""Figures of effects: the experiment's, the heads', whom they single out."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.core.schemas import LIFECYCLE_NAMES
from ml.plots.drawing import BLUE, GREY, ORANGE, draw_note


def plot_effects(effects: pl.DataFrame, *, outcome: str, currency: str) -> Figure:
    """Plot the experiment's unadjusted effects on an outcome with intervals.

    Parameters
    ----------
    effects
        ExperimentEffects rows.
    outcome
        'spend', 'visit', 'value' or 'cost'.
    currency
        Unit of money.

    Returns
    -------
    Figure
        One point per offer.
    """
    rows = effects.filter(pl.col("outcome") == outcome)
    figure = Figure(figsize=(7.5, 0.5 * rows.height + 1.4), layout="constrained")
    axes = figure.subplots()
    position = np.arange(rows.height)[::-1]
    middle = rows["effect"].to_numpy()
    reach = np.abs(np.vstack([middle - rows["low"], rows["high"] - middle]))
    axes.errorbar(middle, position, xerr=reach, fmt="o", color=BLUE, capsize=3)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(position, rows["action_id"].to_list())
    unit = "share of customers" if outcome == "visit" else f"{currency} per decision"
    axes.set_xlabel(f"effect on {outcome} against no-offer, {unit} (95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_portfolio(effects: pl.DataFrame, *, currency: str) -> Figure:
    """Plot our programme's effect, another's, both together and their interaction.

    Parameters
    ----------
    effects
        PortfolioEffects rows.
    currency
        Unit.

    Returns
    -------
    Figure
        Net value per surface with 95 % intervals; what lies off 0 last can't be added up.
    """
    rows = effects.filter((pl.col("outcome") == "net_value") & pl.col("own").is_not_null())
    if rows.is_empty():
        return draw_note("no other programme, or none that left enough to chance beside ours")
    parts = {
        "own": "ours alone",
        "other": "theirs alone",
        "both": "both",
        "interaction": "both beyond the sum",
    }
    names = [f"{surface}: {label}" for surface in rows["surface"] for label in parts.values()]
    figure = Figure(figsize=(7.5, 0.4 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    place = len(names)
    for row in rows.to_dicts():
        is_nil = row["interaction_low"] <= 0 <= row["interaction_high"]
        for name in parts:
            place -= 1
            is_off = name == "interaction" and not is_nil
            axes.errorbar(
                row[name],
                place,
                xerr=[[row[name] - row[f"{name}_low"]], [row[f"{name}_high"] - row[name]]],
                fmt="o",
                color=ORANGE if is_off else BLUE,
                capsize=3,
            )
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(names) - 1, -1, -1), names)
    axes.set_xlabel(f"net value over neither, {currency} per decision (95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_heads(heads: pl.DataFrame, *, currency: str) -> Figure:
    """Plot mean value effect against mean cost effect of every lifecycle and action.

    Parameters
    ----------
    heads
        Rows of ``describe_heads``.
    currency
        Unit.

    Returns
    -------
    Figure
        One marker per head; hollow where it abstains from personalising value.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for lifecycle, colour in zip(LIFECYCLE_NAMES, (ORANGE, BLUE, GREY), strict=True):
        rows = heads.filter((pl.col("lifecycle") == lifecycle) & pl.col("is_supported"))
        axes.scatter(
            rows["cost_effect"].to_numpy(),
            rows["value_effect"].to_numpy(),
            edgecolors=colour,
            facecolors=[colour if slope > 0 else "none" for slope in rows["value_slope"]],
            label=lifecycle,
            s=45,
        )
        for row in rows.iter_rows(named=True):
            axes.annotate(
                row["action_id"],
                (row["cost_effect"], row["value_effect"]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=7,
            )
    axes.axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
    axes.set_xlabel(f"mean cost effect, {currency} per decision")
    axes.set_ylabel(f"mean value effect, {currency} per decision")
    axes.legend(frameon=False, fontsize=8, title="hollow: constant effect", title_fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_calibration(bins: pl.DataFrame, *, currency: str) -> Figure:
    """Plot realised against predicted effects by fifth of the prediction, value and cost.

    Parameters
    ----------
    bins
        Columns of ``ml.uplift.report.BINS``.
    currency
        Unit.

    Returns
    -------
    Figure
        One line per offer with 95 % intervals; on the diagonal, predictions are right.
    """
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, outcome in zip(figure.subplots(1, 2), ("value", "cost"), strict=True):
        mine = bins.filter(pl.col("outcome") == outcome)
        for (name,), rows in mine.group_by("action_id", maintain_order=True):
            realised = rows["realised"].to_numpy()
            axes.errorbar(
                rows["predicted"].to_numpy(),
                realised,
                yerr=[realised - rows["low"].to_numpy(), rows["high"].to_numpy() - realised],
                marker="o",
                ms=4,
                lw=1,
                elinewidth=0.7,
                label=name,
            )
        axes.axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
        axes.set_xlabel(f"predicted {outcome} effect, {currency} per decision")
        axes.set_ylabel(f"realised {outcome} effect, {currency} per decision")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


def plot_personas(personas: pl.DataFrame, *, currency: str) -> Figure:
    """Plot who is persuaded by each offer: shares, and the value effect that was realised.

    Parameters
    ----------
    personas
        Columns of ``ml.uplift.personas.PERSONAS``.
    currency
        Unit.

    Returns
    -------
    Figure
        Stacked shares, and effects with 95 % intervals.
    """
    names = ("persuadable", "sure thing", "lost cause", "do not disturb")
    colours = dict(zip(names, ("#3a9d5d", BLUE, GREY, ORANGE), strict=True))
    offers = personas["action_id"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(11, 0.45 * len(offers) + 1.6), layout="constrained")
    shares, effects = figure.subplots(1, 2, sharey=True)
    start = [0.0] * len(offers)
    for offset, name in enumerate(names):
        mine = {
            row["action_id"]: row
            for row in personas.filter(pl.col("persona") == name).iter_rows(named=True)
        }
        width = [mine[offer]["share"] if offer in mine else 0.0 for offer in offers]
        shares.barh(range(len(offers)), width, left=start, color=colours[name], label=name)
        start = [a + b for a, b in zip(start, width, strict=True)]
        for position, offer in enumerate(offers):
            if offer in mine:
                row = mine[offer]
                effects.errorbar(
                    row["realised"],
                    position + 0.15 * (offset - 1.5),
                    xerr=[[row["realised"] - row["low"]], [row["high"] - row["realised"]]],
                    color=colours[name],
                    marker="o",
                    ms=4,
                    lw=1,
                )
    shares.set_yticks(range(len(offers)), offers)
    shares.set_xlabel("share of decisions")
    shares.legend(frameon=False, fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    effects.axvline(0, color="black", lw=0.8, ls=":")
    effects.set_xlabel(f"realised value effect, {currency} per decision")
    for axes in (shares, effects):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_support(plan: pl.DataFrame, *, minimum_support: int) -> Figure:
    """Plot how often each action was taken in each lifecycle, and what is proposed for it.

    Parameters
    ----------
    plan
        ActionPlan rows.
    minimum_support
        Rows below which an action is not offered.

    Returns
    -------
    Figure
        One panel per lifecycle, one bar per action, logarithmic.
    """
    lifecycles = plan["lifecycle"].unique().sort().to_list()
    names = plan["action_id"].unique().sort(descending=True).to_list()
    figure = Figure(
        figsize=(3.2 * len(lifecycles) + 1.6, 0.3 * len(names) + 1.4), layout="constrained"
    )
    if not lifecycles:
        figure.text(0.1, 0.5, "no decision with logged propensities yet")
        return figure
    colours = {"keep": BLUE, "add": ORANGE, "drop": GREY}
    panels = figure.subplots(1, len(lifecycles), sharey=True, squeeze=False)[0]
    for axes, lifecycle in zip(panels, lifecycles, strict=True):
        for row in plan.filter(pl.col("lifecycle") == lifecycle).iter_rows(named=True):
            position = names.index(row["action_id"])
            colour = colours[row["proposal"]]
            axes.barh(position, max(row["n_rows"], 1), color=colour, height=0.7)
            if row["needed_decisions"] and row["mean_propensity"]:
                needed = row["needed_decisions"] * row["mean_propensity"]
                axes.plot(needed, position, marker="|", color="black", markersize=9)
        axes.axvline(minimum_support, color="black", lw=0.8, ls=":")
        axes.set_xscale("log")
        axes.set_title(lifecycle, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    figure.supxlabel(
        "decisions seen (blue keep, grey drop, orange add); mark: needed to tell half the best "
        "effect; dotted: least that is offered",
        fontsize=8,
    )
    return figure
