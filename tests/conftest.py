"""Shared fixtures: the real data, and one small state folder lived through two nights."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from comparing import hash_lake
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
# Definitions read the state folder when they are imported: give them one of the tests' own.
_SCRATCH = tempfile.mkdtemp(prefix="liftloop-tests-")
os.environ["LIFTLOOP_HOME"] = str(Path(_SCRATCH) / "definitions")
for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI", "LIFTLOOP_EXECUTOR"):
    os.environ.pop(name, None)
os.environ["OMP_NUM_THREADS"] = "1"
# Fits of one shape are compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(_SCRATCH) / "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Libraries write into the environment of the process that they run in: commands get it as it was.
_ENVIRONMENT = dict(os.environ)

HILLSTROM = ROOT.parent / "shared" / "data" / "hillstrom" / "hillstrom.csv.gz"
N_CUSTOMERS = 2_000


def clean_environment(home, **changes):
    """Return the environment of a command on a state folder, untouched by other tests."""
    return {**_ENVIRONMENT, "LIFTLOOP_HOME": str(home), **changes}


def run_liftloop(home, *arguments, expect=0, **environment):
    """Run one command as a user does, in its own process; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "orchestration.commands", *arguments],
        cwd=ROOT,
        env=clean_environment(home, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == expect, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


_SERIES = """
import json, sys
sys.stderr = sys.stdout
from orchestration.commands import main
for arguments in json.loads(sys.argv[1]):
    print("==", main(arguments), flush=True)
"""
_END = re.compile(r"^== (\d+)\n", re.MULTILINE)


def run_series(home, *commands, **environment):
    """Run commands one after the other in one process; return each one's exit and print.

    As ``run_liftloop``, but for what takes longest: starting Python and importing everything.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SERIES, json.dumps(commands)],
        cwd=ROOT,
        env=clean_environment(home, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    *parts, rest = _END.split(done.stdout)
    ended = list(zip(map(int, parts[1::2]), parts[::2], strict=True))
    assert (done.returncode, rest) == (0, ""), done.stdout[-4000:] + done.stderr[-4000:]
    assert len(ended) == len(commands)
    return ended


def write_night(*arguments):
    """Return the command of the simulated source's next night."""
    return ("nightly", "--source", "simulated", "--customers", str(N_CUSTOMERS), *arguments)


def run_night(home, *arguments, **keywords):
    """Run the simulated source's next night."""
    return run_liftloop(home, *write_night(*arguments), **keywords)


def pytest_collection_modifyitems(items):
    """Order files for two workers: one lives the shared folder while the other needs none of it."""
    needs_home = {item.path for item in items if "lived_home" in item.fixturenames}

    def rank(item):
        if item.path.name == "test_features.py":
            return 0
        if item.path.parent.name == "uplift":
            return 1
        # Small files last: they even out.
        return 2 if item.path in needs_home else 3

    items.sort(key=rank)


@pytest.fixture(scope="session")
def lived_home(tmp_path_factory):
    """A state folder after its first two nights; tests that write copy it."""
    # Workers share it: the first to come lives it, the others wait.
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    home = shared / "lived"
    with FileLock(shared / "lived.lock"):
        if not (home / "second.txt").exists():
            nights = run_series(home, write_night(), write_night())
            assert [code for code, _ in nights] == [0, 0], nights
            for name, (_, printed) in zip(("first", "second"), nights, strict=True):
                (home / f"{name}.txt").write_text(printed)
    return home


@pytest.fixture
def home_copy(lived_home, tmp_path):
    """A copy of it, to write into."""
    home = tmp_path / "home"
    shutil.copytree(lived_home, home)
    return home


@dataclass(frozen=True)
class Night:
    """A state folder before its third night, and what that night leaves."""

    base: Path
    control: Path
    expected: dict[str, str]
    seconds: float


def _live_third_night(lived_home, tmp_path_factory, *, trains):
    """Run the third night undisturbed; tests disturb copies of its base."""
    base = tmp_path_factory.mktemp("base") / "home"
    shutil.copytree(lived_home, base)
    if trains:
        for table in ("evaluation_record", "promotions"):
            shutil.rmtree(base / "lake" / table)
    control = tmp_path_factory.mktemp("control") / "home"
    shutil.copytree(base, control)
    started = time.monotonic()
    run_night(control)
    seconds = time.monotonic() - started
    return Night(base, control, hash_lake(control, until=date(2026, 3, 4)), seconds)


@pytest.fixture(scope="session")
def plain_night(lived_home, tmp_path_factory):
    """The third night, which goes on with what was learned."""
    return _live_third_night(lived_home, tmp_path_factory, trains=False)


@pytest.fixture(scope="session")
def training_night(lived_home, tmp_path_factory):
    """The third night where a training is due."""
    return _live_third_night(lived_home, tmp_path_factory, trains=True)


@pytest.fixture(scope="session")
def hillstrom_file():
    """The public e-mail test."""
    if not HILLSTROM.exists():
        pytest.skip("the Hillstrom file is absent: expected beside the checkout in shared/data")
    return HILLSTROM
