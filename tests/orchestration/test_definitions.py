from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from conftest import ROOT
from dagster._core.workspace.load import location_origins_from_yaml_paths

from ml.core import media_schemas, schemas
from orchestration.assets.features import write_dbt_variables
from orchestration.definitions import defs
from orchestration.gpu_definitions import defs as gpu_defs

GROUPS = {
    "identify": {
        *(f"raw_{table}" for table in ("customers", "actions", "assignments", "deliveries")),
        *(f"raw_{table}" for table in ("events", "contactability", "media_spend", "media_kpi")),
        "quarantine",
        "delivered_files",
        "ingestion_counts",
        "customer_features",
        "customer_days",
        "customer_tokens",
        "beliefs",
        "training_beliefs",
        "logged_decisions",
        "realised_outcomes",
        "action_catalogue",
        "media_daily",
        "sales_daily",
        "randomisation_checks",
        "experiment_effects",
        "portfolio_effects",
        "boundary_effects",
    },
    "learn": {
        "lifecycle_rule",
        "uplift_heads",
        "recalibrated_policy",
        "agent_policy",
        "action_plan",
        "learning_settings",
        "interactors",
        "tree_policy",
        "media_mix",
    },
    "decide": {"assignment_table", "holdout", "budget_ledger"},
    "validate": {
        "policy_values",
        "group_values",
        "budget_curve",
        "evaluation_record",
        "champion",
        "monitoring",
        "nightly_summary",
        "alerts",
        "online_validation",
    },
}
MARTS = {
    "customer_features": schemas.CustomerFeatures,
    "customer_days": schemas.CustomerDays,
    "customer_tokens": schemas.CustomerTokens,
    "logged_decisions": schemas.LoggedDecisionRows,
    "realised_outcomes": schemas.RealisedOutcomes,
    "action_catalogue": schemas.ActionCatalogue,
    "media_daily": media_schemas.MediaDaily,
    "sales_daily": media_schemas.SalesDaily,
}
_SQL_TYPES = {
    "String": "varchar",
    "Date": "date",
    "Boolean": "boolean",
    "Int64": "bigint",
    "Float64": "double",
    "List(String)": "varchar[]",
    "List(Float64)": "double[]",
}


def test_both_code_locations_load():
    dg.Definitions.validate_loadable(defs)
    dg.Definitions.validate_loadable(gpu_defs)


def test_assets_stand_in_the_loops_four_groups():
    graph = defs.resolve_asset_graph()
    found = {}
    # The other location's asset is known by its key alone.
    assert graph.external_asset_keys == {dg.AssetKey("world_model")}
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        found.setdefault(node.group_name, set()).add(key.to_user_string())
    assert set(found) == set(GROUPS)
    models = {name for name in found["identify"] if name.startswith("warehouse/")}
    assert models == {
        f"warehouse/{path.stem}" for path in (ROOT / "dbt_project/models").rglob("*.sql")
    }
    assert {**found, "identify": found["identify"] - models} == GROUPS


@pytest.mark.parametrize("location", [defs, gpu_defs])
def test_each_asset_says_what_it_is_and_who_answers_for_it(location):
    graph = location.resolve_asset_graph()
    described = {
        key.to_user_string(): (node.owners, bool(node.kinds), bool(node.description))
        for key in graph.get_all_asset_keys()
        if (node := graph.get(key)).is_materializable
    }
    assert set(map(str, described.values())) == {"(['team:liftloop'], True, True)"}


def test_jobs_and_schedules_are_the_listed_ones():
    jobs = {job.name for job in defs.resolve_all_job_defs()} - {"__ASSET_JOB"}
    assert jobs == {
        *(
            "history",
            "rebuild",
            "nightly",
            "weekly_training",
            "settings_search",
            "interactor_search",
            "tree_training",
            "media_mix_fit",
            "promotion",
            "recalibration",
            "agent_training",
            "rollback",
            "purge",
        )
    }
    schedules = {each.name: each for each in defs.schedules}
    scheduled = ("nightly", "weekly_training", "media_mix", "settings_search", "purge")
    assert set(schedules) == {f"{job}_schedule" for job in scheduled}
    assert defs.resolve_schedule_def("nightly_schedule").cron_schedule == "30 1 * * *"
    assert defs.resolve_schedule_def("weekly_training_schedule").cron_schedule == "30 3 * * 1"
    assert defs.resolve_schedule_def("media_mix_schedule").cron_schedule == "30 4 * * 1"


def test_only_dbt_and_its_export_open_the_warehouse():
    graph = defs.resolve_asset_graph()
    pooled = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if "duckdb" in (graph.get(key).pools or set())
    }
    assert {name for name in pooled if not name.startswith("warehouse/")} == set(MARTS)


def test_the_world_model_is_trained_by_a_job_of_the_gpu_location_before_the_heads():
    jobs = {job.name for job in gpu_defs.resolve_all_job_defs()} - {"__ASSET_JOB"}
    assert jobs == {"world_model_training"}
    assert gpu_defs.resolve_schedule_def("world_model_schedule").cron_schedule == "30 2 * * 1"
    assert gpu_defs.resolve_asset_graph().get(dg.AssetKey("world_model")).pools == {"gpu"}


def test_workspace_names_both_locations():
    origins = location_origins_from_yaml_paths([str(ROOT / "workspace.yaml")])
    assert {each.location_name for each in origins} == {"liftloop", "liftloop_gpu"}


@pytest.mark.parametrize("name", MARTS)
def test_dbt_contract_and_schema_state_the_same_columns(name):
    described = yaml.safe_load(Path(ROOT / "dbt_project/models/marts/marts.yml").read_text())
    columns = next(model for model in described["models"] if model["name"] == name)["columns"]
    contract = {column["name"]: column["data_type"] for column in columns}
    expected = {}
    for column, definition in MARTS[name].columns().items():
        dtype = definition.dtype
        is_time = isinstance(dtype, pl.Datetime)
        expected[column] = "timestamp" if is_time else _SQL_TYPES[str(dtype)]
    assert contract == expected
    assert list(contract) == list(expected)


def test_dbt_variables_carry_the_programme_and_the_window():
    from datetime import date

    from ml.simulate.config import WorldConfig

    variables = write_dbt_variables(
        WorldConfig().programme,
        nights=[date(2026, 1, 5), date(2026, 1, 9)],
        as_of_date=date(2026, 2, 1),
    )
    assert variables["start_date"] == "2026-01-05"
    assert variables["end_date"] == "2026-01-09"
    assert variables["as_of_date"] == "2026-02-01"
    assert variables["margin"] == 0.35
