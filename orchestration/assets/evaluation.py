"""Validate: policies valued on the evaluation cohort, the gate, and the champion.

Reads: lake marts, randomisation_checks, versions of assignment_policy. Writes: lake policy_values,
budget_curve, evaluation_record, promotions, champion_changes, the champion alias.
"""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import polars as pl

from ml.core.errors import PromotionError
from ml.core.schemas import BudgetCurve, EvaluationRecord, PolicyValues, Promotion
from ml.pipeline.budget_curve import trace_budget
from ml.pipeline.identify import is_randomisation_sound
from ml.pipeline.validate import Evaluation, evaluate_candidate, verify_promotion
from ml.plots.policies import plot_budget_curve, plot_gate, plot_policy_values
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.assets.snapshots import find_training_date, newest_night, read_snapshot
from orchestration.champions import promote
from orchestration.lake import Lake, describe
from orchestration.resources import Governance, Mlflow, ProgrammeFile

_JUDGED = [
    "uplift_heads",
    "recalibrated_policy",
    "agent_policy",
    "tree_policy",
    "customer_tokens",
    "lifecycle_rule",
    "randomisation_checks",
]


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "policy_values",
            deps=_JUDGED,
            description=explain(PolicyValues),
            group_name="validate",
            kinds={"polars"},
        ),
        dg.AssetSpec(
            "budget_curve",
            deps=_JUDGED,
            description="What candidate and champion are worth at other budgets, as deployed.",
            group_name="validate",
            kinds={"polars"},
        ),
        dg.AssetSpec(
            "evaluation_record",
            deps=_JUDGED,
            description="The gate's evidence, verdict and reasons, which a promotion presents.",
            group_name="validate",
            kinds={"polars"},
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "candidate_is_proven_better",
            asset="evaluation_record",
            description="The gate's verdict; the champion asset verifies the record itself.",
        )
    ],
)
def policy_evaluation(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile, mlflow: Mlflow
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Value candidate and champion on the evaluation cohort and decide the gate."""
    from ml.tracking.registry import CANDIDATE, PolicyRegistry
    from ml.tracking.runs import track_run

    registry = PolicyRegistry(mlflow.tracking_uri)
    version, champion = registry.version_of(CANDIDATE), registry.load_champion()
    if version is None or champion is None:
        raise PromotionError("there is no candidate or no champion yet: run weekly_training")
    candidate = registry.load(version)
    training_date = find_training_date(lake)
    # What is calibrated on what came after a drift is judged on what came after it.
    since = candidate.tags.get("since")
    snapshot, _ = read_snapshot(
        lake,
        programme,
        training_date,
        since=date.fromisoformat(since) if since else None,
        has_beliefs=True,
        has_histories=candidate.policy.needs_histories or champion.policy.needs_histories,
    )
    settings = programme.read()
    # Another run may have promoted it meanwhile: the record that did stands.
    standing = _read_standing(lake, training_date, version) if version == champion.version else None
    evaluation = standing or evaluate_candidate(
        snapshot,
        candidate=candidate.policy,
        champion=champion.policy,
        programme=settings,
        candidate_version=candidate.version,
        champion_version=champion.version,
        candidate_hash=candidate.policy_hash,
        training_date=training_date,
        gate_number=_count_gate(lake, training_date, champion.version, candidate.version),
        is_randomisation_sound=is_randomisation_sound(
            lake.read("randomisation_checks", training_date)
        ),
    )
    values = lake.write(
        evaluation.policy_values, "policy_values", training_date, schema=PolicyValues
    )
    record = lake.write(
        evaluation.record, "evaluation_record", training_date, schema=EvaluationRecord
    )
    row = evaluation.record.row(0, named=True)
    figure = plot_policy_values(evaluation.policy_values, currency=settings.currency)
    traced = trace_budget(
        snapshot, candidate=candidate.policy, champion=champion.policy, programme=settings
    )
    curve = lake.write(traced, "budget_curve", training_date, schema=BudgetCurve)
    curve_figure = plot_budget_curve(
        traced, budget=settings.budget_per_decision, currency=settings.currency
    )
    gate_figure = plot_gate(
        evaluation.record, harm_tolerance=settings.harm_tolerance, currency=settings.currency
    )
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"policy_evaluation {training_date}",
        tags={
            "dagster/run_id": context.run_id,
            "dagster/asset": "policy_evaluation",
            "candidate_version": candidate.version,
            "champion_version": champion.version,
        },
    ) as run:
        run.log_metrics(
            {name: float(value) for name, value in row.items() if isinstance(value, float)}
        )
        run.log_figure(figure, "policy_values.png")
        run.log_figure(curve_figure, "budget_curve.png")
        run.log_figure(gate_figure, "gate.png")
        run.log_text(evaluation.record.write_json(), "evaluation_record.json")
    yield dg.MaterializeResult(
        asset_key="policy_values",
        metadata={
            **describe([values], PolicyValues),
            "mlflow_run": mlflow.link(run.page),
            "net_value": embed_figure(figure),
            "doubly_robust": tabulate(
                evaluation.policy_values.filter(pl.col("estimator") == "dr").select(
                    "policy", "reward", "incremental_value", "incremental_low", "incremental_high"
                )
            ),
            "candidate_by_estimator": tabulate(
                evaluation.policy_values.filter(policy="candidate", reward="net_value").select(
                    "estimator",
                    "method",
                    "limit",
                    "incremental_value",
                    "incremental_low",
                    "incremental_high",
                )
            ),
        },
    )
    yield dg.MaterializeResult(
        asset_key="budget_curve",
        metadata={
            **describe([curve], BudgetCurve),
            "net_value_by_budget": embed_figure(curve_figure),
            "curve": tabulate(traced),
        },
    )
    yield dg.MaterializeResult(
        asset_key="evaluation_record",
        metadata={
            **describe([record], EvaluationRecord),
            "candidate": candidate.version,
            "champion": champion.version,
            "is_passed": row["is_passed"],
            "gate_number": row["gate_number"],
            "level": row["level"],
            "lifecycle_differences": tabulate(pl.DataFrame(row["lifecycle_differences"])),
            "reasons": dg.MetadataValue.md("\n".join(f"- {each}" for each in row["reasons"])),
            "net_value_difference": row["net_value_difference"],
            "difference_low": row["difference_low"],
            "difference_high": row["difference_high"],
        },
    )
    yield dg.AssetCheckResult(
        asset_key="evaluation_record",
        check_name="candidate_is_proven_better",
        passed=row["is_passed"],
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "reasons": dg.MetadataValue.json(row["reasons"]),
            "gate": embed_figure(gate_figure),
        },
    )


def _count_gate(
    lake: Lake, training_date: date, champion_version: str, candidate_version: str
) -> int:
    """Return how many gates the champion has met with this one; one that is repeated is one."""
    records = [
        lake.read("evaluation_record", day).row(0, named=True)
        for day in lake.dates("evaluation_record")
        if day <= training_date
    ]
    met = [
        row["gate_number"]
        for row in records
        if row["champion_version"] == champion_version
        and (row["evaluated_for_date"], row["candidate_version"])
        != (training_date, candidate_version)
    ]
    return 1 + max(met, default=0)


def _read_standing(lake: Lake, training_date: date, version: str) -> Evaluation | None:
    """Return the date's evaluation if it is of this candidate."""
    if not lake.has("evaluation_record", training_date):
        return None
    record = lake.read("evaluation_record", training_date)
    if record["candidate_version"].to_list() != [version]:
        return None
    return Evaluation(lake.read("policy_values", training_date), record)


class ChampionConfig(dg.Config):
    """Whether somebody approved the candidate: with PROMOTION=approve it is not promoted else."""

    is_approved: bool = False


@dg.asset(
    # Last of a training: what a kill left out before it is made up for by the job promotion.
    deps=["evaluation_record", "group_values"],
    group_name="validate",
    kinds={"mlflow"},
    pool="mlflow_registry",
    description=(
        "The version that decides the coming nights. Moves to the candidate only if the persisted "
        "evaluation record, verified again here, proves it better; a refusal leaves it."
    ),
)
def champion(
    context: dg.AssetExecutionContext,
    config: ChampionConfig,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    governance: Governance,
) -> dg.MaterializeResult:
    """Promote the candidate if its record holds, else keep the champion and say why."""
    from ml.tracking.registry import CANDIDATE, PolicyRegistry

    registry = PolicyRegistry(mlflow.tracking_uri)
    version, present = registry.version_of(CANDIDATE), registry.load_champion()
    if version is None or present is None:
        raise PromotionError("there is no candidate or no champion yet: run weekly_training")
    record_date = lake.dates("evaluation_record")[-1]
    record = lake.read("evaluation_record", record_date)
    row = record.row(0, named=True)
    decision, refusal = "promoted", ""
    if version != present.version:
        try:
            candidate = registry.load(version)
            if "withdrawn" in candidate.tags:
                raise PromotionError(
                    f"version {version} was withdrawn ({candidate.tags['withdrawn']}): "
                    f"make rollback VERSION={version} takes it back"
                )
            verify_promotion(
                record,
                candidate_version=version,
                candidate_hash=candidate.policy_hash,
                champion_version=present.version,
                programme=programme.read(),
                today=newest_night(lake),
            )
        except PromotionError as error:
            decision, refusal = "refused", str(error)
            context.log.warning(refusal)
            # One that was withdrawn passed its gate once, and may be taken back by name.
            if "withdrawn" not in registry.read_tags(version):
                registry.tag(version, {"ope_gate": "refused", "ope_gate_reason": refusal[:4000]})
        else:
            decision, refusal = _find_hold(governance, is_approved=config.is_approved)
            if refusal:
                registry.tag(version, {"ope_gate_reason": refusal})
    reason = (
        f"proven better on {row['evaluated_for_date']}: net-value difference "
        f"{row['net_value_difference']:+.4f}, at least {row['difference_low']:+.4f}"
    )
    if not refusal:
        promote(
            lake,
            registry,
            version,
            day=newest_night(lake),
            cause="approved" if config.is_approved else "promoted",
            reason=reason,
            evidence={
                "evaluated_for_date": str(row["evaluated_for_date"]),
                "net_value_difference": f"{row['net_value_difference']:.6f}",
                "difference_low": f"{row['difference_low']:.6f}",
                "evaluation_data_hash": row["data_hash"],
                "replaced": row["champion_version"],
            },
        )
    decided = pl.DataFrame(
        {
            "candidate_version": [version],
            "champion_version": [present.version if refusal else version],
            "is_promoted": [not refusal],
            "reason": [refusal],
        }
    )
    # Last: a run that was killed before it is taken up here, not by another training.
    receipt = lake.write(decided, "promotions", record_date, schema=Promotion)
    return dg.MaterializeResult(
        metadata={
            **describe([receipt], Promotion),
            "champion": decided["champion_version"][0],
            "decision": decision,
            "reasons": dg.MetadataValue.md(refusal or reason),
            "net_value_difference": row["net_value_difference"],
            "difference_low": row["difference_low"],
        }
    )


def _find_hold(governance: Governance, *, is_approved: bool) -> tuple[str, str]:
    """Return what becomes of a proven candidate, and why it is not promoted, nothing if it is."""
    if governance.promotion == "shadow":
        return "shadows", "PROMOTION=shadow: proven better, and nothing is promoted"
    if governance.promotion == "approve" and not is_approved:
        return "waits for approval", "PROMOTION=approve: proven better, and waits for make approve"
    return "approved and promoted" if is_approved else "promoted", ""
