"""The GPU code location: the world model, on whichever worker serves this location."""

import dagster as dg

from orchestration.assets.world_model import world_model
from orchestration.jobs import EXECUTOR
from orchestration.owning import own_assets
from orchestration.progress import progress_logger
from orchestration.resources import build_resources
from orchestration.schedules import SCHEDULES_STATUS
from orchestration.settings import prepare_home, read_settings

settings = read_settings()
prepare_home(settings)

world_model_training = dg.define_asset_job(
    "world_model_training",
    selection=dg.AssetSelection.assets("world_model"),
    description="Train the world model on all customer-days; register it if it is healthy.",
    executor_def=EXECUTOR,
    # Heeded in a cluster alone: where a run's pod may stand.
    tags={
        "dagster-k8s/config": {
            "pod_spec_config": {
                "node_selector": {"accelerator": "nvidia"},
                "tolerations": [
                    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
                ],
            }
        }
    },
)

world_model_schedule = dg.ScheduleDefinition(
    name="world_model_schedule",
    job=world_model_training,
    cron_schedule="30 2 * * 1",
    execution_timezone="UTC",
    default_status=SCHEDULES_STATUS,
)

defs = dg.Definitions(
    assets=own_assets([world_model], owner=settings.owner),
    jobs=[world_model_training],
    schedules=[world_model_schedule],
    resources=build_resources(settings),
    executor=EXECUTOR,
    loggers={"console": dg.colored_console_logger, "progress": progress_logger},
)
