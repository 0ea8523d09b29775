import os
import time
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from orchestration.catch_up import BUILT, INGESTED, last_chain, link_chain
from orchestration.holding import hold_home
from orchestration.jobs import nightly
from orchestration.lake import Lake, write_parquet
from orchestration.resources import EMITTED_FILE, Landing
from orchestration.schedules import nightly_schedule
from orchestration.sensors import landing_files
from orchestration.settings import read_settings


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFTLOOP_HOME", str(tmp_path))
    (tmp_path / "warehouse.duckdb").touch()
    return Lake(root=str(tmp_path / "lake")), Landing(root=str(tmp_path / "landing"))


@pytest.fixture
def instance():
    # Contexts leave their instance's storage behind, for whoever loads definitions next.
    with set_defs_state_storage(None), dg.instance_for_test() as there:
        yield there


@pytest.fixture
def evaluate(places, instance):
    def run():
        with dg.build_sensor_context(instance=instance) as context:
            return landing_files(context)

    return run


@pytest.fixture
def tick(places, instance):
    def run(day):
        at = datetime.combine(date.fromisoformat(day), datetime.min.time(), tzinfo=UTC)
        at += timedelta(hours=1, minutes=30)
        with dg.build_schedule_context(instance, scheduled_execution_time=at) as context:
            return nightly_schedule(context)

    return run


def _at(day, *clock):
    return datetime(*map(int, day.split("-")), *clock, tzinfo=UTC).timestamp()


def _deliver(landing, day, *, table="events", age_seconds=600, name="a.parquet"):
    path = landing.folder(table, day) / name
    write_parquet(pl.DataFrame({"x": [1]}), path)
    stamp = time.time() - age_seconds
    os.utime(path, (stamp, stamp))


def _seal(lake, day):
    write_parquet(pl.DataFrame({"x": [1]}), lake.path("assignment_table", day))


def _ingest(places, day, *, is_built=True):
    """Leave what ingestion and build leave of a delivered night."""
    lake, landing = places
    night = date.fromisoformat(day)
    rows = [
        {
            "table": table,
            "source_file": path.name,
            "delivered_date": night,
            "delivered": 1,
            "accepted": 1,
            "fingerprint": "f",
            "size": path.stat().st_size,
            "modified_ns": path.stat().st_mtime_ns,
        }
        for table, paths in landing.files(night).items()
        for path in paths
    ]
    write_parquet(pl.DataFrame(rows), lake.path("delivered_files", night))
    chain = link_chain(lake, night, last_chain(lake, before=night))
    done = pl.DataFrame({"decision_date": [night], "chain": [chain]})
    for table in (*INGESTED, *(BUILT if is_built else ())):
        if table != "delivered_files":
            write_parquet(done, lake.path(table, night))


def test_the_first_night_is_started_by_hand(places, evaluate):
    _deliver(places[1], "2026-03-02")
    assert "first one by hand" in evaluate().skip_message


def test_a_delivery_that_has_settled_starts_its_night(places, evaluate, tick):
    lake, landing = places
    _deliver(landing, "2026-03-02")
    _ingest(places, "2026-03-02")
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-04")
    _deliver(landing, "2026-03-03", age_seconds=time.time() - _at("2026-03-03", 0))
    request = evaluate()
    assert (request.job_name, request.partition_key) == ("nightly", "2026-03-03")
    assert tick("2026-03-03").partition_key == "2026-03-03"


def test_nights_that_were_missed_or_half_built_are_made_good_first(places, evaluate, tick):
    lake, landing = places
    for day in ("2026-03-02", "2026-03-03", "2026-03-04"):
        _deliver(landing, day)
    _ingest(places, "2026-03-02", is_built=False)
    _seal(lake, "2026-03-02")
    _seal(lake, "2026-03-03")
    request = evaluate()
    assert request.job_name == "rebuild"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-03-02"
    assert "had not ended" in request.tags["liftloop/reason"]
    _ingest(places, "2026-03-02")
    request = evaluate()
    assert request.job_name == "history"
    assert request.tags["dagster/asset_partition_range_start"] == "2026-03-03"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-03-03"
    for path in landing.delivered(date(2026, 3, 4)):
        os.utime(path, (_at("2026-03-04", 0),) * 2)
    assert "history of 2026-03-03 to 2026-03-03 comes first" in tick("2026-03-04").skip_message
    _ingest(places, "2026-03-03")
    assert (evaluate().job_name, evaluate().partition_key) == ("nightly", "2026-03-04")


def test_while_a_night_runs_nothing_else_is_started(places, evaluate, tick, instance):
    lake, landing = places
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-03")
    instance.create_run_for_job(dg.job(name=nightly.name)(lambda: None))
    assert evaluate().skip_message == "nightly is running"
    assert tick("2026-03-03").skip_message == "nightly is running"


def test_a_night_without_a_delivery_is_not_started_by_the_clock(places, tick):
    _seal(places[0], "2026-03-02")
    assert "nothing delivered after 2026-03-02" in tick("2026-03-03").skip_message


def test_a_sealed_night_and_the_first_one_are_not_started_by_the_clock(places, tick):
    _deliver(places[1], "2026-03-03")
    assert "first one by hand" in tick("2026-03-03").skip_message
    _seal(places[0], "2026-03-03")
    assert "nothing delivered after 2026-03-03" in tick("2026-03-03").skip_message


def test_the_clock_leaves_a_delivery_that_still_arrives_to_the_sensor(places, tick):
    _seal(places[0], "2026-03-02")
    # As old at the tick as it is when the tick comes.
    _deliver(places[1], "2026-03-03", age_seconds=time.time() - _at("2026-03-03", 1, 29, 30))
    assert "still arriving" in tick("2026-03-03").skip_message


def test_tonight_is_left_to_the_clock_at_first(places, evaluate, monkeypatch):
    lake, landing = places
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    _deliver(landing, str(yesterday))
    _ingest(places, str(yesterday))
    _seal(lake, str(yesterday))
    _deliver(landing, str(today))
    monkeypatch.setenv("LIFTLOOP_NIGHT", "23:54")
    assert f"{today} begins at 23:59" in evaluate().skip_message


def test_days_on_which_nothing_was_delivered_are_passed_by_a_history(places, evaluate):
    lake, landing = places
    _deliver(landing, "2026-03-02")
    _ingest(places, "2026-03-02")
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-04")
    request = evaluate()
    assert request.job_name == "history"
    assert request.tags["dagster/asset_partition_range_start"] == "2026-03-03"


def test_a_repeated_night_has_the_same_key_and_a_catch_up_that_was_done_another(
    places, evaluate, instance
):
    lake, landing = places
    for day in ("2026-03-02", "2026-03-03", "2026-03-04"):
        _deliver(landing, day)
    _ingest(places, "2026-03-02")
    _seal(lake, "2026-03-02")
    _seal(lake, "2026-03-03")
    first = evaluate()
    assert evaluate().run_key == first.run_key
    run = instance.create_run_for_job(dg.job(name="history")(lambda: None))
    instance.report_run_failed(run)
    assert evaluate().run_key == first.run_key
    dg.job(name="history")(lambda: None).execute_in_process(instance=instance)
    assert evaluate().run_key != first.run_key
    _ingest(places, "2026-03-03")
    night = evaluate()
    # What ingestion itself lays into the delivery.
    _deliver(landing, "2026-03-04", table="assignments", age_seconds=0, name=EMITTED_FILE)
    assert evaluate().run_key == night.run_key


def test_while_a_command_has_the_folder_nothing_is_started(places, evaluate, tmp_path):
    _seal(places[0], "2026-03-02")
    _deliver(places[1], "2026-03-03")
    with hold_home(read_settings(), command="erase"):
        assert "erase" in evaluate().skip_message


def test_a_delivery_that_still_arrives_waits(places, evaluate):
    lake, landing = places
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-03", age_seconds=5)
    assert "still arriving" in evaluate().skip_message


def test_our_own_table_in_tomorrows_folder_starts_nothing(places, evaluate):
    lake, landing = places
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-03", table="assignments")
    _deliver(landing, "last-minute", table="events")
    assert "nothing delivered" in evaluate().skip_message


def test_what_no_night_looks_for_in_landing_is_named(tmp_path):
    landing = Landing(root=str(tmp_path))
    for name in ("events/2026-01-08", "events/20260108", "events/.cache", "event/2026-01-08"):
        (tmp_path / name).mkdir(parents=True)
    assert [each.split(":")[0] for each in landing.misplaced()] == ["event", "events/20260108"]
