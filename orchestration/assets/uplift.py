"""Learn: effects from matured logs, and the rule that they must beat.

Reads: lake marts. Writes: MLflow runs, versions of assignment_policy, lake randomisation_checks,
experiment_effects, action_plan and learning_settings.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, timedelta

import dagster as dg
import polars as pl

from ml.core.actions import ActionSet, read_actions
from ml.core.errors import ContractError
from ml.core.schemas import ActionPlan, ExperimentEffects, LearningSettingsRow, RandomisationChecks
from ml.pipeline.horizons import compare_horizons
from ml.pipeline.identify import (
    check_randomisation,
    estimate_experiment_effects,
    is_randomisation_sound,
)
from ml.pipeline.learn import (
    Snapshot,
    describe_heads,
    fit_candidate,
    fit_lifecycle_rule,
    pin_settings,
    report_candidate,
    search_settings,
    take_snapshot,
)
from ml.pipeline.planning import plan_actions
from ml.plots.figures import (
    plot_calibration,
    plot_effects,
    plot_heads,
    plot_personas,
    plot_support,
)
from ml.uplift.fitting import LearningSettings
from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.lake import Lake, describe
from orchestration.resources import Mlflow, ProgrammeFile

_SNAPSHOT = [
    "logged_decisions",
    "customer_features",
    "realised_outcomes",
    "action_catalogue",
    "randomisation_checks",
]
"""What a training reads; the checks fix its date."""


def newest_night(lake: Lake) -> date:
    """Return the newest night whose marts are in the lake."""
    return lake.dates("customer_features")[-1]


def find_training_date(lake: Lake) -> date:
    """Return the date that training is as of: that of the newest randomisation checks.

    A training checks the log first and keeps to that date, whatever nights are ingested meanwhile.

    Raises
    ------
    ContractError
        If nothing was checked yet.
    """
    days = lake.dates("randomisation_checks")
    if not days:
        raise ContractError("the log was not checked yet: materialise randomisation_checks first")
    return days[-1]


def read_snapshot(
    lake: Lake, programme: ProgrammeFile, training_date: date
) -> tuple[Snapshot, ActionSet]:
    """Read every decision matured by a date, joined with outcomes and features."""
    catalogue_day = [day for day in lake.dates("action_catalogue") if day <= training_date][-1]
    actions = read_actions(lake.read("action_catalogue", catalogue_day))
    outcomes = lake.scan("realised_outcomes", until=training_date).filter(
        pl.col("matured_date") <= training_date
    )
    rows = (
        lake.scan("logged_decisions", until=training_date)
        .join(
            outcomes.drop("customer_id", "decision_date", "delivered_date"),
            on="decision_id",
            how="inner",
        )
        .join(
            lake.scan("customer_features", until=training_date),
            on=["customer_id", "decision_date"],
            how="inner",
        )
        .collect()
    )
    return take_snapshot(rows, programme=programme.read(), actions=actions), actions


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "randomisation_checks",
            deps=["logged_decisions", "customer_features", "realised_outcomes"],
            description="Sample ratios, covariate balance and propensity floor of the log.",
            group_name="identify",
            kinds={"polars"},
        ),
        dg.AssetSpec(
            "experiment_effects",
            deps=["logged_decisions", "customer_features", "realised_outcomes"],
            description="Each offer's unadjusted effect on spend, visits, value and cost.",
            group_name="identify",
            kinds={"polars"},
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "log_is_randomised",
            asset="randomisation_checks",
            description="No sample ratio or balance check fails; else the gate refuses.",
        )
    ],
)
def randomisation(
    context: dg.AssetExecutionContext, lake: Lake, programme: ProgrammeFile
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Check the matured log and report the offers' unadjusted effects."""
    training_date = newest_night(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date)
    settings = programme.read()
    checks = check_randomisation(snapshot.everything, actions=actions, programme=settings)
    effects = estimate_experiment_effects(snapshot.everything, actions=actions)
    failed = checks.filter(~pl.col("is_passed"))
    checked = lake.write(checks, "randomisation_checks", training_date, schema=RandomisationChecks)
    written = lake.write(effects, "experiment_effects", training_date, schema=ExperimentEffects)
    yield dg.MaterializeResult(
        asset_key="randomisation_checks",
        metadata={
            **describe([checked], RandomisationChecks),
            "failed": dg.MetadataValue.json(failed.to_dicts()),
        },
    )
    yield dg.MaterializeResult(
        asset_key="experiment_effects",
        metadata={
            **describe([written], ExperimentEffects),
            "effect_on_spend": embed_figure(
                plot_effects(effects, outcome="spend", currency=settings.currency)
            ),
        },
    )
    yield dg.AssetCheckResult(
        asset_key="randomisation_checks",
        check_name="log_is_randomised",
        passed=is_randomisation_sound(checks),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"checks": checks.height, "failed": failed.height},
    )


@dg.asset(
    deps=_SNAPSHOT,
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
    registry.make_champion(registered.version, ope_gate="first_champion", evidence={})
    return dg.MaterializeResult(
        metadata={"champion": registered.version, "kind": rule.kind, "new": True}
    )


class SearchConfig(dg.Config):
    """How long to search."""

    n_trials: int = 20


def read_learning_settings(lake: Lake, training_date: date) -> LearningSettings:
    """Return the settings that searches up to a date pinned, or the defaults."""
    days = [day for day in lake.dates("learning_settings") if day <= training_date]
    if not days:
        return LearningSettings()
    return pin_settings(pl.concat([lake.read("learning_settings", day) for day in days]))


@dg.asset(
    deps=_SNAPSHOT,
    group_name="learn",
    kinds={"lightgbm", "optuna"},
)
def learning_settings(
    context: dg.AssetExecutionContext, config: SearchConfig, lake: Lake, programme: ProgrammeFile
) -> dg.MaterializeResult:
    """Tree settings by search; pinned for later trainings if a fold that no trial saw agrees."""
    training_date = find_training_date(lake)
    snapshot, actions = read_snapshot(lake, programme, training_date)
    found = search_settings(
        snapshot,
        programme=programme.read(),
        actions=actions,
        searched_for_date=training_date,
        n_trials=config.n_trials,
        # As pinned before: searching a date again starts from the same.
        settings=read_learning_settings(lake, training_date - timedelta(days=1)),
        progress=lambda message: context.log.info(message),
    )
    written = lake.write(found, "learning_settings", training_date, schema=LearningSettingsRow)
    return dg.MaterializeResult(
        metadata={
            **describe([written], LearningSettingsRow),
            "is_pinned": bool(found["is_pinned"][0]),
            "found": tabulate(found),
        },
        data_version=dg.DataVersion(written.sha256),
    )


@dg.asset(
    deps=[*_SNAPSHOT, "learning_settings"],
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
    snapshot, actions = read_snapshot(lake, programme, training_date)
    settings = programme.read()
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
        registered = registry.register(
            candidate,
            programme=settings,
            tags={"training_date": str(training_date), "data_hash": snapshot.data_hash},
        )
    registry.mark_candidate(registered.version)
    return dg.MaterializeResult(
        metadata={
            "candidate": registered.version,
            "training_date": str(training_date),
            "n_decisions": snapshot.training.n_decisions,
            "n_fitted_propensities": snapshot.n_fitted,
            "mlflow_run": run.run_id,
            "heads": tabulate(heads),
            "candidates": tabulate(report.evidence),
            "ranking": tabulate(report.ranking),
            "predicted_against_realised": embed_figure(calibration),
            "efficiency": tabulate(report.efficiency),
            "personas": embed_figure(personas),
            "curve_against_line": tabulate(report.curves),
            "horizons": tabulate(horizons),
            "effects": embed_figure(figure),
        },
        data_version=dg.DataVersion(registered.policy_hash),
    )


@dg.asset(
    deps=_SNAPSHOT,
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
