"""The counterfactual adapter: known effects, wrong nuisances, refusals."""

import numpy as np
import pytest

from ml.core.errors import ModelError, SupportError
from ml.world_model.counterfactual import (
    Logged,
    fit_counterfactual,
    guard_identification,
)


def _draw(seed, n=40_000, *, spread=1.0):
    """Effects of 0.5 + spread z on the log-odds; the propensity rises with z, too."""
    random = np.random.default_rng(seed)
    state = random.normal(size=(n, 4))
    propensity = 1 / (1 + np.exp(-(0.8 * state[:, 0] - 0.5)))
    action = (random.random(n) < propensity).astype(float)
    base = 0.7 * state[:, 1] - 0.3 + 0.5 * state[:, 0]
    chances = [
        1 / (1 + np.exp(-(base + taken * (0.5 + spread * 0.4 * state[:, 0])))) for taken in (0, 1)
    ]
    outcome = (random.random(n) < np.where(action == 1, chances[1], chances[0])).astype(float)
    mean = chances[0] + propensity * (chances[1] - chances[0])
    customer = random.integers(2_000, size=n)
    return state, propensity, action, outcome, mean, customer, chances[1] - chances[0]


def _fit(drawn, *, off=0.0):
    state, propensity, action, outcome, mean, customer, _ = drawn
    logged = Logged(outcome, np.clip(mean + off, 0.01, 0.99), action, propensity, customer)
    adapter = fit_counterfactual(state, logged, floor=0.01)
    return adapter, adapter.predict(state, mean)


def test_it_finds_effects_that_vary():
    drawn = _draw(1)
    adapter, effects = _fit(drawn)
    error = np.sqrt(np.mean((effects - drawn[-1]) ** 2)) / drawn[-1].std()
    assert error < 0.3
    assert effects.mean() == pytest.approx(drawn[-1].mean(), abs=0.015)
    assert adapter.constant == pytest.approx(0.5, abs=0.1)
    assert np.isfinite(adapter.penalty)


def test_a_wrong_outcome_model_does_not_move_the_mean_effect():
    drawn = _draw(2)
    state = drawn[0]
    honest, wrong = _fit(drawn)[1], _fit(drawn, off=0.1 * np.tanh(state[:, 1]))[1]
    assert wrong.mean() == pytest.approx(honest.mean(), abs=0.02)
    # Regressing the outcome on the action alone would be off by several times as much.
    _, _, action, outcome, _, _, effect = drawn
    naive = outcome[action == 1].mean() - outcome[action == 0].mean()
    assert abs(naive - effect.mean()) > 0.1


def test_without_heterogeneity_it_hardly_invents_any():
    invented = []
    for seed in range(5):
        adapter, _ = _fit(_draw(10 + seed, n=8_000, spread=0.0))
        invented.append(float(np.abs(adapter.coefficients).sum()))
    assert np.median(invented) < 0.15


def test_the_same_as_weighted_ridge_by_hand():
    state, propensity, action, outcome, mean, customer, _ = _draw(3, n=500, spread=4.0)
    slope = mean * (1 - mean)
    logged = Logged(outcome, mean, action, propensity, customer)
    adapter = fit_counterfactual(state, logged, floor=0.001)
    design = np.column_stack(
        [
            np.ones(500),
            np.log(mean / (1 - mean)),
            (state - state.mean(axis=0)) / state.std(axis=0),
        ]
    )
    moved = design * ((action - propensity) * slope)[:, None]
    gram = moved.T @ (moved / slope[:, None])
    total = moved.T @ ((outcome - mean) / slope)
    assert np.isfinite(adapter.penalty)
    expected = np.linalg.solve(gram + adapter.penalty * np.diag([0, 0, 1, 1, 1, 1]), total)
    found = np.array([adapter.constant, adapter.base, *adapter.coefficients])
    assert found == pytest.approx(expected, rel=1e-8)


def test_what_the_log_does_not_identify_is_refused():
    sunday = np.repeat([0.0, 1.0], 50)
    with pytest.raises(SupportError, match=r"sale: certain or impossible for 100\.0% of the rows"):
        guard_identification(sunday, floor=0.02, action="sale")
    with pytest.raises(SupportError, match=r"from 0\.0100 to 0\.5000, beyond the floor 0\.02"):
        guard_identification(np.array([0.01, 0.5]), floor=0.02, action="push")
    guard_identification(np.array([0.02, 0.5, 0.98]), floor=0.02, action="push")


def test_too_few_customers_are_refused():
    state, propensity, action, outcome, mean, _, _ = _draw(4, n=50)
    logged = Logged(outcome, mean, action, propensity, np.zeros(50, dtype=int))
    with pytest.raises(ModelError, match="too few"):
        fit_counterfactual(state, logged, floor=0.001)


def test_of_a_number_the_effect_is_in_its_own_unit():
    random = np.random.default_rng(5)
    n = 20_000
    state, action = random.normal(size=(n, 2)), (random.random(n) < 0.3).astype(float)
    outcome = 5 + state[:, 1] + action * (2 + state[:, 0]) + random.normal(size=n)
    expected = 5 + state[:, 1] + 0.3 * (2 + state[:, 0])
    logged = Logged(outcome, expected, action, np.full(n, 0.3), np.arange(n) % 500, is_binary=False)
    adapter = fit_counterfactual(state, logged, floor=0.01)
    effects = adapter.predict(state, expected)
    assert np.sqrt(np.mean((effects - (2 + state[:, 0])) ** 2)) < 0.1
    assert adapter.base == 0
