"""Figures of results; each returns a matplotlib figure that the caller saves or logs."""

import io

import matplotlib
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.core.schemas import LIFECYCLE_NAMES

matplotlib.use("Agg")

_BLUE, _ORANGE, _GREY = "#2f6db5", "#d9822b", "#8a8f98"


def plot_policy_values(values: pl.DataFrame, *, currency: str) -> Figure:
    """Plot each policy's net value over no-offer, DR with 95 % intervals.

    Parameters
    ----------
    values
        PolicyValues rows.
    currency
        Unit.

    Returns
    -------
    Figure
        One bar per policy.
    """
    rows = values.filter(
        (pl.col("estimator") == "dr")
        & (pl.col("reward") == "net_value")
        & (pl.col("policy") != "no_offer")
    )
    figure = Figure(figsize=(7.5, 0.55 * rows.height + 1.4), layout="constrained")
    axes = figure.subplots()
    position = np.arange(rows.height)[::-1]
    middle = rows["incremental_value"].to_numpy()
    reach = np.abs(np.vstack([middle - rows["incremental_low"], rows["incremental_high"] - middle]))
    colours = [
        _ORANGE if name == "candidate" else _BLUE if name == "champion" else _GREY
        for name in rows["policy"]
    ]
    axes.barh(position, middle, color=colours, height=0.6)
    axes.errorbar(middle, position, xerr=reach, fmt="none", ecolor="black", capsize=3, lw=1)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(position, rows["policy"].to_list())
    axes.set_xlabel(f"net value over no-offer, {currency} per decision (DR, 95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


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
    axes.errorbar(middle, position, xerr=reach, fmt="o", color=_BLUE, capsize=3)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(position, rows["action_id"].to_list())
    unit = "share of customers" if outcome == "visit" else f"{currency} per decision"
    axes.set_xlabel(f"effect on {outcome} against no-offer, {unit} (95 % interval)")
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
    for lifecycle, colour in zip(LIFECYCLE_NAMES, (_ORANGE, _BLUE, _GREY), strict=True):
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
    counts = assignments.group_by("action_id", "lifecycle").len()
    actions = sorted(counts["action_id"].unique().to_list())
    figure = Figure(figsize=(7.5, 0.5 * len(actions) + 1.6), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(actions))
    for lifecycle, colour in zip(LIFECYCLE_NAMES, (_ORANGE, _BLUE, _GREY), strict=True):
        part = counts.filter(pl.col("lifecycle") == lifecycle)
        numbers = dict(zip(part["action_id"], part["len"], strict=True))
        widths = np.array([numbers.get(action, 0) for action in actions], dtype=float)
        axes.barh(actions, widths, left=left, color=colour, label=lifecycle, height=0.6)
        left += widths
    axes.set_xlabel("customers")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def render_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


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
    colours = dict(zip(names, ("#3a9d5d", _BLUE, _GREY, _ORANGE), strict=True))
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
    colours = {"keep": _BLUE, "add": _ORANGE, "drop": _GREY}
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


def plot_cost_watch(costs: pl.DataFrame, *, tolerance: float, currency: str) -> Figure:
    """Plot what offers cost by night against what was expected of them.

    Parameters
    ----------
    costs
        decision_date, n_offers, cost, expected_cost, standard_error.
    tolerance
        Relative, shaded.
    currency
        Unit.

    Returns
    -------
    Figure
        Realised cost per offer with 95 % intervals, expected cost as a line.
    """
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    if costs.is_empty():
        axes.text(0.02, 0.5, "no offer of this policy has matured yet", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    nights, n_offers = costs["decision_date"].to_list(), costs["n_offers"].to_numpy()
    expected = costs["expected_cost"].to_numpy() / n_offers
    axes.fill_between(
        nights, (1 - tolerance) * expected, (1 + tolerance) * expected, color=_GREY, alpha=0.25
    )
    axes.plot(nights, expected, color=_GREY, label="expected, with tolerance")
    axes.errorbar(
        nights,
        costs["cost"].to_numpy() / n_offers,
        yerr=1.96 * costs["standard_error"].to_numpy() / n_offers,
        fmt="o",
        ms=4,
        color=_BLUE,
        capsize=2,
        label="realised, 95 % interval",
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"cost per offer, {currency}")
    axes.tick_params(axis="x", rotation=30)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


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
    figure = Figure(figsize=(7.5, 0.45 * max(rows.height, 2) + 1.2), layout="constrained")
    axes = figure.subplots()
    if rows.is_empty():
        axes.text(0.02, 0.5, "too few offers have matured to compare", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    position = np.arange(rows.height)[::-1]
    for shift, colour, label, middle, error in (
        (0.14, _GREY, "its experiment", "reference", "reference_error"),
        (-0.14, _BLUE, "the last weeks", "effect", "standard_error"),
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


def plot_budget_curve(curve: pl.DataFrame, *, budget: float, currency: str) -> Figure:
    """Plot what policies are worth at other budgets.

    Parameters
    ----------
    curve
        BudgetCurve rows.
    budget
        The programme's, marked.
    currency
        Unit.

    Returns
    -------
    Figure
        A line with a band per policy.
    """
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("champion", _BLUE), ("candidate", _ORANGE)):
        rows = curve.filter(pl.col("policy") == name).sort("budget_per_decision")
        budgets = rows["budget_per_decision"].to_numpy()
        axes.plot(
            budgets, rows["incremental_net_value"], marker="o", ms=4, color=colour, label=name
        )
        axes.fill_between(
            budgets, rows["low"].to_numpy(), rows["high"].to_numpy(), color=colour, alpha=0.15
        )
    axes.axvline(budget, color="black", lw=0.8, ls=":", label="the programme's budget")
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xlabel(f"budget, {currency} per decision")
    axes.set_ylabel(f"net value over no-offer,\n{currency} per decision (DR, 95 %)")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_gate(record: pl.DataFrame, *, harm_tolerance: float, currency: str) -> Figure:
    """Plot what the gate judged: the paired difference, and each lifecycle's.

    Parameters
    ----------
    record
        One EvaluationRecord row.
    harm_tolerance
        How much a lifecycle may lose, marked.
    currency
        Unit.

    Returns
    -------
    Figure
        An interval for all; per lifecycle its difference and one-sided upper bound.
    """
    row = record.row(0, named=True)
    parts = row["lifecycle_differences"]
    figure = Figure(figsize=(7.5, 0.5 * (len(parts) + 1) + 1.4), layout="constrained")
    axes = figure.subplots()
    names = [f"all, {row['level']:.1%} interval"]
    is_proven = row["difference_low"] > 0
    axes.plot(
        [row["difference_low"], row["difference_high"]],
        [0, 0],
        color=_BLUE if is_proven else _GREY,
        lw=3,
        solid_capstyle="butt",
    )
    axes.plot(row["net_value_difference"], 0, "o", color="black", ms=5)
    for place, each in enumerate(parts, start=1):
        does_harm = each["high"] < -harm_tolerance
        colour = _ORANGE if does_harm else _GREY
        axes.plot([each["difference"], each["high"]], [place, place], color=colour, lw=2)
        axes.plot(each["difference"], place, "o", color=colour, ms=5)
        axes.plot(each["high"], place, "<", color=colour, ms=5)
        names.append(f"{each['lifecycle']}, at most (90 %)")
    axes.axvline(0, color="black", lw=0.8)
    axes.axvline(-harm_tolerance, color=_ORANGE, lw=0.8, ls=":")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    verdict = "passed" if row["is_passed"] else "refused"
    axes.set_title(
        f"Candidate v{row['candidate_version']} against champion v{row['champion_version']}: "
        f"{verdict}",
        fontsize=10,
        loc="left",
    )
    axes.set_xlabel(f"net value, candidate minus champion, {currency} per decision")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
