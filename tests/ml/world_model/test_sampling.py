"""Chains and draws against enumeration."""

import math

import numpy as np
import pytest
import torch
from known_network import SMALL, draw_network
from oracles.boltzmann import exact_model_means, exact_probabilities

from ml.world_model.chance import Chance
from ml.world_model.sampling import draw_hidden, sweep
from ml.world_model.visible import (
    Group,
    Layout,
    draw_visible,
    expect_visible,
    fit_biases,
    sum_out_visible,
)

MIXED = Layout((*SMALL.groups, Group("x", "number")))


@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_visible_draws_have_the_means_that_their_fields_say(shift):
    field = torch.tensor([[0.2, -1.0, 1.5, 0.0, 2.0, -2.0, 0.7, 0.4]]).double()
    # A flag whose field is far from the others': groups must not vanish beside it.
    field[0, 3] += shift
    drawn = draw_visible(MIXED, field.expand(40_000, -1), Chance(torch.Generator().manual_seed(1)))
    assert (drawn[:, :3].sum(dim=1) == 1).all()
    expected = expect_visible(MIXED, field)[0]
    assert drawn.mean(dim=0).numpy() == pytest.approx(expected.numpy(), abs=0.015)
    assert float(drawn[:, 7].std()) == pytest.approx(1, abs=0.02)


def test_one_hots_far_apart_are_drawn_by_their_own_scale():
    layout = Layout((Group("a", "one_hot", ("x", "y")), Group("b", "one_hot", ("x", "y"))))
    field = torch.tensor([[500.0, 500.0, 0.0, 1.0]]).expand(20_000, -1)
    drawn = draw_visible(layout, field, Chance(torch.Generator().manual_seed(2)))
    assert drawn.mean(dim=0)[[0, 3]].tolist() == pytest.approx([0.5, 0.731], abs=0.015)


def test_summing_visible_units_out_is_the_sum_over_their_states():
    field = torch.randn(5, SMALL.n_units, generator=torch.Generator().manual_seed(3)).double()
    states, _ = exact_probabilities(draw_network(0.0))
    expected = torch.logsumexp(field @ torch.tensor(states).T, dim=1)
    assert sum_out_visible(SMALL, field).numpy() == pytest.approx(expected.numpy(), rel=1e-12)


def test_a_number_is_summed_out_by_its_integral():
    layout = Layout((Group("x", "number"),))
    found = float(sum_out_visible(layout, torch.tensor([[1.3]], dtype=torch.float64)))
    grid = np.linspace(-20, 20, 200_001)
    expected = math.log(np.trapezoid(np.exp(1.3 * grid - grid**2 / 2), grid))
    assert found == pytest.approx(expected, abs=1e-9)


def test_biases_of_units_alone_give_back_their_means():
    mean = torch.tensor([0.5, 0.3, 0.2, 0.1, 0.9, 0.5, 0.7, -1.2], dtype=torch.float64)
    again = expect_visible(MIXED, fit_biases(MIXED, mean)[None])[0]
    assert again.numpy() == pytest.approx(mean.numpy(), abs=1e-12)


@pytest.mark.parametrize("copies", [1, 8])
@pytest.mark.parametrize("hidden", [(4, 3), (3, 2, 2)])
def test_long_chains_have_the_models_means_and_pairs(hidden, copies):
    network = draw_network(0.8, hidden)
    chance = Chance(torch.Generator().manual_seed(5), copies)
    states, chances = exact_probabilities(network)
    rows = np.random.default_rng(6).choice(len(states), 20_000, p=chances)
    chains = draw_hidden(network, torch.tensor(states[rows]), chance)
    chains = sweep(network, chains, n_sweeps=60, chance=chance)
    means, pairs = exact_model_means(network)
    for layer, expected in enumerate(means):
        assert chains[layer].mean(dim=0).numpy() == pytest.approx(expected, abs=0.015)
    for layer, expected in enumerate(pairs):
        found = (chains[layer].T @ chains[layer + 1] / len(rows)).numpy()
        assert found == pytest.approx(expected, abs=0.015)


def test_clamped_chains_keep_what_is_seen_and_find_what_is_not():
    network = draw_network(0.8)
    visible = torch.tensor(exact_probabilities(network)[0][:1]).expand(20_000, -1)
    chance = Chance(torch.Generator().manual_seed(7))
    start = draw_hidden(network, visible, chance)
    free = sweep(network, start, n_sweeps=30, chance=chance, is_free=False)
    assert (free[0] == visible).all()
    # p(h1 = 1 | v) with the layer above summed out, by enumeration.
    from oracles.boltzmann import energy_of, list_binary_states

    chances, units = [], list_binary_states(4)
    for unit in units:
        energies = [
            energy_of(network, [visible[0], unit, above]) for above in list_binary_states(3)
        ]
        chances.append(np.exp(-np.array(energies)).sum())
    expected = units.T @ (np.array(chances) / sum(chances))
    assert free[1].mean(dim=0).numpy() == pytest.approx(expected, abs=0.015)


def test_rows_that_share_uniforms_have_each_uniform_ones():
    drawn = Chance(torch.Generator().manual_seed(8), 8).uniforms(4_001, 50, torch.zeros(1))
    assert drawn.shape == (4_001, 50)
    assert (drawn >= 0).all()
    assert (drawn < 1).all()
    for rows in (drawn, drawn[:501], drawn[3_500:]):
        counts = torch.histc(rows, 20, 0, 1) / rows.numel()
        assert counts.numpy() == pytest.approx(0.05, abs=0.005)
    # All turns of a number average to the same: the mean varies less.
    assert drawn[:4_000].mean(dim=0).numpy() == pytest.approx(0.5, abs=0.005)
