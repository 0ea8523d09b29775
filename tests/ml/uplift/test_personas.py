import numpy as np
import pytest

from ml.uplift.personas import NAMES, sort_into_personas


def test_everybody_is_one_persona_and_its_effect_is_the_pseudo_outcomes_mean():
    control, value, pseudo = (
        np.repeat(each, 30)
        for each in ([1.0, 5, 1, 5, 1, 5], [2.0, 2, 0.1, 0.1, -1, -1], [3.0, 1, 0, 0, -2, 0])
    )
    cost, customer = np.full(180, 0.5), np.arange(180)
    rows = sort_into_personas(control, value, cost, pseudo, cost, customer, action_id="coupon")
    found = {row["persona"]: row for row in rows}
    assert [row["persona"] for row in rows] == list(NAMES)
    assert {name: row["n_rows"] for name, row in found.items()} == {
        "persuadable": 60,
        "sure thing": 30,
        "lost cause": 30,
        "do not disturb": 60,
    }
    assert found["persuadable"]["realised"] == pytest.approx(2)
    assert found["do not disturb"]["realised"] == pytest.approx(-1)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    # Sixty decisions of 3 or 1: the mean's error is 1 / sqrt(60).
    assert found["persuadable"]["high"] == pytest.approx(2 + 1.96 / np.sqrt(60), abs=1e-3)


def test_a_persona_that_nobody_is_has_no_row():
    rows = sort_into_personas(
        np.ones(3), np.ones(3), np.zeros(3), np.ones(3), np.zeros(3), np.arange(3), action_id="x"
    )
    assert [row["persona"] for row in rows] == ["persuadable"]
    assert np.isnan(rows[0]["realised"])
