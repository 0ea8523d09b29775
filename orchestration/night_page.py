"""The night's page, section by section: what was decided, what it rests on, what is watched.

Reads: lake tables of the night and the newest of each training. Writes: nothing.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from matplotlib.figure import Figure

from ml.core.programme import Programme
from ml.pipeline.monitor import (
    CUSUM_LIMIT,
    TOLERANCE,
    Watched,
    compare_effects,
    take_newest_policy,
    take_recent,
    trace_costs,
)
from ml.plots.deciding import (
    plot_assignments,
    plot_channels,
    plot_limits,
    plot_pacing,
    plot_pruning,
)
from ml.plots.effects import plot_calibration
from ml.plots.interactors import plot_interactors
from ml.plots.media_mix import plot_returns, plot_split
from ml.plots.policies import plot_budget_curve, plot_gate, plot_groups, plot_policy_values
from ml.plots.watching import plot_cost_watch, plot_effect_watch
from ml.plots.world_model import plot_plausibility
from orchestration.interactor_page import name_unit
from orchestration.lake import Lake
from orchestration.pacing import read_period
from orchestration.page import Panel, Section

_OLD_DAYS = 42
"""What was found longer ago is said to be old."""


def collect_sections(
    lake: Lake, programme: Programme, night: date, watched: Watched, reports: Path
) -> list[Section]:
    """Return the sections of a sealed night's page; a part that was never made has none.

    Parameters
    ----------
    lake
        With the night's tables.
    programme
        Currency, budget, what is protected.
    night
        Sealed.
    watched
        What monitoring compared.
    reports
        Folder of the other pages, linked where they are there.
    """
    return [
        Section(title="Decided", panels=list(_show_decisions(lake, programme, night))),
        *_show_policies(lake, programme, night),
        Section(title="Watched", panels=list(_show_watched(watched, programme))),
        *_show_groups(lake, programme, night, reports),
        *_show_interactors(lake, programme, night, reports),
        *_show_plausibility(lake, programme, night),
        *_show_media(lake, programme, night),
    ]


def plot_costs(watched: Watched, programme: Programme) -> Figure:
    """Plot realised against expected cost under the policy that decided last."""
    return plot_cost_watch(
        trace_costs(take_newest_policy(watched.matured), catalogue=watched.catalogue),
        tolerance=TOLERANCE,
        limit=CUSUM_LIMIT,
        currency=programme.currency,
    )


def _show_decisions(lake: Lake, programme: Programme, night: date) -> Iterator[Panel]:
    table, catalogue = lake.read("assignment_table", night), lake.read("action_catalogue", night)
    yield Panel("Offers by lifecycle", plot_assignments(table))
    yield Panel("Offers by channel", plot_channels(table, catalogue))
    yield Panel("Why pairs were left out", plot_pruning(table))
    yield Panel("Budget and limits", plot_limits(lake.read("limit_usage", night)))
    if lake.has("night_pace", night):
        pace = plot_pacing(read_period(lake, night), currency=programme.currency)
        yield Panel("The period's budget", pace)


def _show_policies(lake: Lake, programme: Programme, night: date) -> Iterator[Section]:
    judged = _find(lake, "evaluation_record", night)
    if judged is None:
        return
    record = lake.read("evaluation_record", judged)
    reasons = "; ".join(record["reasons"][0])
    verdict = "passed" if record["is_passed"][0] else f"refused: {reasons}"
    panels = [
        Panel(
            "Policies on customers that no training saw",
            plot_policy_values(lake.read("policy_values", judged), currency=programme.currency),
        ),
        Panel(
            "What the gate judged",
            plot_gate(record, harm_tolerance=programme.harm_tolerance, currency=programme.currency),
        ),
    ]
    if lake.has("budget_curve", judged):
        curve = plot_budget_curve(
            lake.read("budget_curve", judged),
            budget=programme.budget_per_decision,
            currency=programme.currency,
        )
        panels.append(Panel("Net value at other budgets", curve))
    learned = _find(lake, "calibration", night)
    if learned is not None:
        bins = plot_calibration(lake.read("calibration", learned), currency=programme.currency)
        panels.append(Panel(f"Realised against predicted effects, training of {learned}", bins))
    gate = f"Gate {record['gate_number'][0]}, {judged}: {verdict}."
    yield Section(title="Proven", note=gate, panels=panels)


def _show_watched(watched: Watched, programme: Programme) -> Iterator[Panel]:
    yield Panel("Cost of offers, realised against expected", plot_costs(watched, programme))
    if watched.reference is None:
        return
    effects = compare_effects(
        take_recent(watched.matured), watched.reference, control=watched.catalogue.action_ids[0]
    )
    for outcome, unit in (("value", programme.currency), ("visit", "share")):
        figure = plot_effect_watch(effects, outcome=outcome, unit=unit)
        yield Panel(f"Effects on {outcome}, now against then", figure)


def _show_groups(lake: Lake, programme: Programme, night: date, reports: Path) -> Iterator[Section]:
    valued = _find(lake, "group_values", night)
    protected = [each.name for each in programme.attributes if each.is_protected]
    if valued is None or not protected:
        return
    note = f"No model sees {', '.join(protected)}; what correlates with it, models do see."
    figure = plot_groups(lake.read("group_values", valued), currency=programme.currency)
    yield Section(
        title="By protected group",
        note=note,
        panels=[Panel("Offers given, and what they bring", figure)],
        link=_link(reports, f"fairness-{valued}.html", "Every group, with intervals"),
    )


def _show_interactors(
    lake: Lake, programme: Programme, night: date, reports: Path
) -> Iterator[Section]:
    found = _find(lake, "interactors", night)
    if found is None:
        return
    rows = lake.read("interactors", found)
    outcomes = rows.filter("is_selected")["outcome"].unique(maintain_order=True).to_list()
    panels = [
        Panel(
            f"Effects on {outcome}",
            plot_interactors(rows, outcome=outcome, unit=name_unit(outcome, programme.currency)),
        )
        for outcome in outcomes
    ]
    yield Section(
        title="What effects depend on",
        note=_date_note("Searched", found, night)
        + ("" if outcomes else " Nothing was found that they depend on."),
        panels=panels,
        link=_link(reports, f"interactors-{found}.html", "The search, and its policy tree"),
    )


def _show_plausibility(lake: Lake, programme: Programme, night: date) -> Iterator[Section]:
    if not lake.has("beliefs", night):
        return
    beliefs = lake.read("beliefs", night)
    if beliefs.is_empty():
        return
    due = lake.read("customer_features", night).select("customer_id", "lifecycle")
    panels = [
        Panel(
            f"Customers by plausibility, world model {version}",
            plot_plausibility(rows, least=programme.least_plausibility),
        )
        for (version,), rows in beliefs.join(due, on="customer_id")
        .sort("version")
        .group_by("version", maintain_order=True)
    ]
    yield Section(
        title="How plausible customers are to the world model",
        note="Customers below the marked plausibility are left to exploration by policies that "
        "were trained with that limit.",
        panels=panels,
    )


def _show_media(lake: Lake, programme: Programme, night: date) -> Iterator[Section]:
    fitted = _find(lake, "media_returns", night)
    if fitted is None:
        return
    returns, budgets = (lake.read(name, fitted) for name in ("media_returns", "channel_budgets"))
    yield Section(
        title="Media mix",
        note=_date_note("Fitted", fitted, night),
        panels=[
            Panel("What channels return", plot_returns(returns, currency=programme.currency)),
            Panel("The same spend, split anew", plot_split(budgets, currency=programme.currency)),
        ],
    )


def _find(lake: Lake, table: str, night: date) -> date | None:
    """Return the newest partition of a table up to a night."""
    days = [day for day in lake.dates(table) if day <= night]
    return days[-1] if days else None


def _date_note(done: str, day: date, night: date) -> str:
    age = (night - day).days
    return f"{done} on {day}" + (f", {age} days ago." if age > _OLD_DAYS else ".")


def _link(reports: Path, page: str, text: str) -> tuple[str, str] | None:
    """Return a page's address beside this one and what it is, None where it isn't there."""
    return (page, text) if (reports / page).exists() else None
