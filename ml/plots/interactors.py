"""What drives effects: interactors' effects with intervals, and the policy tree."""

from typing import Protocol

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ml.plots.drawing import BLUE, GREY, ORANGE, draw_note

_LEAF = -1


class Tree(Protocol):
    """What is drawn of a tree of N nodes: ``ml.interactors.policy_tree.PolicyTree``."""

    @property
    def feature(self) -> np.ndarray:
        """Of each node, -1 in a leaf; (N,)."""
        ...

    @property
    def left(self) -> np.ndarray:
        """Where yes leads; (N,)."""
        ...

    @property
    def right(self) -> np.ndarray:
        """Where no leads; (N,)."""
        ...

    def name_question(self, node: int) -> str:
        """Return the question of an inner node, answered yes to the left."""
        ...


def plot_interactors(interactors: pl.DataFrame, *, outcome: str, unit: str) -> Figure:
    """Draw effects where an outcome's interactors are active and where not, 95 % intervals.

    Parameters
    ----------
    interactors
        ``Interactors`` rows.
    outcome, unit
        Which of them, and the effect's unit.

    Returns
    -------
    Figure
        One line per interactor.
    """
    selected = interactors.filter((pl.col("outcome") == outcome) & pl.col("is_selected"))
    rows = selected.filter(pl.col("difference").is_not_null())
    if selected.is_empty():
        return draw_note(f"Nothing was found that effects on {outcome} depend on")
    if rows.is_empty():
        return draw_note("Too few customers are left to measure what was found")
    figure = Figure(figsize=(8, 1.1 + 0.45 * rows.height), layout="constrained")
    axes = figure.subplots()
    place = np.arange(rows.height)[::-1]
    for label, low, high, colour, shift in (
        ("effect_active", "active_low", "active_high", BLUE, 0.12),
        ("effect_inactive", "inactive_low", "inactive_high", GREY, -0.12),
    ):
        middle = rows[label].to_numpy()
        reach = np.vstack([middle - rows[low].to_numpy(), rows[high].to_numpy() - middle])
        axes.errorbar(
            middle,
            place + shift,
            xerr=np.maximum(reach, 0),
            fmt="o",
            color=colour,
            markersize=4,
            label=label.removeprefix("effect_"),
        )
    axes.axvline(0, color=ORANGE, linewidth=0.8)
    axes.set_yticks(place, rows["name"].to_list())
    axes.set_xlabel(f"effect of the offer on {outcome}, {unit} a decision (95 %)")
    axes.legend(frameon=False, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_tree(tree: Tree, leaves: pl.DataFrame, *, currency: str) -> Figure:
    """Draw a policy tree: its questions, and at its leaves what each kind of offer adds.

    Parameters
    ----------
    tree
        Nodes; yes is upwards.
    leaves
        leaf, option, value_effect, cost_effect: per decision over no offer.
    currency
        Of the effects.

    Returns
    -------
    Figure
        From left to right; the option of the largest net effect first and bold.
    """
    depth, place = _lay_out(tree)
    n_leaves = int((tree.feature == _LEAF).sum())
    figure = Figure(figsize=(11, 0.8 + 0.62 * n_leaves), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    for node in depth:
        here = (depth[node], place[node])
        if tree.feature[node] == _LEAF:
            _write_leaf(axes, here, leaves.filter(pl.col("leaf") == node))
            continue
        for child in (int(tree.left[node]), int(tree.right[node])):
            axes.plot(
                [here[0], depth[child]], [here[1], place[child]], color=GREY, linewidth=1, zorder=0
            )
        axes.text(
            *here,
            tree.name_question(node),
            fontsize=8,
            ha="center",
            va="center",
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": BLUE},
        )
    axes.set_xlim(-0.5, max(depth.values()) + 1.4)
    axes.set_title(
        f"yes upwards; at the right value added - cost, {currency} a decision",
        fontsize=9,
        loc="left",
    )
    return figure


def _lay_out(tree: Tree) -> tuple[dict[int, float], dict[int, float]]:
    """Return each node's column and line, leaves one below the other."""
    depth: dict[int, float] = {}
    place: dict[int, float] = {}
    n_placed = 0

    def visit(node: int, column: int) -> float:
        nonlocal n_placed
        depth[node] = column
        if tree.feature[node] == _LEAF:
            place[node] = -float(n_placed)
            n_placed += 1
        else:
            ends = [visit(int(child), column + 1) for child in (tree.left[node], tree.right[node])]
            place[node] = sum(ends) / 2
        return place[node]

    visit(0, 0)
    return depth, place


def _write_leaf(axes: Axes, here: tuple[float, float], own: pl.DataFrame) -> None:
    """Write a leaf's options, the best first."""
    net = own.with_columns(net=pl.col("value_effect") - pl.col("cost_effect")).sort(
        "net", descending=True, nulls_last=True
    )
    lines = []
    for row in net.iter_rows(named=True):
        known = "not known" if row["value_effect"] is None else f"{row['value_effect']:.2f}"
        amounts = f": {known} - {row['cost_effect']:.2f}"
        lines.append(row["option"] + ("" if row["option"] == "no offer" else amounts))
    axes.text(here[0], here[1] + 0.16, lines[0], fontsize=8, weight="bold", va="center")
    axes.text(here[0], here[1] - 0.16, ";  ".join(lines[1:]), fontsize=7, color=GREY, va="center")
