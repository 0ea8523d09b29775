"""Jobs: history and rebuild (a range of nights), nightly, training, search, promotion, media mix.

Reads and writes: what their assets do.
"""

import dagster as dg

from orchestration.partitions import NIGHTS
from orchestration.settings import read_settings

# A process a step costs about ten seconds each; one process serves a night on one machine.
EXECUTOR = (
    dg.multiprocess_executor.configured({"max_concurrent": 2})
    if read_settings().is_multiprocess
    else dg.in_process_executor
)

_INGEST = dg.AssetSelection.assets(
    *(
        f"raw_{table}"
        for table in (
            "customers",
            "actions",
            "assignments",
            "deliveries",
            "events",
            "contactability",
            "media_spend",
            "media_kpi",
        )
    ),
    "quarantine",
    "delivered_files",
    "ingestion_counts",
)
_BUILD = dg.AssetSelection.assets(
    "customer_features",
    "customer_days",
    "customer_tokens",
    "logged_decisions",
    "realised_outcomes",
    "action_catalogue",
    "media_daily",
    "sales_daily",
) | dg.AssetSelection.key_prefixes("warehouse")

history = dg.define_asset_job(
    "history",
    selection=_INGEST | _BUILD,
    partitions_def=NIGHTS,
    description="Ingest and build features for a range of nights in one run; decides nothing.",
    executor_def=EXECUTOR,
)

rebuild = dg.define_asset_job(
    "rebuild",
    selection=_BUILD,
    partitions_def=NIGHTS,
    description="Build warehouse and marts of a range of nights anew from the lake's raw tables.",
    executor_def=EXECUTOR,
)

nightly = dg.define_asset_job(
    "nightly",
    selection=_INGEST
    | _BUILD
    | dg.AssetSelection.assets(
        "beliefs",
        "online_validation",
        "assignment_table",
        "holdout",
        "budget_ledger",
        "monitoring",
        "nightly_summary",
        "alerts",
    ),
    partitions_def=NIGHTS,
    description="Ingest tonight's delivery, build features, decide, emit the assignment table.",
    executor_def=EXECUTOR,
)

promotion = dg.define_asset_job(
    "promotion",
    selection=dg.AssetSelection.assets("group_values", "champion"),
    description="Act on the newest evaluation record: promote the candidate, or keep the champion.",
    executor_def=EXECUTOR,
)

weekly_training = dg.define_asset_job(
    "weekly_training",
    selection=dg.AssetSelection.assets(
        "randomisation_checks",
        "training_beliefs",
        "experiment_effects",
        "portfolio_effects",
        "boundary_effects",
        "lifecycle_rule",
        "uplift_heads",
        "action_plan",
        "policy_values",
        "group_values",
        "budget_curve",
        "evaluation_record",
        "champion",
    ),
    description="Check the log, fit the heads, value the candidate, promote it if it's proven.",
    executor_def=EXECUTOR,
)

recalibration = dg.define_asset_job(
    "recalibration",
    selection=dg.AssetSelection.assets(
        "randomisation_checks",
        "training_beliefs",
        "experiment_effects",
        "recalibrated_policy",
        "policy_values",
        "group_values",
        "budget_curve",
        "evaluation_record",
        "champion",
    ),
    description="After a drift: calibrate the champion anew, promote that if it's proven.",
    executor_def=EXECUTOR,
)

agent_training = dg.define_asset_job(
    "agent_training",
    selection=dg.AssetSelection.assets(
        "randomisation_checks",
        "training_beliefs",
        "experiment_effects",
        "agent_policy",
        "policy_values",
        "group_values",
        "budget_curve",
        "evaluation_record",
        "champion",
    ),
    description="Train an agent that looks beyond the next week; promote it if it's proven.",
    executor_def=EXECUTOR,
)

settings_search = dg.define_asset_job(
    "settings_search",
    selection=dg.AssetSelection.assets("learning_settings"),
    description="Search tree settings on the last training's snapshot; pin them if confirmed.",
    executor_def=EXECUTOR,
)

tree_training = dg.define_asset_job(
    "tree_training",
    selection=dg.AssetSelection.assets(
        "randomisation_checks",
        "training_beliefs",
        "experiment_effects",
        "interactors",
        "tree_policy",
        "policy_values",
        "group_values",
        "budget_curve",
        "evaluation_record",
        "champion",
    ),
    description="Search what effects depend on; promote a tree of it if it's proven.",
    executor_def=EXECUTOR,
)

interactor_search = dg.define_asset_job(
    "interactor_search",
    selection=dg.AssetSelection.assets("interactors"),
    description="Search what offers' effects depend on; measure it, draw a policy tree.",
    executor_def=EXECUTOR,
)

media_mix_fit = dg.define_asset_job(
    "media_mix_fit",
    selection=dg.AssetSelection.assets("media_mix"),
    description="Fit the media mix with the log's lift tests; recommend a split of the spend.",
    executor_def=EXECUTOR,
)
