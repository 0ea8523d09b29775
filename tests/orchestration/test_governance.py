"""Who decides, and who stops it: promotion modes, rollback, demotion, freeze."""

from dataclasses import replace
from datetime import date, timedelta

import dagster as dg
import polars as pl
import pytest
from conftest import run_liftloop, run_series, write_night
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.contexts import BELIEF_UNIT, build_contexts, join_beliefs
from ml.core.errors import PromotionError
from ml.core.schemas import EvaluationRecord
from ml.pipeline.learn import fit_lifecycle_rule
from ml.pipeline.online import VALIDATION_DAYS
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.validate import hash_programme
from ml.tracking.registry import PREVIOUS, PolicyRegistry
from ml.tracking.runs import track_run
from orchestration.assets.evaluation import ChampionConfig, _count_gate, champion
from orchestration.assets.online_validation import online_validation
from orchestration.champions import (
    find_challenger_version,
    promote,
    read_last_change,
    roll_back,
)
from orchestration.lake import Lake, write_parquet
from orchestration.resources import Governance, Mlflow, ProgrammeFile

DAY, NIGHT = date(2026, 3, 1), date(2026, 4, 10)


@pytest.fixture
def kept(tmp_path):
    """A lake and a registry whose version 2 replaced version 1; 3 is the candidate."""
    lake = Lake(root=str(tmp_path / "lake"))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    registry = PolicyRegistry(uri)
    snapshot = take_snapshot(make_rows(1, n=600)[0], programme=PROGRAMME, actions=ACTIONS)
    rule = fit_lifecycle_rule(snapshot, programme=PROGRAMME, actions=ACTIONS)
    with track_run(uri, experiment="test", name="fit", tags={}):
        for number in range(3):
            registry.register(rule, programme=PROGRAMME, tags={"number": str(number)})
    (tmp_path / "programme.json").write_text(PROGRAMME.to_json())
    pl.DataFrame({"x": [1]}).pipe(write_parquet, lake.path("customer_features", DAY))
    promote(lake, registry, "1", day=DAY, cause="first", reason="rule", evidence={})
    promote(
        lake, registry, "2", day=DAY, cause="promoted", reason="proven", evidence={"replaced": "1"}
    )
    registry.mark_candidate("3")
    return lake, registry


def _write_record(lake, registry, *, candidate="3", champion_version="2"):
    row = {
        name: "x" if str(column.dtype) == "String" else 0
        for name, column in EvaluationRecord.columns().items()
    } | {
        "candidate_version": candidate,
        "champion_version": champion_version,
        "evaluated_for_date": DAY,
        "gate_number": 1,
        "is_passed": True,
        "reasons": [],
        "lifecycle_differences": [],
        "difference_low": 0.1,
        "candidate_hash": registry.load(candidate).policy_hash,
        "feature_schema_hash": registry.load(candidate).policy.schema_hash,
        "programme_hash": hash_programme(PROGRAMME),
    }
    record = pl.DataFrame([row], schema=EvaluationRecord.create_empty().schema)
    lake.write(record, "evaluation_record", DAY, schema=EvaluationRecord)


def _run(asset, lake, registry, *, mode="auto", partition=None, config=None):
    home = lake.path("x", DAY).parents[3]
    result = dg.materialize(
        [asset],
        partition_key=partition,
        resources={
            "lake": lake,
            "programme": ProgrammeFile(path=str(home / "programme.json")),
            "mlflow": Mlflow(tracking_uri=f"sqlite:///{home / 'mlflow.db'}", experiment="test"),
            "governance": Governance(promotion=mode, freeze_file=str(home / "frozen.json")),
        },
        run_config=config,
        selection=[asset],
    )
    assert result.success
    return result


def test_the_folder_keeps_who_promotes(tmp_path, monkeypatch):
    from orchestration.settings import prepare_home, read_settings

    monkeypatch.setenv("LIFTLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.delenv("PROMOTION", raising=False)
    assert read_settings().promotion == "auto"
    monkeypatch.setenv("PROMOTION", "approve")
    prepare_home(read_settings())
    monkeypatch.delenv("PROMOTION")
    assert read_settings().promotion == "approve"
    monkeypatch.setenv("PROMOTION", "auto")
    prepare_home(read_settings())
    monkeypatch.delenv("PROMOTION")
    assert read_settings().promotion == "auto"


@pytest.mark.parametrize(
    ("mode", "is_approved", "is_promoted", "said"),
    [
        ("auto", False, True, ""),
        ("approve", False, False, "waits for make approve"),
        ("approve", True, True, ""),
        ("shadow", False, False, "nothing is promoted"),
        ("shadow", True, False, "nothing is promoted"),
    ],
)
def test_who_promotes_is_a_setting(kept, mode, is_approved, is_promoted, said):
    lake, registry = kept
    _write_record(lake, registry)
    config = dg.RunConfig({"champion": ChampionConfig(is_approved=is_approved)})
    _run(champion, lake, registry, mode=mode, config=config)
    decided = lake.read("promotions", DAY).row(0, named=True)
    assert decided["is_promoted"] is is_promoted
    assert said in decided["reason"]
    assert registry.version_of("champion") == ("3" if is_promoted else "2")
    cause = read_last_change(lake)["cause"]
    assert cause == (("approved" if is_approved else "promoted") if is_promoted else "promoted")
    if is_promoted:
        assert registry.find_replaced() == "2"
        assert read_last_change(lake)["from_version"] == "2"


def test_rollback_goes_back_step_by_step_and_nothing_promotes_what_was_withdrawn(kept):
    lake, registry = kept
    assert roll_back(lake, registry, day=DAY, cause="rolled_back", reason="angry calls") == "1"
    assert registry.version_of("champion") == "1"
    assert registry.version_of(PREVIOUS) is None
    assert "angry calls" in registry.read_tags("2")["withdrawn"]
    change = read_last_change(lake)
    assert (change["from_version"], change["to_version"]) == ("2", "1")
    assert change["cause"] == "rolled_back"
    with pytest.raises(PromotionError, match="replaced no other"):
        roll_back(lake, registry, day=DAY, cause="rolled_back", reason="more")
    registry.mark_candidate("2")
    _write_record(lake, registry, candidate="2", champion_version="1")
    _run(champion, lake, registry)
    assert "was withdrawn" in lake.read("promotions", DAY)["reason"][0]
    assert registry.version_of("champion") == "1"
    assert registry.read_tags("2")["ope_gate"] == "passed"
    # A named version comes back, and is no longer withdrawn.
    assert roll_back(lake, registry, day=DAY, cause="rolled_back", reason="ok", to="2") == "2"
    assert "withdrawn" not in registry.read_tags("2")
    assert registry.load_champion().version == "2"


def test_a_rollback_is_refused_where_nothing_fit_is_there(kept):
    lake, registry = kept
    for to, message in (
        ("3", "never passed"),
        ("2", "champion already"),
        ("9", "no version 9"),
        ("a", "no version a"),
    ):
        with pytest.raises(PromotionError, match=message):
            roll_back(lake, registry, day=DAY, cause="rolled_back", reason="x", to=to)
    assert registry.version_of("champion") == "2"


def test_a_rollback_that_was_killed_is_ended_not_done_twice(kept):
    lake, registry = kept
    promote(
        lake, registry, "3", day=DAY, cause="promoted", reason="proven", evidence={"replaced": "2"}
    )
    registry.withdraw_champion(to=None, reason="killed before the lake knew")
    assert read_last_change(lake)["to_version"] == "3"
    assert roll_back(lake, registry, day=DAY, cause="rolled_back", reason="again") == "2"
    assert registry.version_of("champion") == "2"
    assert read_last_change(lake)["to_version"] == "2"


def test_a_promotion_that_was_killed_is_recorded_before_a_rollback(kept):
    lake, registry = kept
    registry.make_champion("3", ope_gate="passed", evidence={"replaced": "2"})
    assert roll_back(lake, registry, day=DAY, cause="rolled_back", reason="x") == "2"
    causes = lake.read("champion_changes", DAY)["cause"].to_list()
    assert causes[-2:] == ["promoted", "rolled_back"]


def _write_arms(lake, *, harm, n=2_000):
    """Write decisions of both arms; an offer, which the champion gives more, costs ``harm``."""
    table = pl.DataFrame({"number": range(n)}).select(
        pl.format("d{}", "number").alias("decision_id"),
        pl.format("c{}", "number").alias("customer_id"),
        pl.lit(DAY).alias("decision_date"),
        pl.lit("2").alias("policy_version"),
        pl.lit("1").alias("challenger_version"),
        pl.when(pl.col("number") % 4 == 0)
        .then(pl.lit("challenger"))
        .otherwise(pl.lit("champion"))
        .alias("arm"),
        # The champion offers with .8, the challenger, who has a quarter, with .2: together .65.
        (pl.col("number") % 20 < 13).alias("offer"),
    )
    chances = (
        pl.when("offer").then(0.65).otherwise(0.35).alias("propensity"),
        pl.when("offer").then(0.8).otherwise(0.2).alias("champion_propensity"),
        pl.when("offer").then(0.2).otherwise(0.8).alias("challenger_propensity"),
    )
    table = table.with_columns(*chances)
    write_parquet(table, lake.path("assignment_table", DAY))
    outcomes = table.select(
        "decision_id",
        pl.lit(True).alias("is_matured"),
        pl.when("offer").then(5.0 - harm).otherwise(5.0).alias("value"),
        pl.lit(0.0).alias("cost"),
    )
    write_parquet(outcomes, lake.path("realised_outcomes", NIGHT))


def _validate(kept, night=NIGHT, mode="auto"):
    lake, registry = kept
    result = _run(online_validation, lake, registry, mode=mode, partition=str(night))
    (check,) = result.get_asset_check_evaluations()
    return lake.read("online_validation", night), check


def test_a_champion_that_is_proven_to_harm_is_taken_back_at_once(kept):
    lake, registry = kept
    _write_arms(lake, harm=4.0)
    judged, check = _validate(kept)
    assert judged["status"].to_list() == ["harmful"]
    assert judged["high"][0] < 0
    assert not check.passed
    assert registry.version_of("champion") == "1"
    change = read_last_change(lake)
    assert (change["cause"], change["to_version"]) == ("demoted", "1")
    # Run again, it is demoted still, and only once.
    _validate(kept, NIGHT + timedelta(days=1))
    assert registry.version_of("champion") == "1"
    assert lake.read("champion_changes", NIGHT).height == 1


def test_a_killed_judgement_is_made_again_and_an_operator_is_not_overruled(kept):
    lake, registry = kept
    _write_arms(lake, harm=4.0)
    # Killed after the judgement was written, before anything was taken back.
    _validate(kept, mode="shadow")
    assert registry.version_of("champion") == "2"
    judged, _ = _validate(kept)
    assert judged["status"].to_list() == ["harmful"]
    assert registry.version_of("champion") == "1"
    # Before the seal or after it: the row that took it back stays.
    assert _validate(kept)[0].equals(judged)
    roll_back(lake, registry, day=NIGHT, cause="rolled_back", reason="I know better", to="2")
    assert _validate(kept)[0].equals(judged)
    assert registry.version_of("champion") == "2"


def test_a_challenger_whose_files_are_gone_cannot_be_gone_back_to_and_the_night_goes_on(kept):
    lake, registry = kept
    _write_arms(lake, harm=4.0)
    registry._client.delete_model_version("assignment_policy", "1")
    assert registry.find_replaced() is None
    judged, check = _validate(kept)
    assert judged.is_empty()
    assert check.passed
    with pytest.raises(PromotionError, match="withdrawn or deleted"):
        roll_back(lake, registry, day=DAY, cause="rolled_back", reason="x")


def test_shadow_demotes_nothing_and_says_so(kept):
    _, registry = kept
    _write_arms(kept[0], harm=4.0)
    _, check = _validate(kept, mode="shadow")
    assert not check.passed
    assert registry.version_of("champion") == "2"


def test_a_comparison_runs_until_it_is_concluded(kept):
    lake, registry = kept
    _write_arms(lake, harm=0.0)
    judged, check = _validate(kept)
    assert judged["status"].to_list() == ["running"]
    assert check.passed
    assert find_challenger_version(lake, registry, PROGRAMME, until=NIGHT) == "1"
    late = DAY + timedelta(days=VALIDATION_DAYS + 1)
    judged, _ = _validate(kept, late)
    assert judged["status"].to_list() == ["ended"]
    assert find_challenger_version(lake, registry, PROGRAMME, until=late) is None
    judged, _ = _validate(kept, late + timedelta(days=1))
    assert judged.is_empty()


def test_freeze_and_rollback_are_commands(home_copy):
    said = run_series(
        home_copy,
        ("freeze", "--reason", "prices are wrong"),
        write_night(),
        ("unfreeze",),
        ("unfreeze",),
        ("rollback", "--reason", "a test"),
        ("approve",),
    )
    assert [code for code, _ in said] == [0, 0, 0, 0, 0, 1]
    frozen, night, lifted, again, back, refused = (printed for _, printed in said)
    assert "frozen since" in frozen
    assert "prices are wrong" in night
    table = Lake(root=str(home_copy / "lake")).read("assignment_table", date(2026, 3, 4))
    assert set(table["action_id"]) == {"no_offer"}
    assert set(table["arm"]) == {"frozen"}
    assert "lifted" in lifted
    assert "nothing was frozen" in again
    assert "version 1 decides" in back
    assert "was withdrawn" in refused
    wrong = run_liftloop(home_copy, "approve", expect=1, PROMOTION="maybe")
    assert "PROMOTION=maybe: write auto, approve, shadow" in wrong


def test_a_gate_that_is_repeated_is_counted_once_and_another_candidate_anew(kept):
    lake, registry = kept
    assert _count_gate(lake, DAY, "2", "3") == 1
    _write_record(lake, registry)
    assert _count_gate(lake, DAY, "2", "3") == 1
    assert _count_gate(lake, DAY, "2", "4") == 2
    assert _count_gate(lake, DAY + timedelta(days=7), "2", "4") == 2
    assert _count_gate(lake, DAY, "1", "4") == 1


def test_a_recalibrated_champion_is_a_candidate_like_any_other(home_copy):
    lake = Lake(root=str(home_copy / "lake"))
    before = _open_registry(home_copy).load_champion()
    printed = run_liftloop(home_copy, "recalibrate", "--since", "2026-02-02")
    assert "against this champion" in printed
    record = lake.read("evaluation_record", lake.dates("evaluation_record")[-1]).row(0, named=True)
    candidate = _open_registry(home_copy).load(record["candidate_version"])
    assert candidate.tags["recalibrated"] == before.version
    assert candidate.policy_hash != before.policy_hash
    assert record["judged_since"] >= date(2026, 2, 2)
    # The gate that made it champion was met by another: for this champion it is the first one.
    assert (record["champion_version"], record["gate_number"]) == (before.version, 1)


def test_an_agent_is_a_candidate_like_any_other(home_copy):
    lake = Lake(root=str(home_copy / "lake"))
    before = _open_registry(home_copy).load_champion()
    printed = run_liftloop(home_copy, "agent", "--updates", "40")
    assert "agent_policy: done" in printed
    record = lake.read("evaluation_record", lake.dates("evaluation_record")[-1]).row(0, named=True)
    registry = _open_registry(home_copy)
    candidate = registry.load(record["candidate_version"])
    assert candidate.policy.kind == candidate.tags["kind"] == "agent"
    assert record["champion_version"] == before.version
    heads = registry.load(candidate.tags["stands_on"]).policy.scorer.uplift.heads
    assert candidate.policy.scorer.uplift.heads.schema_hash == heads.schema_hash
    # The world model's belief is part of the agent's state.
    assert any(
        name.startswith(BELIEF_UNIT) for name in candidate.policy.scorer.encoder.feature_names
    )
    assert candidate.policy.scorer.encode(_read_contexts(lake, candidate.policy)).shape[0] > 0


def _read_contexts(lake, policy):
    night = lake.dates("customer_features")[-1]
    rows = join_beliefs(lake.read("customer_features", night), lake.read("beliefs", night))
    programme = replace(PROGRAMME, attributes=policy.attributes)
    return build_contexts(rows, programme=programme, actions=policy.actions)


def _open_registry(home):
    return PolicyRegistry(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
