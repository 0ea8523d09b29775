"""A full disk, a folder that may not be written, a file that is gone, MLflow down."""

import resource
import shutil
import subprocess
import sys
from datetime import date

import pytest
from comparing import hash_lake
from conftest import ROOT, run_night

from orchestration.lake import Lake

SECOND, THIRD = date(2026, 3, 3), date(2026, 3, 4)


@pytest.fixture(scope="module")
def home(lived_home, tmp_path_factory):
    """One copy for all: nothing here may change its lake."""
    copy = tmp_path_factory.mktemp("faults") / "home"
    shutil.copytree(lived_home, copy)
    before = hash_lake(copy, until=THIRD)
    yield copy
    assert hash_lake(copy, until=THIRD) == before


def test_a_disk_that_takes_no_more_is_named_without_a_traceback(home):
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        "from orchestration.commands import main; "
        "sys.exit(main(['nightly', '--source', 'simulated']))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env={"LIFTLOOP_HOME": str(home), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 1, printed[-3000:]
    assert "free space" in printed
    assert "Traceback" not in printed
    assert not Lake(root=str(home / "lake")).has("assignment_table", THIRD)


def test_mlflow_that_does_not_answer_is_named(home):
    printed = run_night(home, expect=1, MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9")
    assert "MLflow at http://127.0.0.1:9 does not answer" in printed
    assert "correct MLFLOW_TRACKING_URI" in printed
    assert "secret" not in printed
    assert "Traceback" not in printed


def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for home in ("/proc/liftloop", tmp_path / "file" / "home"):
        printed = run_night(home, expect=1)
        assert "error: " in printed
        assert str(home) in printed or str(tmp_path / "file") in printed
        assert "Traceback" not in printed


def test_an_accepted_file_that_vanished_stops_the_night_that_needs_it(home):
    landed = home / "landing" / "customers" / str(SECOND) / "world.parquet"
    away = home / "away.parquet"
    landed.rename(away)
    printed = run_night(home, "--date", str(SECOND), expect=1)
    away.rename(landed)
    assert f"gone from landing: customers/{SECOND}/world.parquet" in printed
    assert "Put them back" in printed
