"""What the study of the three-in-one world model shows its contenders."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.studies.three_in_one.effect_contenders import Known
from benchmarks.studies.three_in_one.features import list_visible, make_layout
from benchmarks.studies.three_in_one.states import see_world
from ml.simulate.purchase_world import PURCHASE_WORLDS, simulate_purchases
from ml.world_model.training import TrainingConfig

CONFIG = replace(PURCHASE_WORLDS["purchase_world_as_published"], n_customers=6, seed=3)


def test_units_are_those_published_and_say_what_was_before_the_day():
    history = simulate_purchases(CONFIG)
    visible, names = list_visible(CONFIG, history), make_layout(10).names
    assert visible.shape == (365, 6, 72)
    assert len(names) == 72
    rows = {name: visible[..., place] for place, name in enumerate(names)}
    for day in (0, 3, 40, 364):
        date = CONFIG.first_date + timedelta(days=day)
        for who in range(6):
            seen = {name: bool(each[day, who]) for name, each in rows.items()}
            visits = history.visits[:day, who]
            assert seen[f"month={date.month}"]
            assert seen[f"weekday={date.weekday()}"]
            assert seen[f"store={history.traits.store[who]}"]
            assert seen["visit_within_7d"] == bool(visits[max(0, day - 7) :].any())
            assert seen["visits_at_least_5"] == bool(visits.sum() >= 5)
            for lag in (1, 4):
                expected = bool(history.push[day - lag, who]) if day >= lag else False
                assert seen[f"push_lag_{lag}"] == expected
    for columns in make_layout(10).one_hots:
        assert (visible[..., columns].sum(axis=2) == 1).all()


def test_histories_know_nothing_of_the_day_itself():
    seen = see_world(CONFIG.name, 3, 6, TrainingConfig(hidden=(4,), n_epochs=1, batch_size=64))
    history = seen.history
    rate = seen.states["raw_history"][..., 72]
    mean = history.visits[:305].mean()
    for day in (0, 1, 50):
        before = history.visits[:day, 2].sum()
        expected = (before + 5 * mean) / (day + 5)
        assert rate[day, 2] == pytest.approx(np.log(expected / (1 - expected)), abs=1e-5)
    belief, recalled = seen.states["belief"], seen.states["belief_history"][..., 4:8]
    assert recalled[50, 1] == pytest.approx(belief[:50, 1].mean(axis=0), abs=1e-5)
    assert recalled[0] == pytest.approx(belief[0])


def test_a_known_propensity_is_handed_through():
    inputs = np.array([[0.0, 0.2], [1.0, 0.7]])
    known = Known().fit(inputs, np.array([0, 1]))
    assert known.predict_proba(inputs) == pytest.approx(np.array([[0.8, 0.2], [0.3, 0.7]]))
    assert known.predict(inputs).tolist() == [0, 1]
