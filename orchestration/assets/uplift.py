"""Learn: effects from matured logs, and the rule that they must beat.

Reads: lake marts and learning_settings. Writes: lake calibration, MLflow runs, versions of
assignment_policy.
"""

import math
from dataclasses import asdict

import dagster as dg

from ml.core.schemas import Calibration
from ml.pipeline.horizons import compare_horizons
from ml.pipeline.later import estimate_later_effects
from ml.pipeline.learn import (
    describe_heads,
    fit_candidate,
    fit_lifecycle_rule,
    list_ensembles,
    report_candidate,
)
from ml.plots.effects import plot_calibration, plot_heads, plot_personas
from orchestration.assets.beliefs import choose_belief
from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.assets.learning_settings import read_learning_settings
from orchestration.assets.snapshots import SNAPSHOT, find_training_date, read_snapshot
from orchestration.champions import promote, read_last_change
from orchestration.lake import Lake
from orchestration.resources import Mlflow, ProgrammeFile

_FIRST = "the classical rule, until a policy is proven better"


@dg.asset(
    deps=SNAPSHOT,
    group_name="learn",
    kinds={"mlflow"},
    pool="mlflow_registry",
)
def lifecycle_rule(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile, mlflow: Mlflow
) -> dg.MaterializeResult:
    """Register the first champion: past the threshold the reactivation offer, up to budget."""
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    registry = PolicyRegistry(mlflow.tracking_uri)
    champion = registry.load_champion()
    if champion is not None:
        if read_last_change(lake) is None:
            # A killed run had made it the champion already.
            promote(
                lake,
                registry,
                champion.version,
                day=find_training_date(lake),
                cause="first",
                reason=_FIRST,
                evidence={},
            )
        return dg.MaterializeResult(
            metadata={"champion": champion.version, "kind": champion.policy.kind, "new": False}
        )
    training_date = find_training_date(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date)
    settings = programme.read()
    rule = fit_lifecycle_rule(snapshot, programme=settings, actions=actions)
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"lifecycle_rule {training_date}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "lifecycle_rule"},
    ) as run:
        run.log_params(
            {
                "reactivation_action": settings.reactivation_action,
                "inactivity_days": settings.inactivity_days,
                "budget_per_decision": settings.budget_per_decision,
            }
        )
        registered = registry.register(
            rule,
            programme=settings,
            tags={"training_date": str(training_date), "data_hash": snapshot.data_hash},
        )
    promote(
        lake,
        registry,
        registered.version,
        day=training_date,
        cause="first",
        reason=_FIRST,
        evidence={},
    )
    return dg.MaterializeResult(
        metadata={
            "champion": registered.version,
            "kind": rule.kind,
            "new": True,
            "mlflow_run": mlflow.link(run.page),
        }
    )


@dg.asset(
    deps=[*SNAPSHOT, "learning_settings"],
    group_name="learn",
    kinds={"lightgbm", "mlflow"},
    pool="mlflow_registry",
)
def uplift_heads(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile, mlflow: Mlflow
) -> dg.MaterializeResult:
    """Value and cost heads per lifecycle and action, registered as the candidate policy."""
    from ml.tracking.registry import PolicyRegistry
    from ml.tracking.runs import track_run

    registry = PolicyRegistry(mlflow.tracking_uri)
    training_date = find_training_date(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date, has_beliefs=True)
    settings = programme.read()
    belief_version, no_belief = choose_belief(snapshot, mlflow, training_date)
    if belief_version is None:
        context.log.info(f"heads use raw features: {no_belief}")
    learning = read_learning_settings(lake, training_date)
    if snapshot.fitted is not None:
        context.log.warning(
            f"{snapshot.n_fitted} training decisions lack their propensity and have a fitted one "
            f"(log loss {snapshot.fitted.log_loss:.3f}, of mean shares "
            f"{snapshot.fitted.constant_log_loss:.3f}): confounding is not ruled out, and they "
            "take no part in any evaluation"
        )
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"uplift_heads {training_date}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "uplift_heads"},
    ) as run:
        candidate = fit_candidate(
            snapshot,
            programme=settings,
            actions=actions,
            settings=learning,
            belief_version=belief_version,
            progress=lambda message: context.log.info(message),
        )
        heads = describe_heads(candidate)
        run.log_params(
            {
                "training_date": training_date,
                "n_decisions": snapshot.training.n_decisions,
                "n_fitted_propensities": snapshot.n_fitted,
                "feature_schema_hash": candidate.schema_hash,
                "data_hash": snapshot.data_hash,
                "belief_version": belief_version or "none",
                "budget_per_decision": settings.budget_per_decision,
                **{f"trees.{name}": each for name, each in asdict(learning.trees).items()},
            }
        )
        run.log_metrics(
            {
                "shadow_price": candidate.cut.shadow_price,
                **{
                    f"{row['lifecycle']}.{row['action_id']}.{metric}": row[metric]
                    for row in heads.iter_rows(named=True)
                    for metric in ("value_effect", "value_slope", "cost_effect", "cost_slope")
                },
            }
        )
        figure = plot_heads(heads, currency=settings.currency)
        run.log_figure(figure, "effects.png")
        report = report_candidate(candidate)
        calibration = plot_calibration(report.bins, currency=settings.currency)
        run.log_figure(calibration, "calibration.png")
        personas = plot_personas(report.personas, currency=settings.currency)
        run.log_figure(personas, "personas.png")
        run.log_metrics(
            {
                f"{row['outcome']}.{row['action_id']}.{metric}": row[metric]
                for row in report.ranking.iter_rows(named=True)
                for metric in ("blp_slope", "calibration_error", "autoc", "qini")
                if row[metric] is not None and math.isfinite(row[metric])
            }
        )
        horizons = compare_horizons(candidate, snapshot.evaluation)
        run.log_metrics(
            {
                f"{row['outcome']}.{row['action_id']}.{horizon}_effect": row[horizon]
                for row in horizons.iter_rows(named=True)
                for horizon in ("learning", "accounting")
            }
        )
        serving = [each for each in list_ensembles(candidate) if "belief" in each]
        told_by_belief = ", ".join(serving) or "in no head's effects: others were better"
        # Shown at weight 1, counted at the programme's.
        later = estimate_later_effects(snapshot.training, actions=actions, weight=1.0)
        registered = registry.register(
            candidate,
            programme=settings,
            tags={"training_date": str(training_date), "data_hash": snapshot.data_hash},
        )
    registry.mark_candidate(registered.version)
    lake.write(report.bins, "calibration", training_date, schema=Calibration)
    return dg.MaterializeResult(
        metadata={
            "candidate": registered.version,
            "training_date": str(training_date),
            "n_decisions": snapshot.training.n_decisions,
            "n_fitted_propensities": snapshot.n_fitted,
            "belief": f"version {belief_version}, {told_by_belief}"
            if belief_version
            else f"none: {no_belief}",
            "mlflow_run": mlflow.link(run.page),
            "heads": tabulate(heads),
            "candidates": tabulate(report.evidence),
            "ranking": tabulate(report.ranking),
            "caution": tabulate(report.caution),
            "predicted_against_realised": embed_figure(calibration),
            "efficiency": tabulate(report.efficiency),
            "personas": embed_figure(personas),
            "curve_against_line": tabulate(report.curves),
            "horizons": tabulate(horizons),
            "after_the_learning_horizon": tabulate(later.table),
            "effects": embed_figure(figure),
        },
        data_version=dg.DataVersion(registered.policy_hash),
    )
