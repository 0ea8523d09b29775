"""Validate: what came in and matured against what was expected, and the night on a page.

Reads: lake tables of the night and the newest evaluation. Writes: lake monitoring, reports.
"""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
from matplotlib.figure import Figure

from ml.core.actions import read_actions
from ml.core.programme import Programme
from ml.core.schemas import Monitoring
from ml.pipeline.monitor import (
    CUSUM_LIMIT,
    TOLERANCE,
    Watched,
    compare_effects,
    monitor_night,
    take_newest_policy,
    take_recent,
    trace_costs,
)
from ml.plots.deciding import plot_assignments, plot_limits, plot_pacing, plot_pruning
from ml.plots.policies import plot_budget_curve, plot_policy_values
from ml.plots.watching import plot_cost_watch, plot_effect_watch
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.champions import read_last_change
from orchestration.files import write_text
from orchestration.lake import Lake, describe
from orchestration.pacing import read_period
from orchestration.page import Panel, render_page
from orchestration.partitions import NIGHTS
from orchestration.resources import ProgrammeFile, Reports
from orchestration.summary import describe_champion, summarise_night

_WATCHED_DAYS = 120
_WEEK = timedelta(days=7)


@dg.asset(
    deps=["assignment_table", "realised_outcomes", "logged_decisions", "customer_features"],
    partitions_def=NIGHTS,
    group_name="validate",
    kinds={"polars"},
    check_specs=[
        dg.AssetCheckSpec(
            "nothing_drifted",
            asset="monitoring",
            description="No signal of drift or of a broken log is above its limit.",
        )
    ],
    description=explain(Monitoring),
)
def monitoring(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Compare what came in and what matured with what was expected."""
    night = date.fromisoformat(context.partition_key)
    settings = programme.read()
    watched = _read_watched(lake, night)
    signals = monitor_night(watched, programme=settings)
    receipt = lake.write(signals, "monitoring", night, schema=Monitoring)
    alarms = signals.filter("is_alarm")
    for row in alarms.iter_rows(named=True):
        context.log.warning(
            f"alarm: {row['signal']}, {row['subject']}: {row['statistic']:.2f}, "
            f"limit {row['limit']:.2f}"
        )
    costs = _plot_costs(watched, settings)
    return dg.MaterializeResult(
        metadata={
            **describe([receipt], Monitoring),
            "alarms": tabulate(alarms),
            "signals": tabulate(signals),
            "costs": embed_figure(costs),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_drifted",
                passed=alarms.is_empty(),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"alarms": tabulate(alarms)},
            )
        ],
    )


@dg.asset(
    deps=["assignment_table", "ingestion_counts", "quarantine", "evaluation_record", "monitoring"],
    partitions_def=NIGHTS,
    group_name="validate",
    description="What was delivered, decided and proven, in words, and as a page with plots.",
)
def nightly_summary(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile, reports: Reports
) -> dg.MaterializeResult:
    """Write the night's page; its words are the asset's metadata too."""
    night = date.fromisoformat(context.partition_key)
    settings = programme.read()
    text = summarise_night(lake, settings, night)
    watched = _read_watched(lake, night)
    table = lake.read("assignment_table", night)
    panels = [
        Panel("Offers of the night", plot_assignments(table)),
        Panel("Why pairs were left out", plot_pruning(table)),
        Panel("Budget and limits", plot_limits(lake.read("limit_usage", night))),
        Panel(
            "Cost of offers, realised against expected",
            _plot_costs(watched, settings),
        ),
    ]
    if lake.has("night_pace", night):
        panels.append(
            Panel(
                "The period's budget",
                plot_pacing(read_period(lake, night), currency=settings.currency),
            )
        )
    if watched.reference is not None:
        effects = compare_effects(
            take_recent(watched.matured),
            watched.reference,
            control=watched.catalogue.action_ids[0],
        )
        panels += [
            Panel(
                f"Effects on {outcome}, now against then",
                plot_effect_watch(effects, outcome=outcome, unit=unit),
            )
            for outcome, unit in (("value", settings.currency), ("visit", "share"))
        ]
    valued = [day for day in lake.dates("policy_values") if day <= night]
    if valued:
        values = lake.read("policy_values", valued[-1])
        panels.append(
            Panel(
                f"Policies on the evaluation customers, {valued[-1]}",
                plot_policy_values(values, currency=settings.currency),
            )
        )
    traced = [day for day in lake.dates("budget_curve") if day <= night]
    if traced:
        curve = lake.read("budget_curve", traced[-1])
        panels.append(
            Panel(
                f"Net value at other budgets, {traced[-1]}",
                plot_budget_curve(
                    curve, budget=settings.budget_per_decision, currency=settings.currency
                ),
            )
        )
    page = Path(reports.root) / f"{night}.html"
    write_text(
        render_page(
            title=f"{settings.name}, night of {night}",
            standing=list(describe_champion(lake, settings, night)),
            summary=text,
            signals=lake.read("monitoring", night),
            panels=panels,
        ),
        page,
    )
    return dg.MaterializeResult(
        metadata={
            "summary": dg.MetadataValue.md(f"```\n{text}\n```"),
            "page": dg.MetadataValue.path(str(page)),
        }
    )


def _plot_costs(watched: Watched, settings: Programme) -> Figure:
    """Plot realised against expected cost under the policy that decided last."""
    return plot_cost_watch(
        trace_costs(take_newest_policy(watched.matured), catalogue=watched.catalogue),
        tolerance=TOLERANCE,
        limit=CUSUM_LIMIT,
        currency=settings.currency,
    )


def _read_watched(lake: Lake, night: date) -> Watched:
    """Read what a night's monitoring compares."""
    since = night - timedelta(days=_WATCHED_DAYS)
    decided = (
        lake.scan("assignment_table", until=night)
        .filter(pl.col("decision_date") > since)
        .select(
            "decision_id",
            "customer_id",
            "decision_date",
            "arm",
            "action_id",
            "propensity",
            "eligible_actions",
            "eligible_propensities",
            "policy_version",
            "expected_cost_effect",
        )
    )
    matured = (
        lake.scan("realised_outcomes", until=night)
        .filter(pl.col("is_matured") & (pl.col("decision_date") > since))
        .select("decision_id", "visits", "value", "cost")
    )
    due = lake.scan("customer_features", until=night).filter(pl.col("is_due"))
    change = read_last_change(lake)
    fitted_date = None if change is None else change["fitted_date"]
    catalogue = lake.read("action_catalogue", night)
    then = _newest(lake, "action_catalogue", fitted_date)
    return Watched(
        delivered=lake.scan("logged_decisions", until=night)
        .filter(pl.col("delivered_date") == night)
        .collect(),
        matured=decided.join(matured, on="decision_id").sort("decision_id").collect(),
        this_week=due.filter(pl.col("decision_date") > night - _WEEK).collect(),
        last_week=due.filter(
            pl.col("decision_date").is_between(night - 2 * _WEEK, night - _WEEK, closed="right")
        ).collect(),
        reference=_newest(lake, "experiment_effects", fitted_date),
        catalogue=read_actions(catalogue),
        fitted=None if then is None else read_actions(then),
    )


def _newest(lake: Lake, table: str, until: date | None) -> pl.DataFrame | None:
    """Return the newest partition up to a date, None without one."""
    days = [day for day in lake.dates(table) if until is not None and day <= until]
    return lake.read(table, days[-1]) if days else None
