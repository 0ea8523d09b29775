"""Validate: what policies give, cost and bring by group of a protected attribute.

Reads: lake marts, evaluation_record, versions of assignment_policy. Writes: lake group_values,
reports.
"""

from datetime import date
from pathlib import Path

import dagster as dg

from ml.core.schemas import GroupValues
from ml.pipeline.groups import count_left_out, value_groups
from ml.plots.policies import plot_groups
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.assets.snapshots import read_snapshot
from orchestration.fairness_page import render_fairness
from orchestration.files import write_text
from orchestration.lake import Lake, describe
from orchestration.resources import Mlflow, ProgrammeFile, Reports


@dg.asset(
    deps=["evaluation_record"],
    group_name="validate",
    kinds={"polars"},
    description=explain(GroupValues),
)
def group_values(
    context: dg.AssetExecutionContext,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    reports: Reports,
) -> dg.MaterializeResult:
    """Value the policies of the newest evaluation by protected group, as a table and a page."""
    from ml.tracking.registry import PolicyRegistry

    registry, settings = PolicyRegistry(mlflow.tracking_uri), programme.read()
    training_date = lake.dates("evaluation_record")[-1]
    record = lake.read("evaluation_record", training_date).row(0, named=True)
    candidate, champion = (
        registry.load(record[f"{who}_version"]) for who in ("candidate", "champion")
    )
    since = candidate.tags.get("since")
    snapshot, _ = read_snapshot(
        lake,
        programme,
        training_date,
        since=date.fromisoformat(since) if since else None,
        has_beliefs=True,
        has_histories=candidate.policy.needs_histories or champion.policy.needs_histories,
    )
    values = value_groups(
        snapshot, candidate=candidate.policy, champion=champion.policy, programme=settings
    )
    written = lake.write(values, "group_values", training_date, schema=GroupValues)
    figure, page = (
        plot_groups(values, currency=settings.currency),
        Path(reports.root) / f"fairness-{training_date}.html",
    )
    text = render_fairness(
        values,
        left_out=count_left_out(snapshot, settings),
        figure=figure,
        programme=settings,
        versions={"champion": champion.version, "candidate": candidate.version},
        day=training_date,
    )
    write_text(text, page)
    return dg.MaterializeResult(
        metadata={
            **describe([written], GroupValues),
            "groups": tabulate(values),
            "by_group": embed_figure(figure),
            "page": dg.MetadataValue.path(str(page)),
        },
        data_version=dg.DataVersion(written.sha256),
    )
