import json
from dataclasses import replace

import pytest

from ml.core.errors import ContractError
from ml.core.programme import Attribute, parse_programme, read_programme
from ml.simulate.config import WorldConfig

PROGRAMME = WorldConfig().programme


def test_programme_survives_its_file(tmp_path):
    path = tmp_path / "programme.json"
    path.write_text(PROGRAMME.to_json())
    assert read_programme(path) == PROGRAMME


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("margin", 0, "margin"),
        ("budget_per_decision", -1, "budget_per_decision"),
        ("propensity_floor", 0.5, "propensity_floor"),
        ("evaluation_share", 1, "evaluation_share"),
        ("holdout_share", 1, "holdout_share"),
        ("n_cohorts", 8, "n_cohorts"),
        ("accounting_horizon_days", 3, "accounting_horizon_days"),
        ("surface", "ours') or 1 = 1 --", "quotation marks"),
        ("surface", "{{ run_query('x') }}", "quotation marks"),
        ("attributes", (Attribute(name="a'b", kind="number"),), "quotation marks"),
        ("attributes", (Attribute(name="a\nb", kind="number"),), "line breaks"),
    ],
)
def test_impossible_settings_are_refused(field, value, message):
    with pytest.raises(ContractError, match=message):
        replace(PROGRAMME, **{field: value})


def test_unknown_and_missing_fields_are_refused(tmp_path):
    settings = json.loads(PROGRAMME.to_json())
    with pytest.raises(ContractError, match="unknown fields"):
        parse_programme({**settings, "colour": "red"})
    with pytest.raises(ContractError, match="cannot be read"):
        parse_programme({key: value for key, value in settings.items() if key != "margin"})
    with pytest.raises(ContractError, match="is missing"):
        read_programme(tmp_path / "nowhere.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ContractError, match="not JSON"):
        read_programme(tmp_path / "bad.json")
