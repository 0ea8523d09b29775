"""The prediction adapter on customer-days whose probabilities are known."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ml.core.errors import ModelError
from ml.world_model.prediction import PredictionConfig, fit_prediction

CONFIG = PredictionConfig(n_epochs=12)


def _draw(seed, n=20_000):
    random = np.random.default_rng(seed)
    customer = random.integers(400, size=n)
    state = random.random((n, 6)).astype(np.float32)
    actions = (random.random((n, 2)) < 0.4).astype(np.float32)
    score = 3 * state[:, 0] - 2 * state[:, 1] - 1 + actions[:, 0] * (0.5 + state[:, 2])
    chance = 1 / (1 + np.exp(-score))
    spent = 20 + 10 * state[:, 3] + 5 * actions[:, 1] + random.normal(0, 2, n)
    return customer, state, actions, chance, random.random(n) < chance, spent


@pytest.fixture(scope="module")
def fitted():
    customer, state, actions, _, bought, spent = _draw(1)
    outcomes = {"purchase": bought, "value": spent}
    return fit_prediction(state, actions, outcomes, customer, CONFIG)


def test_it_ranks_nearly_as_well_as_the_truth(fitted):
    _, state, actions, chance, bought, spent = _draw(2)
    predicted = fitted.predict(state, actions)
    best = roc_auc_score(bought, chance)
    assert roc_auc_score(bought, predicted["purchase"]) > best - 0.005
    assert predicted["purchase"].mean() == pytest.approx(bought.mean(), abs=0.015)
    # Of a variance of 4 nobody can predict more.
    assert np.mean((predicted["value"] - spent) ** 2) < 4.4


def test_toggling_an_action_adds_what_it_adds(fitted):
    _, state, _, _, _, _ = _draw(3)
    off, on = np.zeros((len(state), 2)), np.tile([0.0, 1.0], (len(state), 1))
    added = fitted.predict(state, on)["value"] - fitted.predict(state, off)["value"]
    assert added.mean() == pytest.approx(5, abs=0.3)
    assert added.std() < 0.8
    other = np.tile([1.0, 0.0], (len(state), 1))
    chances = fitted.predict(state, other)["purchase"], fitted.predict(state, off)["purchase"]
    score = np.log(chances[0] / (1 - chances[0])) - np.log(chances[1] / (1 - chances[1]))
    assert score.mean() == pytest.approx(1, abs=0.25)


def test_the_same_rows_give_the_same_adapter():
    customer, state, actions, _, bought, _ = _draw(4, n=3_000)
    twice = [
        fit_prediction(state, actions, {"purchase": bought}, customer, CONFIG) for _ in range(2)
    ]
    assert (
        twice[0].predict(state, actions)["purchase"] == twice[1].predict(state, actions)["purchase"]
    ).all()
    assert twice[0].losses == twice[1].losses


def test_a_constant_column_and_no_actions_do_no_harm():
    customer, state, _, chance, bought, _ = _draw(5)
    state[:, 5] = 1.0
    nothing = np.zeros((len(state), 0))
    adapter = fit_prediction(state, nothing, {"purchase": bought}, customer, CONFIG)
    found = roc_auc_score(bought, adapter.predict(state, nothing)["purchase"])
    assert found > roc_auc_score(bought, chance) - 0.05


def test_it_refuses_what_it_cannot_learn_from():
    customer, state, actions, _, bought, _ = _draw(6, n=500)
    with pytest.raises(ModelError, match="at least two customers"):
        fit_prediction(state, actions, {"purchase": bought}, np.zeros(500, dtype=int), CONFIG)
    state[3, 2] = np.nan
    with pytest.raises(ModelError, match="state of the prediction adapter"):
        fit_prediction(state, actions, {"purchase": bought}, customer, CONFIG)
