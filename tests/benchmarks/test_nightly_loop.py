"""The study's direct path against the pipeline through Dagster, and its own arithmetic."""

import json
import math
import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from conftest import N_CUSTOMERS, run_night
from polars.testing import assert_frame_equal

from benchmarks.studies.nightly_loop.__main__ import _live_once
from benchmarks.studies.nightly_loop.contenders import Gate, Shadow
from benchmarks.studies.nightly_loop.living import live, live_nights, warm_up
from benchmarks.studies.nightly_loop.report import (
    add_increments,
    plot_lives,
    summarise,
    tabulate,
    write_line,
)
from benchmarks.studies.nightly_loop.through_dagster import live_through_dagster
from ml.core.rules import Pacing
from ml.core.schemas import CustomerFeatures
from ml.pipeline.pace import pace_programme
from ml.simulate.config import WorldConfig
from ml.simulate.world import World
from orchestration.lake import Lake
from orchestration.pacing import read_pace

CONFIG = WorldConfig(n_customers=N_CUSTOMERS)
FIRST = date(2026, 3, 2)


@pytest.fixture(scope="module")
def warm():
    world = World(CONFIG)
    return world, *warm_up(world, n_nights=2)


@pytest.fixture(scope="module")
def lake(lived_home):
    return Lake(root=str(lived_home / "lake"))


def test_features_are_the_warehouses_row_by_row(warm, lake):
    _, state, marts, _ = warm
    direct = CustomerFeatures.validate(marts.build_features(state.day), cast=True)
    through_dbt = lake.read("customer_features", FIRST).filter(pl.col("is_due"))
    assert direct.height > 150
    assert_frame_equal(
        direct.sort("customer_id"),
        through_dbt.sort("customer_id").select(direct.columns),
        check_exact=True,
    )


def test_outcomes_are_the_warehouses_row_by_row(warm, lake):
    _, _, _, system = warm
    log = pl.concat(system._log)
    columns = ["decision_id", "visits", "spend", "value", "cost"]
    outcomes = lake.scan("realised_outcomes", until=date(2026, 3, 1)).collect()
    expected = outcomes.filter(pl.col("is_matured")).select(columns)
    joined = log.select(columns).join(expected, on="decision_id", how="inner", suffix="_dbt")
    assert joined.height == log.height
    for name in columns[1:]:
        assert (joined[name] == joined[f"{name}_dbt"]).all(), name


def test_the_accounting_horizon_is_the_warehouses_row_by_row(warm, lake):
    _, _, _, system = warm
    log = system.read_log()
    # Events that became known later than the horizon's settling are in the lake, not yet here.
    expected = lake.scan("realised_outcomes", until=date(2026, 2, 28)).collect()
    columns = ["is_accounting_matured", "accounting_value", "accounting_cost"]
    joined = log.select("decision_id", *columns).join(
        expected.select("decision_id", *columns), on="decision_id", suffix="_dbt"
    )
    passed = joined.filter("is_accounting_matured", "is_accounting_matured_dbt")
    assert passed.height > 1_000
    for name in columns[1:]:
        gap = (passed[name] - passed[f"{name}_dbt"]).abs()
        assert (gap < 1e-9).mean() > 0.999, name
    # Two nights were ingested since: no decision had passed here that has not there.
    assert joined.filter("is_accounting_matured", ~pl.col("is_accounting_matured_dbt")).is_empty()


def test_both_paths_pace_the_same(warm, lake):
    _, state, marts, system = warm
    programme = replace(
        CONFIG.programme,
        pacing=Pacing(period_budget=4_000, begins=FIRST, period_days=30),
    )
    through_lake = read_pace(lake, programme, FIRST, marts.actions)
    history = [*system._log, *(decisions for decisions, _ in system._awaiting.values())]
    decided = pl.concat(
        [
            each.select(
                "decision_id",
                "action_id",
                pl.col("decided_at").dt.date().alias("decision_date"),
                pl.lit(None, dtype=pl.Float64).alias("expected_cost_effect"),
            )
            for each in history
        ]
    ).join(marts.receipts, on="decision_id")
    known = marts.redemptions.filter(pl.col("redeemed_date") < FIRST)
    direct = pace_programme(
        decided,
        known.join(decided.select("decision_id", "decision_date", "action_id"), on="decision_id"),
        catalogue=marts.actions,
        programme=programme,
        night=FIRST,
        n_due=marts.build_features(state.day).filter(~pl.col("is_holdout")).height,
    )
    assert direct.pace["outstanding"].item() > 100
    assert_frame_equal(through_lake.pace, direct.pace)
    assert_frame_equal(through_lake.ledger, direct.ledger)
    assert through_lake.budget == pytest.approx(direct.budget)


@pytest.fixture(scope="module")
def plain_home(tmp_path_factory):
    """A state folder after its first two nights without a world model."""
    home = tmp_path_factory.mktemp("plain") / "home"
    for _ in range(2):
        printed = run_night(home, LIFTLOOP_WORLD_MODEL="off")
    assert not Lake(root=str(home / "lake")).scan("training_beliefs").collect().height
    assert "Decided: " in printed
    return home


@pytest.mark.slow
def test_both_paths_decide_the_same_nights(warm, plain_home, monkeypatch):
    monkeypatch.setenv("LIFTLOOP_HOME", str(plain_home))
    monkeypatch.setenv("LIFTLOOP_WORLD_MODEL", "off")
    world, state, marts, system = warm
    sealed = live_through_dagster(CONFIG, home=plain_home, n_nights=2)
    learner = system.branch()
    learner.train(state.day, marts)
    shadow = Shadow(learner, sealed.tables)
    live_nights(world, shadow, state, marts.branch(), n_nights=2)
    assert shadow.n_compared == sum(table.height for table in sealed.tables.values()) > 300
    assert shadow.n_differing == 0
    ((gate,), (expected,)) = learner.gates, sealed.gates
    assert (gate.night, gate.is_passed) == (expected.night, expected.is_passed)
    assert gate.difference == pytest.approx(expected.difference, rel=1e-9)
    assert str(gate).startswith("day 56 ")


@pytest.mark.slow
def test_a_life_through_dagster_replays_what_was_sealed(plain_home, tmp_path, monkeypatch):
    monkeypatch.setenv("LIFTLOOP_HOME", str(plain_home))
    monkeypatch.setenv("LIFTLOOP_WORLD_MODEL", "off")
    shutil.copytree(plain_home, tmp_path / f"home-bakery-{N_CUSTOMERS}")
    life = _live_once(CONFIG, 2, tmp_path)
    assert life.n_compared > 300
    assert life.n_differing == 0
    assert set(life.nights["contender"]) == set(NET)


def test_a_life_accounts_for_every_contender():
    life = live(replace(CONFIG, seed=3), n_nights=2)
    assert isinstance(life.gates[0], Gate)
    nights = add_increments(life.nights)
    assert nights.height == 6 * 2
    assert (nights["net_value"] - (nights["value"] - nights["cost"])).abs().max() < 1e-6
    never = nights.filter(pl.col("contender") == "never_send")
    assert (never["increment"] == 0).all()
    assert (never["offers"] == 0).all()
    assert (never["decision_cost"] == 0).all()
    assert nights["budget"].min() > 0
    assert set(tabulate(nights).split()) >= {"system", "oracle", "random"}


def _nights(seeds, net):
    return pl.DataFrame(
        [
            {
                "contender": name,
                "night": night,
                "seed": seed,
                "value": value + seed + 5,
                "cost": 5.0,
                "net_value": value + seed,
                "offers": 1,
                "opt_outs": 0,
                "budget": 10.0,
                "decision_cost": 10.2 if (name, night) == ("system", 12) else 9.0,
            }
            for seed in seeds
            for night in range(1, 13)
            for name, value in net.items()
        ]
    )


NET = {
    "system": 160.0,
    "oracle": 200.0,
    "frozen_champion": 150.0,
    "lifecycle_rule": 120.0,
    "random": 110.0,
    "never_send": 100.0,
}


def test_figures_by_hand(tmp_path):
    nights = add_increments(_nights((0, 1), NET))
    figures = summarise(nights, promotions=2, refusals=1)
    assert figures["oracle_share"] == pytest.approx(0.6)
    assert figures["oracle_share_last_10"] == pytest.approx(0.6)
    assert figures["vs_rule_ratio"] == pytest.approx((160 / 120 + 161 / 121) / 2)
    half = 12.7062 * abs(160 / 120 - 161 / 121) / 2
    assert figures["vs_rule_ratio_low"] == pytest.approx(figures["vs_rule_ratio"] - half, rel=1e-4)
    assert figures["overspend_share"] == pytest.approx(1 / 12)
    line = json.loads(write_line(figures))
    assert (line["promotions"], line["refusals"], line["seeds"], line["nights"]) == (2, 1, 2, 12)
    plot_lives(nights, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_one_seed_has_no_lower_bound():
    figures = summarise(add_increments(_nights((0,), NET)), promotions=0, refusals=1)
    assert not [name for name in figures if name.endswith("_low")]
    assert all(math.isfinite(value) for value in figures.values())
    assert np.isclose(figures["vs_random_ratio"], 160 / 110)
