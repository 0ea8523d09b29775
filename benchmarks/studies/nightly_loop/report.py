"""What the lives came to: a table, a plot, and one line of figures."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from scipy import stats

LAST_NIGHTS = 10
OVERSPEND = 1.01
_COLOURS = {
    "system": "#2f6db5",
    "oracle": "#3a9d5d",
    "frozen_champion": "#7b5ea7",
    "lifecycle_rule": "#d9822b",
    "random": "#8a8f98",
    "never_send": "#000000",
}


def add_increments(nights: pl.DataFrame) -> pl.DataFrame:
    """Add each night's net value beyond never-send's, same seed, same chance."""
    base = nights.filter(pl.col("contender") == "never_send").select(
        "seed", "night", pl.col("net_value").alias("base")
    )
    joined = nights.join(base, on=["seed", "night"], maintain_order="left")
    return joined.with_columns((pl.col("net_value") - pl.col("base")).alias("increment")).drop(
        "base"
    )


def summarise(nights: pl.DataFrame, *, promotions: int, refusals: int) -> dict[str, float]:
    """Return the study's figures.

    Ratios are means over seeds; their lower bounds are one end of a 95 % t-interval over seeds,
    where there are at least two.

    Parameters
    ----------
    nights
        Rows of every seed, contender and night, with ``increment``.
    promotions, refusals
        Of the system's gates, all seeds together.

    Returns
    -------
    dict
        Flat names; a share or ratio without unit, money per night in the programme's currency.
    """
    late = nights.filter(pl.col("night") > pl.col("night").max() - LAST_NIGHTS)
    figures: dict[str, float] = {}
    measures = {
        "oracle_share": _ratio(nights, "increment", "oracle"),
        "oracle_share_last_10": _ratio(late, "increment", "oracle"),
        "vs_rule_ratio": _ratio(nights, "net_value", "lifecycle_rule"),
        "vs_random_ratio": _ratio(nights, "net_value", "random"),
        "vs_frozen_ratio": _ratio(nights, "net_value", "frozen_champion"),
        "vs_frozen_last_10_ratio": _ratio(late, "net_value", "frozen_champion"),
    }
    for name, ratios in measures.items():
        figures[name] = float(ratios.mean())
        if len(ratios) > 1:
            figures[f"{name}_low"] = _lower(ratios)
    system = nights.filter(pl.col("contender") == "system")
    is_over = system["decision_cost"] > OVERSPEND * system["budget"]
    return figures | {
        "overspend_share": float(is_over.to_numpy().mean()),
        "budget_used_share": float(
            system["decision_cost"].to_numpy().sum() / system["budget"].to_numpy().sum()
        ),
        "promotions": promotions,
        "refusals": refusals,
        "seeds": nights["seed"].n_unique(),
        "nights": nights["night"].n_unique(),
    }


def tabulate(nights: pl.DataFrame) -> str:
    """Return the table of contenders: money per night, means over seeds."""
    per_night = pl.col("value", "cost", "net_value", "increment", "offers", "opt_outs").mean()
    late = pl.col("night") > pl.col("night").max() - LAST_NIGHTS
    is_over = pl.col("decision_cost") > OVERSPEND * pl.col("budget")
    table = nights.group_by("contender", maintain_order=True).agg(
        per_night,
        pl.col("increment").filter(late).mean().alias("last_10"),
        (pl.col("decision_cost").sum() / pl.col("budget").sum()).alias("used"),
        is_over.mean().alias("over"),
    )
    lines = [
        f"{'per night, EUR':<17}{'value':>10}{'cost':>9}{'net':>10}{'over none':>11}"
        f"{'last 10':>9}{'offers':>8}{'opt-outs':>9}{'budget':>8}{'over':>6}"
    ]
    lines += [
        f"{row['contender']:<17}{row['value']:>10,.0f}{row['cost']:>9,.0f}"
        f"{row['net_value']:>10,.0f}{row['increment']:>+11,.1f}{row['last_10']:>+9,.1f}"
        f"{row['offers']:>8,.0f}{row['opt_outs']:>9,.1f}{row['used']:>8.0%}{row['over']:>6.0%}"
        for row in table.iter_rows(named=True)
    ]
    return "\n".join(lines)


def plot_lives(nights: pl.DataFrame, path: Path) -> None:
    """Draw increments per night and cumulated, and the budget's use, means over seeds."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    per_night, cumulated, spent = figure.subplots(1, 3)
    for name, colour in _COLOURS.items():
        mine = nights.filter(pl.col("contender") == name)
        if mine.is_empty():
            continue
        wide = mine.pivot("seed", index="night", values="increment").sort("night")
        matrix = wide.drop("night").to_numpy()  # (nights, seeds)
        night = wide["night"].to_numpy()
        total = matrix.cumsum(axis=0)
        error = (
            1.96 * total.std(axis=1, ddof=1) / np.sqrt(matrix.shape[1])
            if (matrix.shape[1] > 1)
            else np.zeros(len(night))
        )
        # A champion that was never replaced lies exactly on the system's line: dots show both.
        style = {"color": colour, "lw": 1.6, "ls": ":" if name == "frozen_champion" else "-"}
        per_night.plot(night, matrix.mean(axis=1), **style)
        cumulated.plot(night, total.mean(axis=1), label=name, **style)
        cumulated.fill_between(
            night, total.mean(axis=1) - error, total.mean(axis=1) + error, color=colour, alpha=0.15
        )
        used = mine.group_by("night", maintain_order=True).agg(
            (pl.col("decision_cost") / pl.col("budget")).mean().alias("used")
        )
        spent.plot(used["night"], used["used"], **style)
    spent.axhline(1, color="black", lw=0.8, ls=":")
    for axes, label in (
        (per_night, "net value over never-send, EUR per night"),
        (cumulated, "the same, cumulated (band: 95 % over seeds)"),
        (spent, "cost of the night's decisions over its budget"),
    ):
        axes.set_xlabel("night")
        axes.set_title(label, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    cumulated.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def write_line(figures: dict[str, float]) -> str:
    """Return the figures as one JSON line."""
    return json.dumps({name: round(value, 4) for name, value in figures.items()})


def _ratio(nights: pl.DataFrame, column: str, other: str) -> np.ndarray:
    """Return the system's total over another contender's, per seed."""
    totals = nights.group_by("seed", "contender").agg(pl.col(column).sum())
    mine, theirs = (
        totals.filter(pl.col("contender") == name).sort("seed")[column].to_numpy()
        for name in ("system", other)
    )
    return mine / theirs


def _lower(ratios: np.ndarray) -> float:
    """Return the lower end of the mean's 95 % t-interval."""
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    return float(ratios.mean() - stats.t.ppf(0.975, len(ratios) - 1) * error)
