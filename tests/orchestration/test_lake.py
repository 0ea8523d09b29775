import os
import socket
from datetime import date

import dataframely as dy
import polars as pl
import pytest

from ml.core.errors import ContractError
from orchestration.files import hash_file, replace_file, sweep_temporary
from orchestration.lake import Lake

DAY = date(2026, 1, 5)


class Numbers(dy.Schema):
    number = dy.Int64(nullable=False, min=0)


@pytest.fixture
def lake(tmp_path):
    return Lake(root=str(tmp_path))


def test_a_written_partition_is_read_back_with_its_hash(lake):
    receipt = lake.write(pl.DataFrame({"number": [1, 2]}), "t", DAY, schema=Numbers)
    assert lake.read("t", DAY)["number"].to_list() == [1, 2]
    assert receipt.n_rows == 2
    assert receipt.sha256 == hash_file(lake.path("t", DAY))
    assert lake.dates("t") == [DAY]


def test_a_refused_frame_leaves_the_old_partition(lake):
    lake.write(pl.DataFrame({"number": [1]}), "t", DAY, schema=Numbers)
    before = hash_file(lake.path("t", DAY))
    with pytest.raises(dy.exc.ValidationError):
        lake.write(pl.DataFrame({"number": [-1]}), "t", DAY, schema=Numbers)
    assert hash_file(lake.path("t", DAY)) == before
    assert [path.name for path in lake.path("t", DAY).parent.iterdir()] == ["part-0.parquet"]


def test_a_writer_that_dies_leaves_the_old_partition(lake, monkeypatch):
    lake.write(pl.DataFrame({"number": [1]}), "t", DAY, schema=Numbers)

    def run_out_of_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestration.files.os.replace", run_out_of_disk)
    with pytest.raises(OSError, match="No space"):
        lake.write(pl.DataFrame({"number": [2]}), "t", DAY, schema=Numbers)
    assert lake.read("t", DAY)["number"].to_list() == [1]
    assert [path.name for path in lake.path("t", DAY).parent.iterdir()] == ["part-0.parquet"]


def test_what_killed_writers_left_is_swept_and_what_is_being_written_stays(tmp_path):
    host = socket.gethostname()
    alive, dead, elsewhere, foreign = (
        tmp_path / name
        for name in (
            f".a.parquet.{host}-{os.getpid()}-0123abcd.tmp",
            f".a.parquet.{host}-999999999-0123abcd.tmp",
            ".a.parquet.other-host-999999999-0123abcd.tmp",
            ".upload.tmp",
        )
    )
    for path in (alive, dead, elsewhere, foreign):
        path.write_text("half")
    assert sweep_temporary(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([alive, elsewhere, foreign])
    with replace_file(tmp_path / "b") as temporary:
        assert sweep_temporary(tmp_path) == 0
        temporary.write_text("whole")
    assert (tmp_path / "b").read_text() == "whole"


def test_the_same_rows_are_the_same_bytes(lake):
    frame = pl.DataFrame({"number": range(1_000)})
    first = lake.write(frame, "t", DAY, schema=Numbers)
    assert lake.write(frame, "t", DAY, schema=Numbers).sha256 == first.sha256


def test_what_was_never_written_is_named(lake):
    with pytest.raises(ContractError, match="no partition 2026-01-05"):
        lake.read("t", DAY)
    with pytest.raises(ContractError, match="no partition until"):
        lake.scan("t", until=DAY)


def test_scans_stop_at_the_date(lake):
    for day in (date(2026, 1, 5), date(2026, 1, 6)):
        lake.write(pl.DataFrame({"number": [day.day]}), "t", day, schema=Numbers)
    assert lake.scan("t", until=DAY).collect()["number"].to_list() == [5]
    assert lake.scan("t").collect().height == 2
