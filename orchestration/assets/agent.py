"""Learn: an agent that looks beyond the next week, from consecutive logged decisions.

Reads: lake marts, training_beliefs, the champion or the candidate. Writes: MLflow runs, versions of
assignment_policy.
"""

from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from ml.core.errors import ContractError
from ml.core.policy import Policy
from ml.pipeline.policies import AlignedPolicy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.validate import CANDIDATE, CHAMPION, NO_OFFER, SingleAction, count_sent
from ml.plots.control import plot_journeys, plot_training
from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.assets.snapshots import SNAPSHOT, find_training_date, read_matured
from orchestration.champions import find_base, tag_candidate
from orchestration.lake import Lake
from orchestration.resources import Mlflow, ProgrammeFile

if TYPE_CHECKING:
    from ml.control.training import Progress


_REPORTS_A_LINE = 10


class AgentConfig(dg.Config):
    """Gradient steps of each of the agent's networks."""

    n_updates: int = 600


@dg.asset(
    deps=[*SNAPSHOT, "uplift_heads"],
    group_name="learn",
    kinds={"pytorch", "mlflow"},
    pool="mlflow_registry",
)
def agent_policy(
    context: dg.AssetExecutionContext,
    config: AgentConfig,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
) -> dg.MaterializeResult:
    """Train an agent under the budget's shadow price and register it as the candidate."""
    if find_spec("torchrl") is None:
        raise ContractError("an agent needs torch: install it with pip install '.[control]'")
    from ml.control.agent import FROM_LOGS
    from ml.pipeline.train_agent import fit_agent, value_journeys
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    registry = PolicyRegistry(mlflow.tracking_uri)
    champion, base = find_base(registry)
    training_date, settings = find_training_date(lake), programme.read()
    actions = base.policy.actions
    seen = replace(settings, attributes=base.policy.attributes)
    snapshot = take_snapshot(
        read_matured(
            lake,
            training_date,
            has_beliefs=True,
            has_histories=champion.policy.needs_histories,
        ),
        programme=seen,
        actions=actions,
    )
    curve: list[dict[str, float]] = []

    def report(now: "Progress") -> None:
        curve.append(asdict(now))
        if len(curve) % _REPORTS_A_LINE == 0:
            context.log.info(f"member {now.member}, step {now.update}: loss {now.loss:.3f}")

    candidate = fit_agent(
        snapshot,
        base.policy,
        programme=settings,
        settings=replace(FROM_LOGS, n_updates=config.n_updates),
        progress=report,
    )
    policies: dict[str, Policy] = {
        CANDIDATE: candidate,
        CHAMPION: AlignedPolicy(champion.policy, actions, seen),
        NO_OFFER: SingleAction(0),
    }
    journeys = value_journeys(
        snapshot, policies, agent=candidate, horizon_days=settings.learning_horizon_days
    )
    figures = {
        "training": plot_training(pl.DataFrame(curve)),
        "journeys": plot_journeys(journeys, currency=settings.currency),
    }
    tags = tag_candidate(base, training_date, data_hash=snapshot.data_hash)
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"agent_policy {training_date}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "agent_policy"},
    ) as run:
        run.log_params(
            {
                **tags,
                "n_decisions": snapshot.training.n_decisions,
                "price": candidate.cut.shadow_price,
            }
        )
        run.log_metrics(
            {
                f"journeys.{row['policy']}.{figure}": row[figure]
                for row in journeys.iter_rows(named=True)
                for figure in ("fitted", "robust")
                if row[figure] is not None
            }
        )
        for name, figure in figures.items():
            run.log_figure(figure, f"{name}.png")
        registered = registry.register(candidate, programme=settings, tags=tags)
    registry.mark_candidate(registered.version)
    return dg.MaterializeResult(
        metadata={
            "candidate": registered.version,
            "stands_on": base.version,
            "training_date": str(training_date),
            "mlflow_run": mlflow.link(run.page),
            "journeys": tabulate(journeys.drop("refusal")),
            "journeys_refusals": tabulate(
                journeys.select("policy", "refusal").drop_nulls("refusal")
            ),
            "sent": tabulate(count_sent(snapshot.evaluation, policies)),
            **{f"plot_of_{name}": embed_figure(figure) for name, figure in figures.items()},
        },
        data_version=dg.DataVersion(registered.policy_hash),
    )
