"""Killing a night in the middle, and looking at what is left of it."""

import os
import signal
import subprocess
import sys
import time

import dagster as dg
from conftest import N_CUSTOMERS, ROOT, clean_environment
from mlflow import MlflowClient


def start_command(home, *arguments):
    """Start a command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "orchestration.commands", *arguments],
        cwd=ROOT,
        env=clean_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def start_night(home):
    """Start the simulated source's next night."""
    return start_command(home, "nightly", "--source", "simulated", "--customers", str(N_CUSTOMERS))


def kill(process, *, with_children):
    """SIGKILL a process; its children too, or leave them orphans."""
    if with_children:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def kill_at(home, line, *, delay, with_children):
    """Start a night and kill it some seconds after it printed a line."""
    process = start_night(home)
    printed = []
    for each in process.stdout:
        printed.append(each)
        if line in each:
            break
    else:
        raise AssertionError(f"never printed {line!r}:\n{''.join(printed)[-3000:]}")
    time.sleep(delay)
    assert process.poll() is None, f"ended before it was killed:\n{''.join(printed)[-3000:]}"
    kill(process, with_children=with_children)
    process.stdout.close()


def find_leftovers(home):
    """Return unfinished Dagster runs, claimed pool slots and open MLflow runs."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        runs = [run.run_id for run in instance.get_runs(filters=unfinished)]
        slots = [
            slot
            for pool in ("duckdb", "mlflow_registry")
            for slot in instance.event_log_storage.get_concurrency_info(pool).claimed_slots
        ]
    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    tracked = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    temporary = [str(path) for path in (home / "lake").rglob("*") if path.name.endswith(".tmp")]
    return {"runs": runs, "slots": slots, "tracked": tracked, "temporary": temporary}
