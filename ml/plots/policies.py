"""Figures of policies: what they are worth, what the gate saw."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.plots.drawing import BLUE, GREY, ORANGE, draw_note


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
        ORANGE if name == "candidate" else BLUE if name == "champion" else GREY
        for name in rows["policy"]
    ]
    axes.barh(position, middle, color=colours, height=0.6)
    axes.errorbar(middle, position, xerr=reach, fmt="none", ecolor="black", capsize=3, lw=1)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(position, rows["policy"].to_list())
    axes.set_xlabel(f"net value over no-offer, {currency} per decision (DR, 95 % interval)")
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
    colours = {"champion": BLUE, "candidate": ORANGE}
    for name in curve["policy"].unique(maintain_order=True):
        colour = colours.get(name, GREY)
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
        color=BLUE if is_proven else GREY,
        lw=3,
        solid_capstyle="butt",
    )
    axes.plot(row["net_value_difference"], 0, "o", color="black", ms=5)
    for place, each in enumerate(parts, start=1):
        does_harm = each["high"] < -harm_tolerance
        colour = ORANGE if does_harm else GREY
        axes.plot([each["difference"], each["high"]], [place, place], color=colour, lw=2)
        axes.plot(each["difference"], place, "o", color=colour, ms=5)
        axes.plot(each["high"], place, "<", color=colour, ms=5)
        names.append(f"{each['lifecycle']}, at most (90 %)")
    axes.axvline(0, color="black", lw=0.8)
    axes.axvline(-harm_tolerance, color=ORANGE, lw=0.8, ls=":")
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


def plot_groups(values: pl.DataFrame, *, currency: str) -> Figure:
    """Plot what policies give and bring to each group of the protected attributes.

    Parameters
    ----------
    values
        GroupValues rows.
    currency
        Unit.

    Returns
    -------
    Figure
        Left: share of decisions with an offer; middle: cost; right: net value, with 95 % intervals.
    """
    if values.is_empty():
        return draw_note("no attribute is declared protected, or its groups are too small")
    groups = values.select("attribute", "group").unique(maintain_order=True)
    figure = Figure(figsize=(11, 0.55 * groups.height + 1.5), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    position = np.arange(groups.height)[::-1]
    for shift, name, colour in ((0.14, "champion", BLUE), (-0.14, "candidate", ORANGE)):
        rows = groups.join(
            values.filter(pl.col("policy") == name), on=["attribute", "group"], how="left"
        )
        panels[0].plot(rows["offer_share"], position + shift, "o", ms=4, color=colour, label=name)
        for axes, reward in zip(panels[1:], ("cost", "net_value"), strict=True):
            middle = rows[reward].to_numpy()
            reach = np.abs(
                np.vstack([middle - rows[f"{reward}_low"], rows[f"{reward}_high"] - middle])
            )
            axes.errorbar(
                middle, position + shift, xerr=reach, fmt="o", ms=4, color=colour, capsize=2
            )
    for axes, label in zip(
        panels,
        (
            "share with an offer",
            f"cost, {currency} per decision",
            f"net value over no-offer, {currency}",
        ),
        strict=True,
    ):
        axes.set_xlabel(label)
        axes.axvline(0, color="black", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(position, [f"{row[0]}: {row[1]}" for row in groups.iter_rows()])
    panels[0].legend(frameon=False, fontsize=8)
    return figure
