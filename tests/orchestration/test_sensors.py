import os
import time

import dagster as dg
import polars as pl
import pytest

from orchestration.lake import Lake, write_parquet
from orchestration.resources import Landing
from orchestration.sensors import landing_files


@pytest.fixture
def places(tmp_path):
    return Lake(root=str(tmp_path / "lake")), Landing(root=str(tmp_path / "landing"))


def _evaluate(places):
    lake, landing = places
    context = dg.build_sensor_context()
    (result,) = landing_files(context, landing=landing, lake=lake)
    return result


def _deliver(landing, day, *, table="events", age_seconds=600):
    path = landing.folder(table, day) / "a.parquet"
    write_parquet(pl.DataFrame({"x": [1]}), path)
    stamp = time.time() - age_seconds
    os.utime(path, (stamp, stamp))


def _seal(lake, day):
    write_parquet(pl.DataFrame({"x": [1]}), lake.path("assignment_table", day))


def test_the_first_night_is_started_by_hand(places):
    _deliver(places[1], "2026-03-02")
    assert "first one by hand" in _evaluate(places).skip_message


def test_a_delivery_that_has_settled_starts_its_night(places):
    lake, landing = places
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-04")
    _deliver(landing, "2026-03-03")
    assert _evaluate(places).partition_key == "2026-03-03"


def test_a_delivery_that_still_arrives_waits(places):
    lake, landing = places
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-03", age_seconds=5)
    assert "still arriving" in _evaluate(places).skip_message


def test_our_own_table_in_tomorrows_folder_starts_nothing(places):
    lake, landing = places
    _seal(lake, "2026-03-02")
    _deliver(landing, "2026-03-03", table="assignments")
    _deliver(landing, "last-minute", table="events")
    assert "nothing delivered" in _evaluate(places).skip_message


def test_what_no_night_looks_for_in_landing_is_named(tmp_path):
    landing = Landing(root=str(tmp_path))
    for name in ("events/2026-01-08", "events/20260108", "events/.cache", "event/2026-01-08"):
        (tmp_path / name).mkdir(parents=True)
    assert [each.split(":")[0] for each in landing.misplaced()] == ["event", "events/20260108"]
