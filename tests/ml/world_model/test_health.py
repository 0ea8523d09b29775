"""Health gates, dropped layers, pre-training and beliefs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_network import SMALL, draw_network, plant_network
from oracles.boltzmann import exact_free_energy, exact_probabilities

from ml.world_model.belief import infer_belief, name_belief
from ml.world_model.health import (
    check_health,
    drop_unused_layers,
    measure_spreads,
    score_chains,
)
from ml.world_model.learning import TrainingConfig
from ml.world_model.network import free_energy, infer_means
from ml.world_model.pretraining import pretrain_network
from ml.world_model.training import train_network

CONFIG = TrainingConfig(hidden=(4, 3), n_epochs=40, batch_size=256, n_particles=512)


@pytest.fixture(scope="module")
def rows():
    network = plant_network()
    states, chances = exact_probabilities(network)
    drawn = np.random.default_rng(1).choice(len(states), 10_000, p=chances)
    return torch.tensor(states[drawn], dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(rows):
    return train_network(rows[:8_000], SMALL, CONFIG)


def test_a_trained_networks_chains_look_like_the_data(trained, rows):
    gates = {gate.name: gate for gate in check_health(trained, rows[:8_000], rows[8_000:], seed=1)}
    assert gates["chain_rms"].is_passed, gates["chain_rms"]
    assert gates["chain_within_2"].is_passed
    assert gates["converged_share"].is_passed
    assert gates["free_energy_gap"].is_passed
    assert set(gates) >= {"dead_share", "saturated_share", "spread_hidden_1", "spread_hidden_2"}


def test_chains_of_another_network_do_not_pass(trained, rows):
    other = plant_network(seed=9).to("cpu", torch.float32)
    scores = score_chains(replace(trained, network=other), rows)
    assert float(scores.pow(2).mean().sqrt()) > 5


def test_dead_and_saturated_units_are_counted(trained, rows):
    biases = list(trained.network.biases)
    biases[1] = torch.tensor([-30.0, 30.0, 30.0, 0.0])
    broken = replace(trained, network=replace(trained.network, biases=tuple(biases)))
    gates = {gate.name: gate for gate in check_health(broken, rows[:1_000], rows[8_000:])}
    assert not gates["dead_share"].is_passed
    assert not gates["saturated_share"].is_passed
    assert gates["saturated_share"].value == pytest.approx(2 / 7)


def test_a_layer_that_says_nothing_goes_and_beliefs_stay(rows):
    network = draw_network(1.5, seed=2)
    network.weights[1].mul_(0.01)
    visible = rows[:500].double()
    assert measure_spreads(network, visible)[1] < 0.1
    shorter, n_dropped = drop_unused_layers(network, visible)
    assert n_dropped == 1
    assert shorter.n_layers == 1
    before = infer_means(network, visible).hidden[0]
    after = infer_means(shorter, visible).hidden[0]
    assert after.numpy() == pytest.approx(before.numpy(), abs=1e-3)
    assert drop_unused_layers(shorter, visible) == (shorter, 0)


def test_layers_that_speak_are_kept(rows):
    network = draw_network(4.0, seed=1)
    kept, n_dropped = drop_unused_layers(network, rows[:500].double())
    assert measure_spreads(network, rows[:500].double())[1] > 0.1
    assert n_dropped == 0
    assert kept is network


def test_pretraining_begins_nearer_to_the_data_than_chance(rows):
    begun = pretrain_network(rows, SMALL, CONFIG, n_epochs=8)
    assert begun.sizes == (7, 4, 3)
    states, _ = exact_probabilities(draw_network(0.0))

    def likelihood(network):
        double = network.to("cpu", torch.float64)
        every = -exact_free_energy(double, states)
        own = -exact_free_energy(double, rows[:500].numpy())
        return own.mean() - np.log(np.exp(every).sum())

    alone = train_network(rows, SMALL, replace(CONFIG, n_epochs=0, weight_scale=0.0)).network
    assert likelihood(begun) > likelihood(alone) + 0.05
    done = train_network(rows, SMALL, CONFIG, begin=begun).network
    assert likelihood(done) > likelihood(begun) - 0.02


def test_every_layer_of_three_is_pretrained(rows):
    begun = pretrain_network(rows, SMALL, replace(CONFIG, hidden=(4, 4, 3)), n_epochs=6)
    assert begun.sizes == (7, 4, 4, 3)
    assert all(float(weight.abs().mean()) > 0.1 for weight in begun.weights)
    assert all(spread > 0.05 for spread in measure_spreads(begun, rows))


def test_sampling_the_posterior_trains_a_network_too(rows):
    done = train_network(rows, SMALL, replace(CONFIG, posterior="sampled", n_epochs=10))
    assert done.curve[-1].moment_error < 0.08


def test_a_belief_is_the_means_of_all_layers_in_any_company(trained, rows):
    visible = rows[:3_000].numpy().astype(np.uint8)
    belief = infer_belief(trained.network, visible)
    assert belief.shape == (3_000, 7)
    assert belief.dtype == np.float32
    assert len(name_belief(trained.network)) == 7
    assert name_belief(trained.network)[4] == "belief_2_0"
    means = infer_means(trained.network, rows[:3_000]).hidden
    assert belief[:, :4] == pytest.approx(means[0].numpy(), abs=1e-3)
    alone = infer_belief(trained.network, visible[:1])
    assert alone == pytest.approx(belief[:1], abs=1e-3)
    assert infer_belief(trained.network, visible[:0]).shape == (0, 7)
    assert (
        free_energy(trained.network, rows[:10]) == free_energy(trained.network, rows[:10])
    ).all()
