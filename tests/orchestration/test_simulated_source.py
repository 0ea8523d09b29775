import json
from datetime import date, timedelta

import polars as pl
import pytest
from conftest import run_liftloop

from ml.core.errors import ContractError
from ml.simulate.truth import compute_truth
from ml.simulate.world import World
from orchestration.settings import prepare_home, read_settings
from orchestration.sources.simulated import SimulatedSource

FIRST = date(2026, 1, 5)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFTLOOP_HOME", str(tmp_path / "home"))
    settings = read_settings()
    prepare_home(settings)
    return settings


def _landed(settings, table, day):
    return pl.read_parquet(settings.landing / table / str(day) / "*.parquet")


def test_a_stopped_source_goes_on_as_if_it_had_not_stopped(settings):
    target = FIRST + timedelta(days=4)
    SimulatedSource(settings, n_customers=400).land(FIRST + timedelta(days=2))
    SimulatedSource(settings).land(target)
    source = SimulatedSource(settings)
    world = World(source.config)
    state, tables = world.open_day()
    assert _landed(settings, "events", FIRST).equals(tables["events"])
    while world.date_of(state.day) < target:
        decisions = world.randomise(state)
        state, tables = world.step(state, decisions)
    assert _landed(settings, "events", target).equals(tables["events"])
    logged = _landed(settings, "assignments", target).filter(pl.col("surface") == "lifecycle")
    assert logged.equals(decisions)


def test_truth_lies_outside_of_landing_and_lake(settings):
    source = SimulatedSource(settings, n_customers=400)
    source.land(FIRST + timedelta(days=2))
    files = sorted(settings.world.glob("truth/*.parquet"))
    assert [path.stem for path in files] == [str(FIRST), str(FIRST + timedelta(days=1))]
    world = World(source.config)
    state, _ = world.open_day()
    expected = compute_truth(world, state)
    kept = pl.read_parquet(files[0])
    assert (kept["value.email_coupon_2"].to_numpy() == expected.value[:, 2]).all()
    assert not [path for path in settings.landing.rglob("*") if "truth" in path.name]


def test_a_state_folder_keeps_to_its_world(settings):
    SimulatedSource(settings, world="bakery_plain", n_customers=300, seed=5)
    again = SimulatedSource(settings)
    assert (again.config.name, again.config.n_customers, again.config.seed) == (
        "bakery_plain",
        300,
        5,
    )
    for asked in ({"world": "bakery"}, {"n_customers": 400}, {"seed": 6}):
        (name,) = asked
        with pytest.raises(ContractError, match=f"lives in a world with {name}"):
            SimulatedSource(settings, **asked)
    file = settings.world / "world.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 0}))
    with pytest.raises(ContractError, match="version 0 of the world"):
        SimulatedSource(settings)


def test_an_unknown_world_is_named(settings):
    with pytest.raises(ContractError, match="no world 'moon'"):
        SimulatedSource(settings, world="moon")
    assert not (settings.world / "world.json").exists()


def test_the_world_command_writes_a_world(tmp_path):
    out = tmp_path / "out"
    arguments = ("--out", str(out), "--days", "2", "--customers", "200", "--truth")
    printed = run_liftloop(tmp_path / "home", "world", "--world", "bakery+tastes@1", *arguments)
    assert "rows of the world bakery+tastes@1" in printed
    assert len(list(out.glob("truth/*.parquet"))) == 2
    refused = run_liftloop(tmp_path / "home", "world", "--world", "bakery", *arguments, expect=1)
    assert "is not empty" in refused
    purchases = ("--out", str(tmp_path / "p"), "--days", "3", "--customers", "50")
    run_liftloop(tmp_path / "home", "world", "--world", "purchase_world_identified", *purchases)
    assert (tmp_path / "p" / "assignments" / "2025-01-02" / "world.parquet").exists()
