"""The rule on what a lake holds: which job a night runs before it is decided."""

from datetime import date, timedelta

import dagster as dg
import polars as pl
import pytest
from known_log import CONFIG, PROGRAMME

from ml.core.errors import ContractError
from ml.core.schemas import Monitoring
from ml.pipeline.updates import RECALIBRATION, TRAINING
from orchestration.lake import Lake, write_parquet
from orchestration.resources import ProgrammeFile
from orchestration.sensors import update_rule
from orchestration.settings import read_settings
from orchestration.updates import find_due

TRAINED = date(2026, 3, 2)
FIRST = TRAINED - timedelta(days=60)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A lake after a training: 40 decisions a day, half of them without an offer."""
    monkeypatch.setenv("LIFTLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("LIFTLOOP_UPDATES", "rule")
    (tmp_path / "programme.json").write_text(PROGRAMME.to_json())
    lake = Lake(root=str(tmp_path / "lake"))
    names, chances = ["no_offer", "email_coupon_2"], [0.5, 0.5]
    for day in range(-60, 40):
        night = TRAINED + timedelta(days=day)
        rows = pl.DataFrame(
            {
                "decision_date": [night] * 40,
                "eligible_actions": [names] * 40,
                "eligible_propensities": [chances] * 40,
            }
        )
        write_parquet(rows, lake.path("logged_decisions", night))
    catalogue = CONFIG.offers_frame().with_columns(pl.lit(PROGRAMME.surface).alias("surface"))
    write_parquet(catalogue, lake.path("action_catalogue", TRAINED))
    write_parquet(pl.DataFrame({"x": [1]}), lake.path("action_plan", TRAINED))
    _record(lake, TRAINED, since=FIRST)
    _change_champion(lake, ["first", "promoted"], on=TRAINED - timedelta(days=14))
    return lake


def _record(lake, day, *, since):
    """A gate's record; one after a recalibration is judged on what came since the drift."""
    write_parquet(pl.DataFrame({"judged_since": [since]}), lake.path("evaluation_record", day))


def _change_champion(lake, causes, *, on):
    """Changes of champion: the rule is version 1, what is promoted another."""
    versions = ["1" if cause in ("first", "demoted") else "2" for cause in causes]
    changes = pl.DataFrame({"to_version": versions, "cause": causes})
    write_parquet(changes, lake.path("champion_changes", on))


def _alarm(lake, day):
    row = {"signal": "costs", "subject": "x", "statistic": 9.0, "limit": 8.0, "n_rows": 200}
    frame = pl.DataFrame([{**row, "is_alarm": True}], schema=Monitoring.create_empty().schema)
    lake.write(frame, "monitoring", day, schema=Monitoring)


def _find(lake, days, mode="rule"):
    night = TRAINED + timedelta(days=days)
    return find_due(lake, mode=mode, night=night, matured_after_days=8)


def _due(lake, days, mode="rule"):
    return _find(lake, days, mode).job


def test_a_training_is_due_once_errors_shrink_by_a_tenth(home):
    # 53 days had matured by the training: 1 - sqrt(53 / 66) is the first share above a tenth, and a
    # training before night 14 is of day 13.
    assert next(days for days in range(1, 30) if _due(home, days) == TRAINING) == 14
    assert "standard errors would shrink by 10%" in _find(home, 14).reason


def test_after_a_drift_the_champion_is_recalibrated_once_then_a_training_is_due(home):
    _alarm(home, TRAINED + timedelta(days=7))
    assert _due(home, 8) == RECALIBRATION
    # It was refused, or did not help.
    _record(home, TRAINED + timedelta(days=7), since=TRAINED - timedelta(days=30))
    _alarm(home, TRAINED + timedelta(days=14))
    assert _due(home, 14) is None
    assert _due(home, 15) == TRAINING


@pytest.mark.parametrize("causes", [["first"], ["first", "promoted", "demoted"]])
def test_a_rule_that_decides_again_is_not_recalibrated(home, causes):
    _change_champion(home, causes, on=TRAINED - timedelta(days=14))
    _alarm(home, TRAINED + timedelta(days=7))
    assert _due(home, 8) == TRAINING


def test_a_tree_is_trained_anew_not_recalibrated(home):
    _alarm(home, TRAINED + timedelta(days=7))
    decided = pl.DataFrame({"policy_version": ["2"], "policy_kind": ["tree"]})
    write_parquet(decided, home.path("night_budget", TRAINED + timedelta(days=7)))
    assert _due(home, 8) == TRAINING
    # Another champion has taken its place since.
    _change_champion(home, ["first", "promoted"], on=TRAINED - timedelta(days=14))
    other = pl.DataFrame({"policy_version": ["7"], "policy_kind": ["tree"]})
    write_parquet(other, home.path("night_budget", TRAINED + timedelta(days=7)))
    assert _due(home, 8) == RECALIBRATION


def test_alarms_of_the_champion_before_are_not_the_new_ones(home):
    _alarm(home, TRAINED)
    assert _due(home, 8) is None
    _change_champion(home, ["promoted"], on=TRAINED)
    _alarm(home, TRAINED + timedelta(days=7))
    assert _due(home, 8) is None
    assert "shrink by" in _find(home, 8).reason


def test_an_agents_gate_is_no_update(home):
    _record(home, TRAINED + timedelta(days=7), since=FIRST)
    assert _due(home, 14) == TRAINING
    assert _due(home, 8, "weekly") == TRAINING


def test_without_a_plan_of_actions_the_record_tells_the_training(home):
    home.path("action_plan", TRAINED).unlink()
    home.path("action_plan", TRAINED).parent.rmdir()
    assert _due(home, 14) == TRAINING
    assert _due(home, 7, "weekly") is None


@pytest.mark.parametrize("mode", ["weekly", "rule"])
def test_the_first_training_is_due_once_a_decision_has_matured(home, mode):
    home.path("evaluation_record", TRAINED).unlink()
    home.path("evaluation_record", TRAINED).parent.rmdir()
    assert _due(home, 0, mode) == TRAINING
    early = find_due(home, mode=mode, night=FIRST + timedelta(days=8), matured_after_days=8)
    assert (early.job, early.reason) == (None, "nothing was learned yet")


def test_the_sensor_starts_one_job_a_night(home):
    programme = ProgrammeFile(path=str(home.path("x", TRAINED).parents[3] / "programme.json"))

    def evaluate():
        (result,) = update_rule(dg.build_sensor_context(), lake=home, programme=programme)
        return result

    assert "has not ended" in evaluate().skip_message
    night = TRAINED + timedelta(days=13)
    write_parquet(pl.DataFrame({"x": [1]}), home.path("assignment_table", night))
    assert "has not ended" in evaluate().skip_message
    _alarm(home, night)
    request = evaluate()
    assert (request.job_name, request.run_key) == (RECALIBRATION, "2026-03-16")
    assert "drifted" in request.tags["liftloop/reason"]
    # Another job of the same night has the same key: it is not started beside it.
    _change_champion(home, ["first"], on=TRAINED - timedelta(days=14))
    assert (evaluate().job_name, evaluate().run_key) == (TRAINING, "2026-03-16")


def test_weeks_are_the_default_and_other_words_are_refused(home, monkeypatch):
    monkeypatch.delenv("LIFTLOOP_UPDATES")
    assert read_settings().updates == "weekly"
    assert _due(home, 7, "weekly") is None
    assert _due(home, 8, "weekly") == TRAINING
    monkeypatch.setenv("LIFTLOOP_UPDATES", "never")
    with pytest.raises(ContractError, match="LIFTLOOP_UPDATES=never: write weekly or rule"):
        read_settings()
