"""What a training leaves beside its candidate, and the search for its settings."""

import subprocess
import sys

import polars as pl
from conftest import ROOT, clean_environment

from ml.core.schemas import ActionPlan, LearningSettingsRow
from orchestration.lake import Lake

_SEARCH = """
from orchestration.definitions import defs
job = defs.resolve_job_def("settings_search")
config = {"ops": {"learning_settings": {"config": {"n_trials": 2}}}}
assert job.execute_in_process(run_config=config).success
"""
_TRAIN = """
import dagster as dg
from ml.tracking.registry import CANDIDATE, PolicyRegistry
from orchestration.definitions import defs, settings
job = defs.resolve_implicit_global_asset_job_def()
assert job.execute_in_process(asset_selection=[dg.AssetKey("uplift_heads")]).success
registry = PolicyRegistry(settings.tracking_uri)
heads = registry.load(registry.version_of(CANDIDATE)).policy.scorer.heads
print("trees:", {
    len(forest.trees)
    for name, ensemble in heads.ensembles.items()
    if "residual_fine" not in name  # It has settings of its own.
    for part in ensemble.members
    for forest in part.forests.values()
})
"""


def _run(home, script):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_training_plans_the_next_action_set(lived_home):
    lake = Lake(root=str(lived_home / "lake"))
    (day,) = lake.dates("action_plan")
    plan = ActionPlan.validate(lake.read("action_plan", day))
    assert lake.dates("randomisation_checks")[-1] == day
    seen = plan.filter(pl.col("proposal") != "add")
    assert seen["n_rows"].sum() > 1_000
    assert set(plan["proposal"].cast(pl.String)) <= {"keep", "drop", "add"}


def test_a_search_is_kept_and_trainings_take_what_it_pinned(home_copy):
    lake = Lake(root=str(home_copy / "lake"))
    (day,) = lake.dates("action_plan")
    _run(home_copy, _SEARCH)
    (searched,) = lake.dates("learning_settings")
    assert searched == day
    found = LearningSettingsRow.validate(lake.read("learning_settings", day))
    pinned = found.with_columns(
        pl.lit(True).alias("is_pinned"), pl.lit(7).cast(pl.Int64).alias("n_trees")
    )
    lake.write(pinned, "learning_settings", day, schema=LearningSettingsRow)
    assert "trees: {7}" in _run(home_copy, _TRAIN)
