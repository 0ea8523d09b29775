"""Validate: what policies give, cost and bring by group of a protected attribute.

Reads: lake marts, evaluation_record, versions of assignment_policy. Writes: lake group_values.
"""

from datetime import date

import dagster as dg

from ml.core.schemas import GroupValues
from ml.pipeline.groups import value_groups
from ml.plots.policies import plot_groups
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.assets.snapshots import read_snapshot
from orchestration.lake import Lake, describe
from orchestration.resources import Mlflow, ProgrammeFile


@dg.asset(
    deps=["evaluation_record"],
    group_name="validate",
    kinds={"polars"},
    description=explain(GroupValues),
)
def group_values(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile, mlflow: Mlflow
) -> dg.MaterializeResult:
    """Value the policies of the newest evaluation by protected group."""
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
    return dg.MaterializeResult(
        metadata={
            **describe([written], GroupValues),
            "groups": tabulate(values),
            "by_group": embed_figure(plot_groups(values, currency=settings.currency)),
        },
        data_version=dg.DataVersion(written.sha256),
    )
