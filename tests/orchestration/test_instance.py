"""Dagster's SQLite files while a command has them open, and after."""

import os
import signal
import sqlite3
import subprocess
import sys

import dagster as dg
import pytest
from sqlalchemy import create_engine, text

from orchestration.instance import open_instance


@dg.op
def nothing():
    pass


@dg.job
def small_job():
    nothing()


@pytest.fixture
def home(tmp_path):
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return tmp_path


def _run(instance):
    return small_job.execute_in_process(instance=instance).run_id


def test_the_write_ahead_log_stays_between_events_and_is_gone_after(home):
    shard = None
    with open_instance(home) as instance:
        shard = home / "history" / "runs" / f"{_run(instance)}.db"
        # Without a connection that stays, each event copies it into the database and removes it.
        assert shard.with_name(shard.name + "-wal").stat().st_size > 0
        for opened in (
            instance.event_log_storage.run_connection(shard.stem),
            instance.event_log_storage.index_connection(),
            instance.run_storage.connect(),
        ):
            with opened as connection:
                assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
    assert not list(home.rglob("*-wal"))
    # Nothing of it outlives the command.
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.get_run_by_id(shard.stem)
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert len(instance.all_logs(run.run_id)) > 5


def test_engines_are_used_again(home, monkeypatch):
    made = []
    monkeypatch.setattr(
        "orchestration.instance.create_engine",
        lambda *given, **named: made.append(given) or create_engine(*given, **named),
    )
    with open_instance(home) as instance:
        first, second = _run(instance), _run(instance)
        assert len(instance.all_logs(first)) == len(instance.all_logs(second)) > 5
    # One for each run's file, one for the index and one for the runs.
    assert len(made) == 4


def test_another_storage_is_left_as_it_is(home, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (home / "dagster.yaml").write_text(
        "storage:\n  custom:\n    module: dagster._core.storage.legacy_storage\n"
        "    class: CompositeStorage\n    config:\n"
        + "".join(
            f"      {kind}:\n        module_name: dagster._core.storage.{module}\n"
            f"        class_name: {name}\n        config_yaml: 'base_dir: {other}'\n"
            for kind, module, name in (
                ("run_storage", "runs", "SqliteRunStorage"),
                ("event_log_storage", "event_log", "SqliteEventLogStorage"),
                ("schedule_storage", "schedules", "SqliteScheduleStorage"),
            )
        )
    )
    with open_instance(home) as instance:
        run = _run(instance)
        assert instance.get_run_by_id(run).status == dg.DagsterRunStatus.SUCCESS
    assert (other / f"{run}.db").exists()
    assert not (home / "history").exists()


def test_files_elsewhere_keep_waiting_for_the_disk(home, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "mlflow.db"
    with open_instance(home), create_engine(f"sqlite:///{other}").connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


_KILLED = """
import os, sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from test_instance import _run, open_instance
with open_instance(Path({home!r})) as instance:
    print(_run(instance), flush=True)
    os.kill(os.getpid(), {signal})
"""


def test_a_killed_command_loses_no_event(home):
    here = os.path.dirname(__file__)
    code = _KILLED.format(
        tests=here, root=os.path.join(here, "..", ".."), home=str(home), signal=int(signal.SIGKILL)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    run_id = done.stdout.strip()
    assert done.returncode == -signal.SIGKILL
    file = home / "history" / "runs" / f"{run_id}.db"
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with open_instance(home) as instance:
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.SUCCESS
        kinds = {entry.dagster_event_type for entry in instance.all_logs(run_id)}
        assert dg.DagsterEventType.PIPELINE_SUCCESS in kinds
