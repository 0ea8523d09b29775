import os
import time
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from orchestration.catch_up import BUILT, INGESTED, last_chain, link_chain
from orchestration.jobs import nightly
from orchestration.lake import Lake, write_parquet
from orchestration.resources import Landing
from orchestration.schedules import nightly_schedule
from orchestration.sensors import landing_files


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
        lake, landing = places
        with dg.build_sensor_context(instance=instance) as context:
            (result,) = landing_files(context, landing=landing, lake=lake)
        return result

    return run


@pytest.fixture
def tick(places, instance):
    def run(day):
        at = datetime.combine(date.fromisoformat(day), datetime.min.time(), tzinfo=UTC)
        at += timedelta(hours=1, minutes=30)
        with dg.build_schedule_context(instance, scheduled_execution_time=at) as context:
            return nightly_schedule(context, landing=places[1])

    return run


def _deliver(landing, day, *, table="events", age_seconds=600):
    path = landing.folder(table, day) / "a.parquet"
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
    _deliver(landing, "2026-03-03")
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


def test_a_night_without_a_delivery_is_not_started_by_the_clock(tick):
    assert "not delivered yet" in tick("2026-03-03").skip_message


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
