"""Nights killed with SIGKILL and run again: the same bytes, no run and no slot left behind."""

import shutil
import time
from datetime import date

import numpy as np
import pytest
from comparing import find_differences, hash_lake
from conftest import run_night
from killing import find_leftovers, kill, kill_at, start_night

from orchestration.assets.features import WHOLE_MARTS

FIRST, THIRD = date(2026, 3, 2), date(2026, 3, 4)
# A line to wait for, seconds after it, and whether dbt's process dies too or outlives its parent.
STAGES = (("> Identify: build features", 4.0, False), ("> Decide: tonight's offers", 0.2, True))
TRAINING_STAGES = (
    ("> Learn: value and cost effects", 0.5, False),
    ("> Land", 0.2, False),
    ("> Validate: promotion gate", 0.1, False),
    ("> Identify: screen the delivery", 0.1, True),
)
HISTORY_STAGES = (
    ("> Land", 5.0, False),
    ("screened 14 of 56", 0.5, False),
    ("> Identify: build features", 6.0, True),
    ("> Identify: export the marts", 1.0, False),
    ("> Learn: the lifecycle rule", 0.5, False),
)
# The second night, which the fixture has lived too, goes on with these partitions; the times of
# landed files are each run's own.
REWRITTEN = ("realised_outcomes", "logged_decisions", "delivered_files")
N_RANDOM = 50
MARGIN_SECONDS = 60


def test_a_night_killed_at_stages_ends_in_the_same_table(plain_night, tmp_path):
    _kill_and_compare(plain_night, tmp_path / "home", STAGES)


@pytest.mark.slow
def test_a_training_night_killed_at_stages_ends_in_the_same_table(training_night, tmp_path):
    _kill_and_compare(training_night, tmp_path / "home", TRAINING_STAGES)


def _kill_and_compare(night, home, stages):
    shutil.copytree(night.base, home)
    for line, delay, with_children in stages:
        kill_at(home, line, delay=delay, with_children=with_children)
    started = time.monotonic()
    printed = run_night(home, "--date", str(THIRD))
    assert time.monotonic() - started < night.seconds + MARGIN_SECONDS
    assert "had been killed: marked as failed, its slots freed" in printed
    assert find_differences(night.expected, home, until=THIRD) == []
    assert not any(find_leftovers(home).values())


@pytest.mark.slow
def test_a_first_night_killed_in_its_history_ends_in_the_same_table(lived_home, tmp_path):
    home = tmp_path / "home"
    for line, delay, with_children in HISTORY_STAGES:
        kill_at(home, line, delay=delay, with_children=with_children)
    run_night(home)
    expected = hash_lake(lived_home, until=FIRST)
    different = find_differences(expected, home, until=FIRST, but=REWRITTEN)
    # A build writes whole marts once, for its last night: those of a killed one are there too.
    extra = {each for each in different if each.startswith(tuple(WHOLE_MARTS))} - expected.keys()
    assert set(different) == extra
    assert not any(find_leftovers(home).values())


@pytest.mark.slow
def test_nights_killed_at_random_instants_end_in_the_same_table(training_night, tmp_path):
    random = np.random.default_rng(4)
    failures, slowest = [], 0.0
    for number, instant in enumerate(np.sort(random.uniform(0, training_night.seconds, N_RANDOM))):
        home = tmp_path / f"home-{number}"
        shutil.copytree(training_night.base, home)
        process = start_night(home)
        time.sleep(instant)
        kill(process, with_children=bool(random.integers(2)))
        process.stdout.close()
        started = time.monotonic()
        # By date: a night that was sealed before the kill is that night still.
        run_night(home, "--date", str(THIRD))
        seconds = time.monotonic() - started
        slowest = max(slowest, seconds)
        different = find_differences(training_night.expected, home, until=THIRD)
        left = {name: found for name, found in find_leftovers(home).items() if found}
        if different or left or seconds > training_night.seconds + MARGIN_SECONDS:
            failures.append((round(float(instant), 2), round(seconds), different, left))
        shutil.rmtree(home)
    print(f"normal {training_night.seconds:.0f} s, slowest re-run {slowest:.0f} s")
    assert failures == []
