"""Validate: what came in and matured against what was expected, and the night on a page.

Reads: lake tables of the night and the newest evaluation. Writes: lake monitoring, reports.
"""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

from ml.core.actions import read_actions
from ml.core.schemas import Monitoring
from ml.pipeline.monitor import Watched, monitor_night
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.champions import read_last_change
from orchestration.files import write_text
from orchestration.lake import Lake, describe
from orchestration.night_page import collect_sections, plot_costs
from orchestration.page import render_page
from orchestration.partitions import NIGHTS
from orchestration.resources import Mlflow, ProgrammeFile, Reports
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
    costs = plot_costs(watched, settings)
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
    kinds={"polars", "mlflow"},
    description="What was delivered, decided and proven, in words, and as a page with plots.",
)
def nightly_summary(
    context: dg.AssetExecutionContext,
    lake: Lake,
    programme: ProgrammeFile,
    reports: Reports,
    mlflow: Mlflow,
) -> dg.MaterializeResult:
    """Write the night's page; its words are the asset's metadata too."""
    from ml.tracking.runs import track_run

    night = date.fromisoformat(context.partition_key)
    settings = programme.read()
    text = summarise_night(lake, settings, night)
    sections = collect_sections(
        lake, settings, night, _read_watched(lake, night), Path(reports.root)
    )
    page = Path(reports.root) / f"{night}.html"
    html = render_page(
        title=f"{settings.name}, night of {night}",
        standing=list(describe_champion(lake, settings, night)),
        summary=text,
        signals=lake.read("monitoring", night),
        sections=sections,
    )
    write_text(html, page)
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"night {night}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "nightly_summary"},
    ) as run:
        run.log_metrics(_count_night(lake, night))
        run.log_text(html, "night.html")
    return dg.MaterializeResult(
        metadata={
            "summary": dg.MetadataValue.md(f"```\n{text}\n```"),
            "page": dg.MetadataValue.path(str(page)),
            "mlflow_run": mlflow.link(run.page),
        }
    )


def _count_night(lake: Lake, night: date) -> dict[str, float]:
    """Return a night's figures, for MLflow's charts of nights."""
    table, signals = lake.read("assignment_table", night), lake.read("monitoring", night)
    offers = lake.read("action_catalogue", night).filter(~pl.col("is_control"))["action_id"]
    budget = lake.read("night_budget", night).row(0, named=True)
    n_decisions = max(table.height, 1)
    return {
        "decisions": table.height,
        "offer_share": table["action_id"].is_in(offers.to_list()).sum() / n_decisions,
        "exploration_share": table["is_exploration"].sum() / n_decisions,
        "budget": budget["budget"],
        "expected_cost": budget["expected_cost"],
        "alarms": signals["is_alarm"].sum(),
    }


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
