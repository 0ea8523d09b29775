"""Annealing against enumeration."""

import pytest
import torch
from known_network import SMALL, draw_network
from oracles.boltzmann import exact_log_partition, exact_probabilities

from ml.world_model.chance import Chance
from ml.world_model.partition import bound_log_partition, estimate_log_partition
from ml.world_model.sampling import draw_hidden, sweep

MEAN = torch.tensor([0.5, 0.3, 0.2, 0.4, 0.6, 0.5, 0.7])


@pytest.mark.parametrize("hidden", [(6,), (4, 3), (3, 3, 2)])
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_annealing_finds_log_z_within_a_tenth_of_a_nat(scale, hidden):
    network = draw_network(scale, hidden)
    found = estimate_log_partition(network, MEAN, n_steps=1_000, n_runs=200)
    assert found.value == pytest.approx(exact_log_partition(network), abs=0.1)
    assert 0 < found.standard_error < 0.1
    assert found.effective_sample_size > 20


@pytest.mark.parametrize("hidden", [(4, 3), (3, 3, 2)])
def test_annealing_backwards_from_the_models_own_draws_meets_it(hidden):
    network = draw_network(1.0, hidden)
    states, chances = exact_probabilities(network)
    generator = torch.Generator().manual_seed(1)
    rows = torch.multinomial(torch.tensor(chances), 200, replacement=True, generator=generator)
    draws = draw_hidden(network, torch.tensor(states)[rows], Chance(generator))
    draws = sweep(network, draws, n_sweeps=50, chance=Chance(generator))
    found = bound_log_partition(network, MEAN, draws, n_steps=1_000)
    assert found.value == pytest.approx(exact_log_partition(network), abs=0.1)


def test_without_couplings_log_z_is_exact():
    network = draw_network(0.0)
    found = estimate_log_partition(network, MEAN, n_steps=100, n_runs=50)
    assert found.value == pytest.approx(exact_log_partition(network), abs=0.05)
    assert SMALL.n_units == network.sizes[0]
