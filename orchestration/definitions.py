"""MAIN PATH 1: the CPU code location, everything by name.

Identify -> Learn -> Decide -> Validate -> (tomorrow) Identify
"""

import dagster as dg

from orchestration.assets.agent import agent_policy
from orchestration.assets.alerting import alerts
from orchestration.assets.assignment import assignment
from orchestration.assets.beliefs import beliefs, training_beliefs
from orchestration.assets.evaluation import champion, policy_evaluation
from orchestration.assets.features import marts, warehouse_models
from orchestration.assets.groups import group_values
from orchestration.assets.ingestion import ingestion
from orchestration.assets.interactors import interactors, tree_policy
from orchestration.assets.learning_settings import learning_settings
from orchestration.assets.media_mix import media_mix
from orchestration.assets.monitoring import monitoring, nightly_summary
from orchestration.assets.online_validation import online_validation
from orchestration.assets.planning import action_plan
from orchestration.assets.portfolio import boundary_effects, portfolio_effects
from orchestration.assets.randomisation import randomisation
from orchestration.assets.recalibration import recalibrated_policy
from orchestration.assets.uplift import lifecycle_rule, uplift_heads
from orchestration.jobs import (
    EXECUTOR,
    agent_training,
    history,
    interactor_search,
    media_mix_fit,
    nightly,
    promotion,
    rebuild,
    recalibration,
    settings_search,
    tree_training,
    weekly_training,
)
from orchestration.owning import own_assets
from orchestration.progress import progress_logger
from orchestration.purging import purge
from orchestration.resources import build_resources
from orchestration.rollback import rollback
from orchestration.schedules import (
    media_mix_schedule,
    nightly_schedule,
    purge_schedule,
    settings_search_schedule,
    weekly_training_schedule,
)
from orchestration.sensors import failed_runs, landing_files, late_table, update_rule
from orchestration.settings import prepare_home, read_settings

settings = read_settings()
prepare_home(settings)

defs = dg.Definitions(
    assets=own_assets(
        [
            # identify
            ingestion,
            warehouse_models,
            marts,
            beliefs,
            training_beliefs,
            randomisation,
            portfolio_effects,
            boundary_effects,
            # learn
            lifecycle_rule,
            uplift_heads,
            recalibrated_policy,
            agent_policy,
            action_plan,
            learning_settings,
            interactors,
            tree_policy,
            media_mix,
            # decide
            assignment,
            # validate
            policy_evaluation,
            group_values,
            champion,
            online_validation,
            monitoring,
            nightly_summary,
            alerts,
        ],
        owner=settings.owner,
    ),
    jobs=[
        history,
        rebuild,
        nightly,
        weekly_training,
        recalibration,
        agent_training,
        settings_search,
        interactor_search,
        tree_training,
        media_mix_fit,
        promotion,
        rollback,
        purge,
    ],
    schedules=[
        nightly_schedule,
        weekly_training_schedule,
        media_mix_schedule,
        settings_search_schedule,
        purge_schedule,
    ],
    sensors=[landing_files, update_rule, late_table, failed_runs],
    resources=build_resources(settings),
    executor=EXECUTOR,
    loggers={"console": dg.colored_console_logger, "progress": progress_logger},
)
