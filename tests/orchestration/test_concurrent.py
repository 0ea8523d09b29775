"""Several things at once on one state folder: all end well or say that they wait."""

import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from comparing import find_differences
from conftest import ROOT, clean_environment
from dagster import DagsterRunStatus
from dagster_graphql import DagsterGraphQLClient
from killing import find_leftovers, start_night

from orchestration.lake import Lake

THIRD = date(2026, 3, 4)


def _start_dagster(home):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    env = clean_environment(home, DAGSTER_HOME=str(home / "dagster"))
    tools = Path(sys.executable).parent
    commands = (
        ["dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"],
        ["dagster-daemon", "run", "-w", "workspace.yaml"],
    )
    processes = [
        subprocess.Popen(
            [str(tools / command[0]), *command[1:]],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    return processes, port


def _connect(port):
    for _ in range(90):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5)
        except OSError:
            time.sleep(1)
        else:
            return DagsterGraphQLClient("127.0.0.1", port_number=port)
    raise AssertionError("the webserver did not come up")


@pytest.mark.slow
def test_two_nights_a_training_from_the_ui_and_a_reader_at_once(third_night, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(third_night.base, home)
    lake, stop, scans, faults = Lake(root=str(home / "lake")), threading.Event(), [], []

    def read_on():
        while not stop.is_set():
            for table in ("customer_features", "realised_outcomes", "raw_events"):
                try:
                    scans.append(lake.scan(table).select(pl.all().null_count()).collect().height)
                # Any fault of the reader's thread is to fail the test, not only the expected.
                except Exception as error:
                    faults.append(f"{table}: {error}")
            time.sleep(0.05)

    dagster, port = _start_dagster(home)
    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        client = _connect(port)
        nights = [start_night(home)]
        run_id = client.submit_job_execution(
            "weekly_training", repository_location_name="liftloop", tags={"from": "a test"}
        )
        nights.append(start_night(home))
        printed = [night.communicate(timeout=400)[0] for night in nights]
        deadline = time.monotonic() + 120
        while (status := client.get_run_status(run_id)) not in (
            DagsterRunStatus.SUCCESS,
            DagsterRunStatus.FAILURE,
        ):
            assert time.monotonic() < deadline, status
            time.sleep(1)
    finally:
        stop.set()
        reader.join()
        for process in dagster:
            process.terminate()
        for process in dagster:
            process.wait(timeout=30)
    assert [night.returncode for night in nights] == [0, 0], printed[0][-3000:] + printed[1][-3000:]
    assert status == DagsterRunStatus.SUCCESS
    assert not faults
    assert len(scans) > 30
    assert sum("waiting: nightly for 2026-03-04" in text for text in printed) == 1
    assert sum("is sealed: its table stays as it is" in text for text in printed) == 1
    assert not any(find_leftovers(home).values())
    assert find_differences(third_night.expected, home, until=THIRD) == []
