"""What the study of the three-in-one world model shows its contenders."""

import itertools
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from known_network import draw_network

from benchmarks.studies.three_in_one.effect_contenders import Known
from benchmarks.studies.three_in_one.features import list_visible, make_layout
from benchmarks.studies.three_in_one.plausibility import score_published
from benchmarks.studies.three_in_one.published import train_as_published
from benchmarks.studies.three_in_one.simulator_truth import (
    Particles,
    draw_particles,
    list_cells,
    measure_evidence,
)
from benchmarks.studies.three_in_one.states import see_world
from benchmarks.studies.three_in_one.windows import open_windows, read_counters
from ml.simulate.purchase_world import (
    PURCHASE_WORLDS,
    PurchaseTraits,
    compute_purchase_truth,
    simulate_purchases,
)
from ml.world_model.learning import TrainingConfig
from ml.world_model.network import energy, infer_means

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


def _open(config, day):
    history = simulate_purchases(config)
    everybody = np.arange(config.n_customers)
    days = np.full(config.n_customers, day)
    return history, open_windows(history, list_visible(config, history), days, everybody)


@pytest.mark.parametrize("kind", ["visit", "purchase", "coupon"])
def test_a_window_set_otherwise_shows_what_it_would_have_shown(kind):
    history, windows = _open(CONFIG, 40)
    named = {"visit": "visits", "purchase": "purchases", "coupon": "coupon"}[kind]
    for value in (True, False):
        happened = getattr(history, named).copy()
        happened[38:40] = value
        changes = {named: happened}
        if kind != "coupon":
            since = np.zeros_like(history.days_since_visit)
            since[0] = 999
            for day in range(1, len(since)):
                since[day] = np.where(happened[day - 1], 0, since[day - 1] + 1)
            changes[f"days_since_{kind}"] = since
        expected = list_visible(CONFIG, replace(history, **changes))[40]
        assert (windows.with_lags(kind, (1, 2), value).rows == expected).all()


def _know(day, who):
    """A consumer's window, and the consumer itself as the only particle."""
    history, windows = _open(CONFIG, day)
    one = np.array([who])
    traits = PurchaseTraits(**{name: each[one] for name, each in vars(history.traits).items()})
    since, count = read_counters(history, day - 4, one)
    propensity = history.sale_propensity[day - 4 : day, one]
    known = Particles(traits, list_cells(traits), since, count, propensity)
    return history, windows.take(one), list_cells(traits), {day: known}


def test_the_simulators_odds_are_its_own_probabilities_where_traits_are_known():
    """With one particle, the consumer as it is, yesterday's odds are those of its true chance."""
    history, windows, cell, particles = _know(50, 2)
    truth = compute_purchase_truth(CONFIG, history)
    on_sale = history.sale_propensity[49, 2]
    chances = {
        "visit": truth.visit[49, 2, int(history.push[49, 2])],
        "purchase": truth.purchase[49, 2] @ np.array([1 - on_sale, on_sale]),
    }
    for name, chance in chances.items():
        sides = [
            measure_evidence(CONFIG, windows.with_lags(name, (1,), value), cell, particles)[0]
            for value in (True, False)
        ]
        assert sides[0] - sides[1] == pytest.approx(np.log(chance / (1 - chance)), abs=1e-4)


def test_the_evidence_of_all_windows_that_could_be_adds_up_to_one():
    _, windows, cell, particles = _know(50, 3)
    total = 0.0
    for pattern in itertools.product((True, False), repeat=8):
        shown = windows
        for place, value in enumerate(pattern):
            shown = shown.with_lags(("visit", "purchase")[place // 4], (place % 4 + 1,), value)
        total += float(np.exp(measure_evidence(CONFIG, shown, cell, particles)[0])[0])
    assert total == pytest.approx(1, abs=1e-5)


def test_particles_are_consumers_of_other_worlds_with_the_same_demographics():
    config = replace(CONFIG, n_customers=100)
    history, windows = _open(config, 60)
    particles = draw_particles(config, [60], n_worlds=2, n_customers=1_000)
    cell = list_cells(history.traits)
    assert len(particles[60].cell) == 2_000
    assert set(cell) <= set(particles[60].cell)
    found, effective = measure_evidence(config, windows, cell, particles)
    assert (found <= 0).all()
    assert (effective > 10).mean() > 0.5


def test_the_published_score_counts_upper_couplings_twice_and_no_entropy():
    network = draw_network(0.5, (4, 3))
    rows = np.eye(network.layout.n_units, dtype=np.float32)[:3]
    visible = torch.from_numpy(rows).to(network.biases[0].dtype)
    hidden = infer_means(network, visible, tolerance=1e-4, most_sweeps=50).hidden
    again = ((hidden[0] @ network.weights[1]) * hidden[1]).sum(dim=1)
    expected = energy(network, (visible, *hidden)) - again
    assert score_published(network, rows) == pytest.approx(expected.numpy(), abs=1e-6)


def test_the_published_training_moves_the_published_network_in_the_time_it_is_given():
    history = simulate_purchases(replace(CONFIG, n_customers=64))
    rows = torch.from_numpy(list_visible(CONFIG, history).reshape(-1, 72)).float()
    network = train_as_published(rows, make_layout(10), seconds=1.5, seed=0)
    assert network.sizes == (72, 64, 32, 16)
    assert not network.layout.one_hots
    assert all(bool(torch.isfinite(each).all()) for each in (*network.biases, *network.weights))
    begun = torch.logit(rows.mean(dim=0).clamp(1e-4, 1 - 1e-4))
    assert float((network.biases[0] - begun).abs().max()) > 0.005
