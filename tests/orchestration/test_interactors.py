"""The search for interactors as a command and as an asset, on the nights of the shared home."""

import shutil
from dataclasses import replace
from datetime import datetime, time, timedelta

import dagster as dg
import mlflow
import numpy as np
import polars as pl
import pytest
from conftest import run_series
from polars import selectors

from ml.core.contexts import build_contexts
from ml.core.schemas import Interactors
from ml.interactors.codes import CodeSettings
from ml.interactors.encoders import BagEncoder
from ml.interactors.histories import join_histories, learn_vocabulary, read_lists
from ml.interactors.policy_tree import PolicyTree
from ml.pipeline.candidates import fit_attributes, learn_codes
from ml.pipeline.find_interactors import choose_options
from ml.pipeline.representation import HistoryRepresentation, InteractorReader
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.tree_scorer import fit_tree_policy
from ml.tracking.registry import PolicyRegistry
from ml.tracking.runs import track_run
from orchestration.assets.assignment import emit
from orchestration.assets.evaluation import policy_evaluation
from orchestration.assets.interactors import EXAMPLES, take_shared
from orchestration.assets.snapshots import read_matured, read_tokens
from orchestration.interactor_page import render_interactors
from orchestration.lake import Lake
from orchestration.resources import Governance, Mlflow, ProgrammeFile


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


def test_no_customers_history_goes_to_mlflow():
    table = pl.DataFrame({"code": ["purchase:rye"], "history": ["purchase:rye read:recipes"]})
    tables = {"The tree's leaves": table, EXAMPLES: table}
    pages = [
        render_interactors(title="t", standing=[], panels=[], tables=shown)
        for shown in (tables, take_shared(tables))
    ]
    assert [EXAMPLES in page for page in pages] == [True, False]
    assert [page.count("read:recipes") for page in pages] == [2, 1]


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


def _make_tree_of_histories(lake, programme, base, night):
    """A tree by hand: who holds a token gains 9 by deep coupons, everybody else 9 by others."""
    rows = read_matured(lake, night, has_beliefs=True, has_histories=True)
    settings = replace(programme.read(), attributes=base.attributes)
    snapshot = take_snapshot(rows, programme=settings, actions=base.actions)
    contexts = snapshot.training.contexts
    vocabulary = learn_vocabulary(read_tokens(lake, until=night))
    histories = read_lists(contexts.frame["history"], vocabulary)
    codes = learn_codes(
        BagEncoder().encode(histories),
        histories.find_present(),
        vocabulary,
        CodeSettings(n_features=8, n_active=2, n_steps=100),
        n_coders=1,
    )
    reader = InteractorReader(
        fit_attributes(contexts), HistoryRepresentation(BagEncoder(), vocabulary), codes
    )
    options, _ = choose_options(base.actions)
    value = np.zeros((3, len(options)))
    value[1, options.index("coupon 2")] = value[2, options.index("coupon 5")] = 9.0
    tree = PolicyTree(
        codes.names[:1],
        np.array([False]),
        options,
        np.array([0, -1, -1]),
        np.zeros(3),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        value,
        np.full(value.shape, 0.1) * (np.arange(len(options)) > 0),
    )
    return fit_tree_policy(snapshot, base, tree, reader, programme=settings)


def test_a_tree_that_asks_of_histories_is_judged_decides_and_is_served(searched, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(searched[0], home)
    lake, uri = Lake(root=str(home / "lake")), f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    programme = ProgrammeFile(path=str(home / "programme.json"), lake=str(home / "lake"))
    tracked = Mlflow(tracking_uri=uri, experiment="liftloop")
    registry, night = PolicyRegistry(uri), lake.dates("assignment_table")[-1]
    before = registry.load_champion()
    policy = _make_tree_of_histories(lake, programme, before.policy, night)
    with track_run(uri, experiment="liftloop", name="tree", tags={}):
        version = registry.register(policy, programme=programme.read(), tags={"x": "1"}).version
    assert registry.read_tags(version)["needs_histories"] == "true"
    registry.mark_candidate(version)
    governance = Governance(promotion="auto", freeze_file=str(home / "frozen.json"))
    context = dg.build_asset_context()
    list(policy_evaluation(context, lake=lake, programme=programme, mlflow=tracked))
    record = lake.read("evaluation_record", lake.dates("evaluation_record")[-1]).row(0, named=True)
    assert record["candidate_version"] == version
    # As champion it decides the night anew, by what each customer's history holds.
    registry.make_champion(version, ope_gate="passed", evidence={})
    emit(context, lake, programme, tracked, governance, night, revision=2)
    assert lake.read("night_budget", night)["policy_kind"].to_list() == ["tree"]
    table = lake.read("assignment_table", night)
    features = lake.read("customer_features", night).join(
        table.select("customer_id"), on="customer_id", how="semi"
    )
    shown = join_histories(features, read_tokens(lake, until=night))
    contexts = build_contexts(shown, programme=programme.read(), actions=policy.actions)
    holds = policy.scorer.reader.read(contexts, policy.scorer.tree.names)[:, 0] > 0
    assert 0 < holds.sum() < len(holds)
    sent = shown.select("customer_id").with_columns(holds=pl.Series(holds))
    sent = sent.join(table.filter(pl.col("arm") != "challenger"), on="customer_id")
    promising = sent.filter(pl.col("expected_value_effect") > 1)
    assert promising.height > 5
    deep = promising["action_id"].str.ends_with("coupon_5")
    assert (deep == promising["holds"]).all()
    model = mlflow.pyfunc.load_model(f"models:/assignment_policy/{version}")
    # MLflow's integers can't be null: they are asked for as floats.
    served = model.predict(shown.with_columns(selectors.integer().cast(pl.Float64)).to_pandas())
    assert np.allclose(served.to_numpy(), policy.probabilities(contexts))
