"""docker/compose.yaml lived: its services as processes, each of them killed once in mid-run."""

import base64
import json
import os
import re
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, quote_plus

import polars as pl
import pytest
from comparing import hash_lake
from conftest import run_series
from topology import DAGSTER_PASSWORD, PASSWORDS, Topology, ask, find_postgres

from ml.simulate.worlds import find_world
from orchestration.lake import Lake
from orchestration.resources import EMITTED_FILE
from orchestration.settings import read_settings
from orchestration.sources.simulated import SimulatedSource

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_postgres() is None, reason="no Postgres: install the extra dev"),
]
N_CUSTOMERS = 1_000
TODAY = datetime.now(UTC).date()
FIRST, SECOND = TODAY - timedelta(days=2), TODAY - timedelta(days=1)
"""The first night is started by hand, the second by the sensor, tonight by the clock."""
LATE = FIRST - timedelta(days=3)
"""Of which a file arrives after the first night."""
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
_RUNS = """
query Runs($limit: Int!) {
  runsOrError(limit: $limit) {
    ... on Runs { results { runId jobName status rootRunId tags { key value } } }
    ... on PythonError { message }
  }
}"""
_RELOAD = """
mutation { reloadWorkspace { __typename } }"""
_START_SCHEDULE = """
mutation Start($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on PythonError { message } }
}"""
_START_SENSOR = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}"""
_REPOSITORY = {"repositoryLocationName": "liftloop", "repositoryName": "__repository__"}
_CUSTOMER = re.compile(rb"\b00000\d{3}\b")
"""Customers of the world are called so."""
_UNFINISHED = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
_ORDER = ("postgres", "mlflow", "liftloop", "liftloop_gpu", "dagster-webserver", "dagster-daemon")


@pytest.fixture(scope="module")
def topology():
    """Everything started, what was delivered up to the first night landed."""
    there = Topology(LIFTLOOP_NIGHT="23:59", LIFTLOOP_SCHEDULES="off")
    try:
        _land(there.home, FIRST)
        there.start(*_ORDER, "proxy")
        _switch_on_sensor(there, "failed_runs")
        yield there
    finally:
        there.stop()


def _land(home, night):
    """Land what is delivered up to a night, some minutes ago."""
    _open_source(home).land(night)
    for path in (home / "landing").rglob("world.parquet"):
        _settle(path)


def _settle(path):
    """Let a file lie still since ten minutes, if it is newer."""
    before = time.time() - 600
    if path.stat().st_mtime > before:
        os.utime(path, (before, before))


def _deliver_late(home):
    """Land some events of a day before the first night."""
    rows = pl.read_parquet(home / "landing" / "events" / str(LATE) / "world.parquet")
    late = home / "landing" / "events" / str(LATE) / "late.parquet"
    rows.head(5).write_parquet(late)
    _settle(late)


def _open_source(home):
    """Return the bakery with a warm start that ends with the first night."""
    settings = replace(
        read_settings(),
        home=home,
    )
    config = find_world("bakery")
    first_date = FIRST - timedelta(days=config.warm_start_days)
    config = replace(config, first_date=first_date, n_customers=N_CUSTOMERS)
    settings.programme_file.write_text(config.programme.to_json())
    source = SimulatedSource(settings, n_customers=N_CUSTOMERS)
    source.config = config
    return source


def _launch(topology, job, *, location="liftloop", night=None, until=None):
    """Start a run through the API; return its id."""
    tags = []
    if until is not None:
        tags = [
            {"key": "dagster/asset_partition_range_start", "value": str(night)},
            {"key": "dagster/asset_partition_range_end", "value": str(until)},
        ]
    elif night is not None:
        tags = [{"key": "dagster/partition", "value": str(night)}]
    selector = {
        "repositoryLocationName": location,
        "repositoryName": "__repository__",
        "pipelineName": job,
    }
    params = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
    started = topology.query(_LAUNCH, params=params)["launchPipelineExecution"]
    assert started["__typename"] == "LaunchRunSuccess", started
    return started["run"]["runId"]


def _runs(topology):
    return topology.query(_RUNS, limit=100)["runsOrError"]["results"]


def _family(topology, run_id):
    """Return a run and its retries, newest first."""
    return [run for run in _runs(topology) if run_id in (run["runId"], run["rootRunId"])]


def _await_step(topology, run_id, *, seconds=180):
    """Wait until a run is in the middle of its first step."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if any(run["status"] == "STARTED" for run in _family(topology, run_id)):
            time.sleep(5)
            assert _family(topology, run_id)[0]["status"] == "STARTED", "ended too soon"
            return
        time.sleep(0.5)
    raise AssertionError(f"{run_id} never began: {_family(topology, run_id)}")


def _await_run(topology, job, *, night, seconds=300):
    """Wait until somebody else starts a night; return its run."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for run in _runs(topology):
            tags = {each["key"]: each["value"] for each in run["tags"]}
            if run["jobName"] == job and tags.get("dagster/partition") == str(night):
                return run["runId"]
        time.sleep(2)
    raise AssertionError(topology.read_log("dagster-daemon"))


def _await_alert(topology, text, *, seconds=120):
    """Wait until somebody was told."""
    lake = Lake(root=str(topology.home / "lake"))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told = [row for day in lake.dates("alerts") for row in lake.read("alerts", day)["text"]]
        if any(text in each for each in told):
            return
        time.sleep(2)
    raise AssertionError(f"{told}\n{topology.read_log('dagster-daemon')}")


def _switch_on(topology, name):
    """Start a schedule."""
    selector = {**_REPOSITORY, "scheduleName": name}
    assert "ScheduleStateResult" in str(topology.query(_START_SCHEDULE, selector=selector))


def _switch_on_sensor(topology, name):
    """Start a sensor."""
    selector = {**_REPOSITORY, "sensorName": name}
    assert "'Sensor'" in str(topology.query(_START_SENSOR, selector=selector))


def _await_end(topology, run_id, *, seconds=600):
    """Wait until a run or one of its retries succeeded; return how many it took."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        family = _family(topology, run_id)
        if any(run["status"] == "SUCCESS" for run in family):
            return len(family)
        time.sleep(2)
    raise AssertionError(f"{family}\n{topology.read_log('dagster-daemon')}")


def test_both_interfaces_ask_for_a_login_and_nothing_else_is_open(topology):
    login = ("liftloop", PASSWORDS["MLFLOW_PASSWORD"])
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert topology.ask("dagster")[0] == 401
    assert topology.ask("dagster", login=(PASSWORDS["DAGSTER_LOGIN"], "guessed"))[0] == 401
    assert topology.query("{ version }")["version"] == "1.13.27"
    assert topology.ask("mlflow", search)[0] == 401
    assert topology.ask("mlflow", search, login=login)[0] == 200
    assert topology.ask("mlflow", search, login=login, Host="elsewhere.example.org")[0] == 403
    _refuse_smuggled(topology)
    direct = f"http://127.0.0.1:{topology.ports['5000']}{search}"
    assert ask(direct)[0] == 401


def _refuse_smuggled(topology):
    """A page that the browser shows beside Dagster can't command it with its login."""
    login = (PASSWORDS["DAGSTER_LOGIN"], DAGSTER_PASSWORD)
    asked, body = "/graphql?query=%7B%20version%20%7D", {"query": "{ version }"}
    ours = f"http://127.0.0.1:{topology.sites['dagster']}"
    assert topology.ask("dagster", asked, login=login)[0] == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert topology.ask("dagster", asked, login=login, body={}, **form)[0] == 403
    theirs = "https://elsewhere.example.org"
    assert topology.ask("dagster", "/graphql", login=login, body=body, Origin=theirs)[0] == 403
    assert topology.ask("dagster", "/graphql", login=login, body=body, Origin=ours)[0] == 200
    assert topology.ask("dagster", "/", login=login)[0] == 200


def test_a_history_that_went_down_with_its_code_server_is_tried_again(topology):
    first = FIRST - timedelta(days=find_world("bakery").warm_start_days)
    run_id = _launch(topology, "history", night=first, until=FIRST - timedelta(days=1))
    _await_step(topology, run_id)
    topology.kill("liftloop")
    topology.start("liftloop")
    assert _await_end(topology, run_id) >= 2
    _await_alert(topology, "Job history failed")


def test_a_world_model_that_went_down_with_its_worker_is_trained_again(topology):
    run_id = _launch(topology, "world_model_training", location="liftloop_gpu")
    _await_step(topology, run_id)
    topology.kill("liftloop_gpu")
    topology.start("liftloop_gpu")
    assert _await_end(topology, run_id) >= 2


def test_a_training_waits_for_mlflow(topology):
    run_id = _launch(topology, "weekly_training")
    _await_step(topology, run_id)
    topology.kill("mlflow")
    time.sleep(5)
    topology.start("mlflow")
    assert _await_end(topology, run_id) == 1


def test_a_night_outlives_the_database_being_away(topology):
    run_id = _launch(topology, "nightly", night=FIRST)
    _await_step(topology, run_id)
    topology.kill("postgres")
    time.sleep(5)
    topology.start("postgres")
    _await_end(topology, run_id)
    assert Lake(root=str(topology.home / "lake")).has("assignment_table", FIRST)


def test_a_missed_night_is_made_good_by_the_sensor_behind_a_late_file(topology):
    _land(topology.home, SECOND)
    _deliver_late(topology.home)
    _switch_on_sensor(topology, "landing_files")
    run_id = _await_run(topology, "nightly", night=SECOND, seconds=600)
    assert _await_end(topology, run_id) == 1
    reasons = [each["value"] for run in _runs(topology) for each in run["tags"]]
    assert any(
        "late.parquet was delivered after its night was ingested" in each for each in reasons
    )


def test_tonight_begins_by_the_clock_and_outlives_daemon_and_webserver(topology):
    now = datetime.now(UTC)
    if now.date() != TODAY or now.hour == 23:
        pytest.skip("midnight is too near")
    _land(topology.home, TODAY)
    topology.kill("liftloop")
    topology.set("liftloop", LIFTLOOP_NIGHT=f"{now + timedelta(seconds=150):%H:%M}")
    topology.start("liftloop")
    topology.query(_RELOAD)
    _switch_on(topology, "nightly_schedule")
    run_id = _await_run(topology, "nightly", night=TODAY)
    _await_step(topology, run_id)
    topology.kill("dagster-daemon")
    topology.kill("dagster-webserver")
    topology.start("dagster-webserver", "dagster-daemon")
    assert _await_end(topology, run_id) == 1


def test_no_run_is_lost_and_the_tables_are_those_of_the_embedded_default(topology, tmp_path):
    assert not [run for run in _runs(topology) if run["status"] in _UNFINISHED]
    with_tables = {
        name: digest
        for name, digest in hash_lake(topology.home, until=TODAY).items()
        if name.startswith(("assignment_table", "holdout", "night_budget"))
    }
    nights = [str(day) for day in (FIRST, SECOND, TODAY)]
    assert sorted({name.split("=")[1][:10] for name in with_tables}) == nights
    shutil.copy(topology.home / "programme.json", tmp_path)
    shutil.copytree(
        topology.home / "landing",
        tmp_path / "landing",
        ignore=shutil.ignore_patterns(EMITTED_FILE, "late.parquet"),
    )
    first, *others = [("nightly", "--source", "landing", "--date", night) for night in nights]
    assert [code for code, _ in run_series(tmp_path, first)] == [0]
    _deliver_late(tmp_path)
    assert [code for code, _ in run_series(tmp_path, *others)] == [0, 0]
    plain = hash_lake(tmp_path, until=TODAY)
    assert {name: plain.get(name) for name in with_tables} == with_tables


def test_no_password_and_no_customer_is_in_a_log_record_or_artifact(topology):
    secrets = [each for name, each in PASSWORDS.items() if name.endswith(("PASSWORD", "KEY"))]
    secrets.append(DAGSTER_PASSWORD)
    forms = {form.encode() for each in secrets for form in _write_forms(each)}
    for path in filter(Path.is_file, topology.root.rglob("*")):
        top = path.relative_to(topology.root).parts[0]
        if top != "postgres":
            content = path.read_bytes()
            assert not [form for form in forms if form in content], path
        if top in ("logs", "mlflow") or "dagster" in path.parts:
            assert not _CUSTOMER.findall(path.read_bytes()), path
    for database in ("dagster", "mlflow"):
        records = topology.dump(database)
        assert not [form for form in forms if form in records], database
        assert not _CUSTOMER.findall(records), database


def _write_forms(secret):
    """Return how a secret may be written: plain, in an address, in JSON, as a login."""
    names = ("liftloop", "dagster", "mlflow", PASSWORDS["DAGSTER_LOGIN"])
    logins = [base64.b64encode(f"{name}:{secret}".encode()).decode() for name in names]
    quoted = (quote(secret), quote_plus(secret), quote(secret, safe=""))
    return {secret, *quoted, json.dumps(secret)[1:-1], repr(secret)[1:-1], *logins}
