"""The search for interactors as a command and as an asset, on the nights of the shared home."""

import shutil
from datetime import datetime, time, timedelta

import polars as pl
import pytest
from conftest import run_series

from ml.core.schemas import Interactors
from ml.tracking.registry import PolicyRegistry
from orchestration.assets.interactors import read_tokens
from orchestration.lake import Lake


def test_tokens_are_known_from_the_night_that_delivered_them(lived_home):
    lake = Lake(root=str(lived_home / "lake"))
    night = lake.dates("customer_tokens")[-1]
    mart = lake.scan("customer_tokens").collect()
    events = pl.scan_parquet(lived_home / "lake/raw_events/*/*.parquet", hive_partitioning=True)
    about = events.filter(pl.col("item").is_not_null()).select("customer_id", "type", "item")
    assert mart["n_events"].sum() == about.collect().height > 5_000
    assert set(mart["kind"]) == {"purchase", "read", "click"}
    known = read_tokens(lake, until=night)
    assert known.height == mart.height
    # The first night delivers six weeks that came before it: no decision knew them sooner. What
    # follows is delivered by the night after it was available.
    first = mart["decision_date"].min()
    at_first = datetime.combine(first, time()) - timedelta(microseconds=1)
    assert mart["available_at"].min() < at_first - timedelta(days=30)
    assert known["available_at"].min() == at_first
    later = mart.filter(pl.col("decision_date") > first)
    assert known.filter(pl.col("available_at") > at_first).height == later.height
    before = read_tokens(lake, until=night - timedelta(days=1))
    assert before.height < known.height


@pytest.fixture(scope="module")
def searched(lived_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("searched") / "home"
    shutil.copytree(lived_home, home)
    options = ("--family", "coupon", "--steps", "150", "--halves", "1", "--relevance", "0.3")
    found, failed = run_series(
        home,
        ("interactors", *options, "--candidate"),
        ("interactors", "--family", "gift"),
    )
    assert (found[0], failed[0]) == (0, 1), found[1] + failed[1]
    return home, found[1], failed[1]


def test_what_drives_effects_is_told_measured_and_explained_on_a_page(searched):
    home, printed, _ = searched
    lake = Lake(root=str(home / "lake"))
    night = lake.dates("interactors")[-1]
    found = Interactors.validate(lake.read("interactors", night))
    # The young respond to coupons: by far the strongest driver of the simulated bakery.
    assert "age" in set(found.filter("is_selected")["candidate"])
    age = found.filter(candidate="age", outcome="visits").row(0, named=True)
    assert age["difference_high"] < 0
    assert age["name"] in printed
    page = (home / "reports" / f"interactors-{night}.html").read_text()
    assert f"reports/interactors-{night}.html explains it" in printed
    for part in (
        "subgroup effect",
        "tree",
        "made even",
        "By protected group",
        "gender",
        "f",
        "age",
    ):
        assert part in page
    assert "data:image/png;base64," in page
    # Nobody is named.
    customers = lake.read("customer_features", lake.dates("customer_features")[-1])["customer_id"]
    assert not any(f">{each}<" in page for each in customers)


def test_the_tree_is_a_candidate_like_any_other(searched):
    home, printed, _ = searched
    lake = Lake(root=str(home / "lake"))
    record = lake.read("evaluation_record", lake.dates("evaluation_record")[-1]).row(0, named=True)
    registry = PolicyRegistry(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    candidate = registry.load(record["candidate_version"])
    assert candidate.policy.kind == candidate.tags["kind"] == "tree"
    assert f"candidate v{record['candidate_version']} against champion" in printed
    assert candidate.tags["stands_on"] == record["champion_version"]
    assert "age" in candidate.policy.scorer.tree.names


def test_an_unknown_family_says_which_there_are(searched):
    _, _, failed = searched
    assert "no offer is of the family 'gift': there are ad, coupon" in failed
