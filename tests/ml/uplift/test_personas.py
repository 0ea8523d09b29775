import numpy as np
import pytest

from ml.uplift.personas import NAMES, sort_into_personas


def test_everybody_is_one_persona_and_its_effect_is_the_pseudo_outcomes_mean():
    control = np.array([1.0, 5, 1, 5, 1, 5])
    value = np.array([2.0, 2, 0.1, 0.1, -1, -1])
    cost = np.full(6, 0.5)
    pseudo = np.array([3.0, 1, 0, 0, -2, 0])
    rows = sort_into_personas(control, value, cost, pseudo, cost, np.arange(6), action_id="coupon")
    found = {row["persona"]: row for row in rows}
    assert [row["persona"] for row in rows] == list(NAMES)
    assert {name: row["n_rows"] for name, row in found.items()} == {
        "persuadable": 2,
        "sure thing": 1,
        "lost cause": 1,
        "do not disturb": 2,
    }
    assert found["persuadable"]["realised"] == pytest.approx(2)
    assert found["do not disturb"]["realised"] == pytest.approx(-1)
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    # Two decisions, 3 and 1: the mean's error is 1 / sqrt(2).
    assert found["persuadable"]["high"] == pytest.approx(2 + 1.96 / np.sqrt(2), abs=1e-3)


def test_a_persona_that_nobody_is_has_no_row():
    rows = sort_into_personas(
        np.ones(3), np.ones(3), np.zeros(3), np.ones(3), np.zeros(3), np.arange(3), action_id="x"
    )
    assert [row["persona"] for row in rows] == ["persuadable"]
