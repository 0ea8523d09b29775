"""Learn: which actions to explore next.

Reads: lake marts. Writes: lake action_plan.
"""

import dagster as dg

from ml.core.schemas import ActionPlan
from ml.pipeline.planning import plan_actions
from ml.plots.effects import plot_support
from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.assets.snapshots import SNAPSHOT, find_training_date, read_snapshot
from orchestration.lake import Lake, describe
from orchestration.resources import ProgrammeFile


@dg.asset(
    # After the heads: its partition says that a training came so far.
    deps=[*SNAPSHOT, "uplift_heads"],
    group_name="learn",
    kinds={"polars"},
)
def action_plan(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Support per lifecycle and action, and the next compact action set with the rows it needs."""
    training_date = find_training_date(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date)
    plan = plan_actions(snapshot.everything, actions=actions)
    written = lake.write(plan, "action_plan", training_date, schema=ActionPlan)
    proposals = plan.unique("action_id", keep="first", maintain_order=True)
    return dg.MaterializeResult(
        metadata={
            **describe([written], ActionPlan),
            "training_date": str(training_date),
            "proposals": tabulate(proposals.select("action_id", "proposal", "reason")),
            "support": embed_figure(
                plot_support(plan, minimum_support=programme.read().minimum_support)
            ),
            "needs": tabulate(
                plan.select(
                    "lifecycle",
                    "action_id",
                    "n_rows",
                    "net_effect",
                    "low",
                    "high",
                    "needed_decisions",
                    "needed_weeks",
                )
            ),
        },
        data_version=dg.DataVersion(written.sha256),
    )
