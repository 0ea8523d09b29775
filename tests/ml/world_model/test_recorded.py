"""The recorded step off the GPU: chains against enumeration, training against the plain step.

Where there is a GPU, test_device.py compares the recording with these.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_network import SMALL, draw_network, plant_network
from oracles.boltzmann import exact_model_means, exact_probabilities

from ml.world_model.chance import Chance, seed_generator
from ml.world_model.learning import Learner, TrainingConfig, climb, take_step
from ml.world_model.network import free_energy, infer_means, settle_means
from ml.world_model.parallel import ALONE
from ml.world_model.recorded import RecordedStep, _Sampler
from ml.world_model.sampling import draw_hidden
from ml.world_model.steps import begin_adam
from ml.world_model.visible import Group, Layout, expect_visible

CONFIG = TrainingConfig(hidden=(4, 3), batch_size=256, n_particles=256)
MIXED = Layout(
    (
        *SMALL.groups[:1],
        Group("size", "one_hot", ("s", "m")),
        *SMALL.groups[1:],
        Group("x", "number"),
    )
)


def _begin(network, rows, n_particles):
    generator = torch.Generator().manual_seed(3)
    return Learner(
        replace(
            network,
            biases=tuple(each.clone() for each in network.biases),
            weights=tuple(each.clone() for each in network.weights),
        ),
        draw_hidden(network, rows[:n_particles], Chance(generator)),
        (rows.mean(dim=0), *(torch.full((size,), 0.5).to(rows) for size in network.sizes[1:])),
        begin_adam((*network.biases, *network.weights), momentum=0.5),
    )


@pytest.mark.parametrize("hidden", [(4,), (4, 3), (3, 2, 2)])
def test_chains_drawn_by_noise_have_the_models_means_and_pairs(hidden):
    network = draw_network(0.8, hidden)
    generator = torch.Generator().manual_seed(5)
    states, chances = exact_probabilities(network)
    rows = np.random.default_rng(6).choice(len(states), 20_000, p=chances)
    chains = draw_hidden(network, torch.tensor(states[rows]), Chance(generator))
    sampler = _Sampler(network, len(rows), 60)
    sampler.draw_chance(generator)
    sampler.sweep(network, chains)
    means, pairs = exact_model_means(network)
    for layer, expected in enumerate(means):
        assert chains[layer].mean(dim=0).numpy() == pytest.approx(expected, abs=0.015)
    for layer, expected in enumerate(pairs):
        found = (chains[layer].T @ chains[layer + 1] / len(rows)).numpy()
        assert found == pytest.approx(expected, abs=0.015)


def test_visible_units_of_every_kind_are_drawn_as_their_fields_say():
    network = draw_network(0.0, (2,), MIXED)
    chains = (torch.zeros(40_000, MIXED.n_units).double(), torch.zeros(40_000, 2).double())
    sampler = _Sampler(network, 40_000, 1)
    sampler.draw_chance(torch.Generator().manual_seed(1))
    sampler.sweep(network, chains)
    drawn = chains[0]
    for columns in MIXED.one_hots:
        assert (drawn[:, columns].sum(dim=1) == 1).all()
    expected = expect_visible(MIXED, network.biases[0][None])[0]
    assert drawn.mean(dim=0).numpy() == pytest.approx(expected.numpy(), abs=0.015)
    assert float(drawn[:, -1].std()) == pytest.approx(1, abs=0.02)


def test_means_after_given_sweeps_are_those_that_were_looked_at():
    network = draw_network(1.0)
    rows = torch.tensor(exact_probabilities(network)[0])
    looked_at = infer_means(network, rows, tolerance=0.0, most_sweeps=7).hidden
    for one, other in zip(looked_at, settle_means(network, rows, n_sweeps=7), strict=True):
        assert torch.equal(one, other)


def test_a_step_is_taken_as_the_plain_one_takes_it():
    network = draw_network(0.5)
    states, chances = exact_probabilities(network)
    rows = torch.tensor(states[np.random.default_rng(2).choice(len(states), 4_000, p=chances)])
    # Without chance in between: no sweep of the chains.
    config = replace(CONFIG, n_sweeps=0)
    plain, recorded = _begin(network, rows, 256), _begin(network, rows, 256)
    batches = torch.arange(1_024).view(4, 256)
    step = RecordedStep(recorded, config, 256)
    n_sweeps = step.run(rows, batches, [1e-2] * 4, torch.Generator().manual_seed(1))
    config = replace(config, tolerance=0.0, most_sweeps=n_sweeps)
    for batch in batches:
        take_step(plain, rows[batch], config, 1e-2, Chance(), ALONE)
    for one, other in zip(
        (*plain.network.weights, *plain.network.biases, *plain.offsets),
        (*recorded.network.weights, *recorded.network.biases, *recorded.offsets),
        strict=True,
    ):
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-12)


def test_a_planted_machine_is_found_by_recorded_steps():
    planted = plant_network()
    states, chances = exact_probabilities(planted)
    rows = torch.tensor(states[np.random.default_rng(1).choice(len(states), 20_000, p=chances)])
    learner = _begin(draw_network(0.05, seed=9), rows, 256)
    step = RecordedStep(learner, CONFIG, 256)
    generator = seed_generator(0, 0, 0, rows.device)
    for epoch in range(30):
        batches = torch.randperm(len(rows), generator=generator)[: 78 * 256].view(78, 256)
        step.run(rows, batches, [1e-2 * 0.9**epoch] * 78, generator)
    energies = [free_energy(each, torch.tensor(states)) for each in (planted, learner.network)]
    shares = [torch.softmax(-each, dim=0) for each in energies]
    before = torch.softmax(-free_energy(draw_network(0.05, seed=9), torch.tensor(states)), dim=0)

    def diverge(share):
        return float((torch.tensor(chances) * (torch.tensor(chances) / share).log()).sum())

    assert diverge(shares[1]) < 0.1 * diverge(before)


def test_moments_that_agree_move_nothing_but_what_decays():
    network = draw_network(0.5)
    rows = torch.tensor(exact_probabilities(network)[0])
    learner = _begin(network, rows, 8)
    same = tuple(torch.ones_like(each) for each in (*network.biases, *network.weights))
    climb(learner, same, same, replace(CONFIG, decay=0.1), learner.adam.pace(1e-2))
    for one, other in zip(network.weights, learner.network.weights, strict=True):
        assert torch.allclose(0.999 * one, other, rtol=1e-12)
