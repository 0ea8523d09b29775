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
from orchestration.night import _find_due
from orchestration.resources import ProgrammeFile
from orchestration.sensors import update_rule
from orchestration.settings import read_settings

TRAINED = date(2026, 3, 2)


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
    for table in ("action_plan", "evaluation_record", "promotions"):
        write_parquet(pl.DataFrame({"x": [1]}), lake.path(table, TRAINED))
    _change_champion(lake, "promoted")
    return lake


def _change_champion(lake, cause):
    change = pl.DataFrame({"number": [1], "to_version": ["2"], "cause": [cause]})
    write_parquet(change, lake.path("champion_changes", TRAINED))


def _alarm(lake, day):
    row = {"signal": "costs", "subject": "x", "statistic": 9.0, "limit": 8.0, "n_rows": 200}
    frame = pl.DataFrame([{**row, "is_alarm": True}], schema=Monitoring.create_empty().schema)
    lake.write(frame, "monitoring", day, schema=Monitoring)


def _due(lake, days):
    return _find_due(lake, read_settings(), TRAINED + timedelta(days=days))


def test_a_training_is_due_once_errors_shrink_by_a_tenth(home, capsys):
    # 53 days had matured by the training: 1 - sqrt(53 / 66) is the first share above a tenth.
    assert next(days for days in range(1, 30) if _due(home, days) == TRAINING) == 13
    assert "standard errors would shrink by" in capsys.readouterr().out


def test_after_a_drift_the_champion_is_recalibrated_and_a_rule_replaced(home):
    _alarm(home, TRAINED + timedelta(days=7))
    assert _due(home, 8) == RECALIBRATION
    _change_champion(home, "first")
    assert _due(home, 8) == TRAINING


def test_alarms_before_the_last_update_are_its_own(home):
    _alarm(home, TRAINED)
    assert _due(home, 8) is None


def test_after_a_recalibration_the_evidence_still_counts_from_the_training(home):
    write_parquet(pl.DataFrame({"x": [1]}), home.path("evaluation_record", date(2026, 3, 8)))
    assert _due(home, 10) is None
    assert _due(home, 15) == TRAINING


def test_the_sensor_starts_what_is_due_once_a_night(home):
    programme = ProgrammeFile(path=str(home.path("x", TRAINED).parents[3] / "programme.json"))

    def evaluate():
        (result,) = update_rule(dg.build_sensor_context(), lake=home, programme=programme)
        return result

    assert "nothing was learned yet" in evaluate().skip_message
    write_parquet(pl.DataFrame({"x": [1]}), home.path("assignment_table", TRAINED))
    assert "0 days old" in evaluate().skip_message
    night = TRAINED + timedelta(days=12)
    write_parquet(pl.DataFrame({"x": [1]}), home.path("assignment_table", night))
    request = evaluate()
    assert (request.job_name, request.run_key) == (TRAINING, "weekly_training:2026-03-15")
    assert "shrink by" in request.tags["liftloop/reason"]


def test_weeks_are_the_default_and_other_words_are_refused(home, monkeypatch):
    monkeypatch.delenv("LIFTLOOP_UPDATES")
    assert _due(home, 7) is None
    assert _due(home, 8) == TRAINING
    monkeypatch.setenv("LIFTLOOP_UPDATES", "never")
    with pytest.raises(ContractError, match="LIFTLOOP_UPDATES=never: write weekly or rule"):
        read_settings()
