import os
import subprocess
import sys

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import EngineEventData
from known_log import ACTIONS, PROGRAMME, make_rows
from mlflow import MlflowClient

from ml.core.contexts import build_contexts
from ml.core.errors import PromotionError, TrackingError, WarehouseError
from ml.core.schemas import CustomerFeatures
from ml.pipeline.learn import fit_candidate, fit_lifecycle_rule
from ml.pipeline.snapshots import take_snapshot
from ml.tracking.registry import CHAMPION, PREVIOUS, PolicyRegistry
from ml.tracking.runs import end_lost_runs, fetch_folder, track_run
from orchestration.resources import Warehouse
from orchestration.run_jobs import clear_lost_runs


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    home = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{home / 'mlflow.db'}"
    registry = PolicyRegistry(uri)
    snapshot = take_snapshot(make_rows(1)[0], programme=PROGRAMME, actions=ACTIONS)
    rule = fit_lifecycle_rule(snapshot, programme=PROGRAMME, actions=ACTIONS)
    uplift = fit_candidate(snapshot, programme=PROGRAMME, actions=ACTIONS)
    with track_run(uri, experiment="test", name="fit", tags={}):
        first = registry.register(rule, programme=PROGRAMME, tags={})
        second = registry.register(uplift, programme=PROGRAMME, tags={})
    return home, registry, snapshot, first, second


def test_a_registered_policy_comes_back_as_the_same_policy(registered):
    _, registry, snapshot, _, second = registered
    loaded = registry.load(second.version)
    contexts = snapshot.evaluation.contexts
    assert loaded.policy_hash == second.policy_hash
    same = loaded.policy.probabilities(contexts) == second.policy.probabilities(contexts)
    assert same.all()
    assert loaded.policy.attributes == PROGRAMME.attributes


def test_registering_the_same_again_is_the_same_version_and_other_evidence_another(registered):
    home, registry, _, first, second = registered
    uri = f"sqlite:///{home / 'mlflow.db'}"
    with track_run(uri, experiment="test", name="again", tags={}):
        again = registry.register(first.policy, programme=PROGRAMME, tags={})
        later = registry.register(second.policy, programme=PROGRAMME, tags={"data_hash": "new"})
    assert again.version == first.version
    assert int(later.version) > int(second.version)
    assert registry.load(later.version).tags["data_hash"] == "new"


def test_files_that_are_gone_are_named(registered):
    home, registry, _, first, _ = registered
    models = home / "artifacts" / "models"
    models.rename(home / "away")
    try:
        with pytest.raises(
            PromotionError, match=r"its files are gone from .*folder can't be moved"
        ):
            registry.load(first.version)
    finally:
        (home / "away").rename(models)


def test_mlflow_runs_of_killed_runs_are_ended_and_others_stay_open(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("test")
    runs = {
        name: client.create_run(experiment, tags={"dagster/run_id": name}).info.run_id
        for name in ("killed", "alive")
    }
    assert end_lost_runs(uri, is_running=lambda run_id: run_id == "alive") == 1
    assert client.get_run(runs["killed"]).info.status == "FAILED"
    assert client.get_run(runs["alive"]).info.status == "RUNNING"


def test_a_champion_that_no_gate_passed_is_refused(registered):
    _, registry, _, first, second = registered
    assert registry.load_champion() is None
    registry._client.set_registered_model_alias("assignment_policy", CHAMPION, second.version)
    with pytest.raises(PromotionError, match="no passed gate"):
        registry.load_champion()
    registry.make_champion(first.version, ope_gate="first_champion", evidence={})
    assert registry.load_champion().version == first.version
    registry.make_champion(second.version, ope_gate="passed", evidence={"why": "test"})
    assert registry.version_of(CHAMPION) == second.version
    assert registry.version_of(PREVIOUS) == first.version


def test_the_model_loads_through_mlflow_with_pickle_forbidden(registered, monkeypatch):
    import mlflow

    _, _, snapshot, _, second = registered
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    model = mlflow.pyfunc.load_model(f"models:/assignment_policy/{second.version}")
    contexts = snapshot.evaluation.contexts.take(snapshot.evaluation.action == 0)
    frame = contexts.frame.with_columns(
        built_for_date=pl.col("decision_date"),
    ).select(CustomerFeatures.column_names())
    typed = frame.with_columns(
        pl.col(pl.Int64).cast(pl.Float64), pl.col(pl.Date).cast(pl.Datetime("ns"))
    )
    predicted = model.predict(typed.to_pandas())
    # Tonight's eligibility, by channel; the log's own is narrower.
    tonight = build_contexts(contexts.frame, programme=PROGRAMME, actions=second.policy.actions)
    ours = second.policy.probabilities(tonight)
    assert predicted.to_numpy() == pytest.approx(ours, abs=1e-12)


def test_changed_files_are_refused_and_none_is_a_pickle(registered):
    home, registry, _, first, _ = registered
    stored = list(home.rglob("policy.json"))
    assert stored
    assert not [path for path in home.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    victim = next(path for path in stored if "lifecycle_rule" in path.read_text())
    text = victim.read_text()
    victim.write_text(text.replace('"inactivity_days": 28', '"inactivity_days": 1'))
    try:
        with pytest.raises(PromotionError, match="hash is not the registered one"):
            registry.load(first.version)
    finally:
        victim.write_text(text)


def test_a_run_whose_process_is_gone_is_marked_failed():
    with dg.instance_for_test() as instance:
        lost = instance.create_run_for_job(
            _tiny_job, status=dg.DagsterRunStatus.STARTED, tags={"liftloop/process": "999999999:1"}
        )
        elsewhere = instance.create_run_for_job(_tiny_job, status=dg.DagsterRunStatus.STARTED)
        assert clear_lost_runs(instance) == [lost.run_id]
        assert instance.get_run_by_id(lost.run_id).status == dg.DagsterRunStatus.FAILURE
        assert instance.get_run_by_id(elsewhere.run_id).status == dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_run_of_the_user_interface_is_known_by_the_processes_in_its_events(is_lost):
    pid = 999_999_999 if is_lost else os.getpid()
    with dg.instance_for_test() as instance:
        run = instance.create_run_for_job(_tiny_job, status=dg.DagsterRunStatus.STARTED)
        told = EngineEventData({"pid": dg.MetadataValue.text(str(pid))})
        instance.report_engine_event("Started process for run.", run, told)
        assert clear_lost_runs(instance) == ([run.run_id] if is_lost else [])


def test_the_warehouse_waits_for_who_has_it_and_says_so(tmp_path):
    """Somebody else's process holds DuckDB's own lock for a while."""
    path = tmp_path / "w.duckdb"
    script = (
        "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); c.sql('create table t as "
        "select 1'); print('open', flush=True); time.sleep(2.5)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "open\n"
    said = []
    with Warehouse(path=str(path)).lock(said.append):
        assert other.poll() is not None
    assert said == [f"waiting for the process that still has {path} open"]
    other.wait()
    other.stdout.close()
    path.write_bytes(b"no database")
    with (
        pytest.raises(WarehouseError, match="delete the file"),
        Warehouse(path=str(path)).lock(said.append),
    ):
        pass


@dg.op
def _nothing():
    return None


@dg.job
def _tiny_job():
    _nothing()


def test_a_runs_folder_is_fetched_by_its_tags_and_verified(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    wanted = {"dagster/run_id": "7", "dagster/asset": "interactors"}
    other = {**wanted, "dagster/run_id": "8"}
    for text, tags in (("old", wanted), ("new", wanted), ("other", other)):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "tree.json").write_text(text)
        with track_run(uri, experiment="test", name=text, tags=tags) as run:
            run.log_folder(folder, "tree")
        if text == "new":
            newest = run.run_id
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = fetch_folder(uri, wanted, name="tree", scratch=scratch)
    assert (found / "tree.json").read_text() == "new"
    assert fetch_folder(uri, {**wanted, "dagster/asset": "x"}, name="tree", scratch=scratch) is None
    assert fetch_folder(uri, wanted, name="reader", scratch=scratch) is None
    (changed,) = (tmp_path / "artifacts").glob(f"{newest}/artifacts/tree/tree.json")
    changed.write_text("changed")
    with pytest.raises(TrackingError, match="were changed since"):
        fetch_folder(uri, wanted, name="tree", scratch=scratch)
