"""One run over N nights = N single-night runs = brute force."""

import os
import shutil
import subprocess
import sys
from datetime import date, timedelta

import polars as pl
import pytest
from conftest import ROOT, clean_environment
from oracles.features import circumstances_of, features_of, lifecycle_of, outcome_of

from orchestration.files import hash_file
from orchestration.lake import Lake

FIRST = date(2026, 1, 5)
SCRIPT = """
import sys
from datetime import date
from orchestration.settings import prepare_home, read_settings
settings = read_settings()
prepare_home(settings)
from orchestration.instance import open_instance
from orchestration.run_jobs import run_job
with open_instance(settings.dagster_home) as instance:
    for part in sys.argv[1:]:
        first, last = (date.fromisoformat(each) for each in part.split(":"))
        run_job(instance, "history", night=first, until=last)
"""


def _build(home, *ranges):
    parts = [f"{FIRST + timedelta(a)}:{FIRST + timedelta(b)}" for a, b in ranges]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *parts],
        cwd=ROOT,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def homes(lived_home, tmp_path_factory):
    built = {}
    for name, ranges in {
        "one run": [(0, 33)],
        "single nights": [(0, 31), (32, 32), (33, 33)],
    }.items():
        home = tmp_path_factory.mktemp(name.replace(" ", "-")) / "home"
        home.mkdir()
        shutil.copytree(lived_home / "landing", home / "landing")
        shutil.copy(lived_home / "programme.json", home)
        _build(home, *ranges)
        built[name] = home
    return built


def _files(home, table):
    root = home / "lake" / table
    return {path.parent.name: hash_file(path) for path in root.glob("*/part-0.parquet")}


@pytest.mark.parametrize(
    "table",
    [
        "customer_features",
        "customer_days",
        "customer_tokens",
        "logged_decisions",
        "realised_outcomes",
        "raw_events",
    ],
)
def test_one_run_over_many_nights_equals_single_nights_to_the_byte(homes, table):
    single, together = _files(homes["single nights"], table), _files(homes["one run"], table)
    assert len(together) >= 33
    assert single == together


def _join_days(lake, features):
    """Return features with the days on which something happened, as customer_days has them."""
    kinds = ("visit", "purchase", "redemption", "offer")
    keys = ["customer_id", "decision_date"]
    days = lake.scan("customer_days").select(*keys, *(f"{kind}_days" for kind in kinds))
    return features.join(days.collect(), on=keys)


def test_features_equal_brute_force(homes):
    lake = Lake(root=str(homes["one run"] / "lake"))
    raw = {
        table: lake.scan(f"raw_{table}").collect()
        for table in ("events", "customers", "contactability", "assignments")
    }
    for day in (FIRST + timedelta(15), FIRST + timedelta(33)):
        rows = _join_days(lake, lake.read("customer_features", day))
        for row in rows.sample(60, seed=1).iter_rows(named=True):
            expected = features_of(row["customer_id"], day, raw["events"])
            around = circumstances_of(
                row["customer_id"],
                day,
                raw["customers"],
                raw["contactability"],
                raw["assignments"],
            )
            assert {name: row[name] for name in expected} == pytest.approx(expected)
            assert {name: row[name] for name in around} == around
            lifecycle = lifecycle_of(around["tenure_days"], expected["days_since_purchase"])
            assert row["lifecycle"] == lifecycle


def test_outcomes_equal_brute_force(homes):
    lake = Lake(root=str(homes["one run"] / "lake"))
    events = lake.scan("raw_events").collect()
    day = FIRST + timedelta(10)
    decisions = lake.read("logged_decisions", day).join(
        lake.read("realised_outcomes", day).select("decision_id", "value", "redemption_cost"),
        on="decision_id",
    )
    for row in decisions.sample(80, seed=2).iter_rows(named=True):
        expected = outcome_of(row, events, 7, 0.35)
        assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_late_news_never_reaches_an_earlier_decision(homes):
    """Customers decided between an event and the day it became known: it must not be seen."""
    lake = Lake(root=str(homes["one run"] / "lake"))
    events = lake.scan("raw_events").collect()
    events = events.filter(pl.col("type").is_in(["visit", "purchase", "redemption"]))
    late = events.filter(
        events["available_at"].dt.date() > events["occurred_at"].dt.date() + timedelta(days=1)
    )
    decided = _join_days(lake, lake.scan("customer_features").collect()).join(
        late, on="customer_id"
    )
    between = decided.filter(
        (pl.col("decision_date") > pl.col("occurred_at").dt.date())
        & (pl.col("decision_date") <= pl.col("available_at").dt.date())
    )
    assert between.height >= 10
    for row in between.head(40).iter_rows(named=True):
        honest = features_of(row["customer_id"], row["decision_date"], events)
        leaky = features_of(row["customer_id"], row["decision_date"], events, knows_the_future=True)
        assert leaky != honest
        assert {name: row[name] for name in honest} == pytest.approx(honest)


def test_dbt_unit_tests_pass(homes):
    home = homes["one run"]
    env = clean_environment(
        home,
        LIFTLOOP_LAKE=str(home / "lake"),
        LIFTLOOP_WAREHOUSE=str(home / "warehouse.duckdb"),
        DBT_TARGET_PATH=str(home / "dbt" / "unit"),
        DBT_LOG_PATH=str(home / "dbt" / "unit"),
    )
    folder = ["--project-dir", "dbt_project", "--profiles-dir", "dbt_project"]
    done = subprocess.run(
        [
            str(os.path.join(os.path.dirname(sys.executable), "dbt")),
            "test",
            *folder,
            "--select",
            "test_type:unit",
        ],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "PASS=2" in done.stdout
