"""Validate: the champion against the policy that it replaced, on what their arms brought.

Reads: lake assignment_table and realised_outcomes, versions of assignment_policy. Writes: lake
online_validation, on proven harm champion_changes and the champion alias.
"""

from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from ml.core.errors import PromotionError
from ml.core.programme import Programme
from ml.core.schemas import OnlineValidation
from ml.pipeline.online import judge_arms
from orchestration.champions import find_challenger_version, roll_back, was_demoted
from orchestration.lake import Lake
from orchestration.partitions import NIGHTS
from orchestration.resources import Governance, Mlflow, ProgrammeFile

if TYPE_CHECKING:
    from ml.tracking.registry import PolicyRegistry

_ARM_COLUMNS = [
    "decision_id",
    "customer_id",
    "decision_date",
    "arm",
    "propensity",
    "champion_propensity",
    "challenger_propensity",
]


@dg.asset(
    deps=["realised_outcomes", "customer_features"],
    partitions_def=NIGHTS,
    group_name="validate",
    kinds={"polars", "mlflow"},
    pool="mlflow_registry",
    check_specs=[
        dg.AssetCheckSpec(
            "champion_does_no_harm",
            asset="online_validation",
            description="The champion is not proven worse than the policy that it replaced.",
        )
    ],
    description=(
        "Realised net value of the champion's arm against the challenger's, by an anytime-valid "
        "confidence sequence. Proven harm takes the champion back."
    ),
)
def online_validation(
    context: dg.AssetExecutionContext,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    governance: Governance,
) -> dg.MaterializeResult:
    """Judge the arms until tonight; withdraw a champion that is proven to harm."""
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    night = date.fromisoformat(context.partition_key)
    registry = PolicyRegistry(mlflow.tracking_uri)
    # What a sealed night was decided on stays, whatever happened to the champion since.
    if not _is_settled(lake, night):
        judged = _judge(lake, registry, programme.read(), night)
        lake.write(judged, "online_validation", night, schema=OnlineValidation)
    judged = lake.read("online_validation", night)
    row = judged.row(0, named=True) if judged.height else None
    is_harmful = row is not None and row["status"] == "harmful"
    message = "no challenger tonight"
    if row is not None:
        message = (
            f"champion v{row['champion_version']} against v{row['challenger_version']}: "
            f"{row['status']} after {row['n_decisions']:,} decisions"
        )
        if row["difference"] is not None:
            message += (
                f", net-value difference {row['difference']:+.4f} "
                f"[{row['low']:+.4f}, {row['high']:+.4f}]"
            )
    if row is not None and is_harmful:
        context.log.warning(message)
        if governance.promotion == "shadow":
            context.log.warning("PROMOTION=shadow: nothing is demoted; see make rollback")
        elif not was_demoted(lake, row["champion_version"], night):
            try:
                roll_back(
                    lake,
                    registry,
                    day=night,
                    cause="demoted",
                    reason=message,
                    withdrawn=row["champion_version"],
                    to=row["challenger_version"],
                )
            except PromotionError as error:
                context.log.error(f"it can't be taken back ({error}): make freeze, or VERSION=")
                message += f"; it could not be taken back: {error}"
            else:
                with track_run(
                    mlflow.tracking_uri,
                    experiment=mlflow.experiment,
                    name=f"demotion {night}",
                    tags={
                        "dagster/run_id": context.run_id,
                        "dagster/asset": "online_validation",
                        "withdrawn_version": row["champion_version"],
                        "champion_version": row["challenger_version"],
                    },
                ) as run:
                    run.log_metrics({name: row[name] for name in ("difference", "low", "high")})
                    run.log_text(judged.write_json(), "online_validation.json")
    else:
        context.log.info(message)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": judged.height,
            "conclusion": message,
            **({name: row[name] for name in ("n_decisions", "status")} if row else {}),
            **(
                {name: row[name] for name in ("difference", "low", "high")}
                if row is not None and row["difference"] is not None
                else {}
            ),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="champion_does_no_harm",
                passed=not is_harmful,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"detail": message},
            )
        ],
    )


def _is_settled(lake: Lake, night: date) -> bool:
    """Return whether a night's judgement stands: it is sealed, or it took its champion back."""
    if not lake.has("online_validation", night):
        return False
    judged = lake.read("online_validation", night)
    return lake.has("assignment_table", night) or any(
        was_demoted(lake, version, night) for version in judged["champion_version"]
    )


def _judge(
    lake: Lake, registry: "PolicyRegistry", settings: Programme, night: date
) -> pl.DataFrame:
    """Return tonight's row about the champion and its challenger; none without a challenger."""
    champion = registry.version_of("champion")
    # What a killed run of tonight concluded is concluded anew.
    until = night - timedelta(days=1)
    challenger = find_challenger_version(lake, registry, settings, until=until)
    if champion is None or challenger is None:
        return OnlineValidation.create_empty()
    before = [day for day in lake.dates("assignment_table") if day < night]
    if not before:
        return OnlineValidation.create_empty()
    decided = (
        lake.scan("assignment_table", until=before[-1])
        .filter(
            (pl.col("policy_version") == champion) & (pl.col("challenger_version") == challenger)
        )
        .select(_ARM_COLUMNS)
    )
    since = decided.select(pl.col("decision_date").min()).collect().item()
    matured = (
        lake.scan("realised_outcomes", until=night)
        .filter(pl.col("is_matured"))
        .select("decision_id", (pl.col("value") - pl.col("cost")).alias("net_value"))
    )
    return judge_arms(
        decided.join(matured, on="decision_id").collect(),
        champion_version=champion,
        challenger_version=challenger,
        since=since or night,
        night=night,
    )
