"""The network against enumeration: bounds, limits, gradients and conditionals."""

import numpy as np
import pytest
import torch
from known_network import SMALL, draw_network
from oracles.boltzmann import (
    energy_of,
    exact_free_energy,
    exact_free_energy_by_top,
    exact_log_partition,
    exact_model_means,
    list_visible_states,
)
from scipy.stats import spearmanr

from ml.core.errors import ModelError
from ml.world_model.network import empty_network, energy, free_energy, infer_means
from ml.world_model.steps import measure_moments
from ml.world_model.visible import Group, Layout


@pytest.fixture(scope="module")
def visible():
    return torch.tensor(list_visible_states(SMALL))


def test_energy_is_the_loop_over_couplings(visible):
    network = draw_network(1.0)
    random = np.random.default_rng(1)
    states = [visible[:6], *(torch.tensor(random.integers(0, 2, (6, n)) * 1.0) for n in (4, 3))]
    found = energy(network, states)
    expected = [energy_of(network, [each[row] for each in states]) for row in range(6)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("hidden", [(5,), (4, 3), (3, 3, 2)])
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_the_variational_free_energy_is_never_below_the_exact_one(scale, hidden, visible):
    ranks = []
    for seed in range(3):
        network = draw_network(scale, hidden, seed=seed)
        exact = exact_free_energy(network, visible.numpy())
        bound = free_energy(network, visible).numpy()
        assert (bound >= exact - 1e-9).all()
        ranks.append(spearmanr(bound, exact).statistic)
    if len(hidden) == 1:
        # Without a second hidden layer the factorised distribution is the exact one.
        assert bound == pytest.approx(exact, abs=1e-9)
    assert np.mean(ranks) > (0.99 if scale <= 0.3 else 0.97)


def test_any_means_give_a_bound(visible):
    network = draw_network(2.0)
    exact = exact_free_energy(network, visible.numpy())
    random = np.random.default_rng(2)
    for _ in range(20):
        means = [torch.tensor(random.random((len(visible), n))) for n in (4, 3)]
        assert (free_energy(network, visible, means).numpy() >= exact - 1e-9).all()


def test_sixteen_units_on_top_are_summed_exactly_by_the_oracle_and_bounded():
    flags = Layout(tuple(Group(f"f{i}", "flag") for i in range(12)))
    network = draw_network(0.3, (8, 16), flags, seed=3)
    rows = torch.randint(0, 2, (20, 12), generator=torch.Generator().manual_seed(4)).double()
    exact = exact_free_energy_by_top(network, rows)
    bound = free_energy(network, rows).numpy()
    assert (bound >= exact - 1e-9).all()
    assert spearmanr(bound, exact).statistic > 0.99


def test_without_couplings_layers_are_independent(visible):
    network = draw_network(0.0)
    means = infer_means(network, visible)
    for mean, bias in zip(means.hidden, network.biases[1:], strict=True):
        assert mean.numpy() == pytest.approx(torch.sigmoid(bias).expand_as(mean).numpy(), abs=1e-12)
    assert means.n_sweeps <= 2
    exact = exact_free_energy(network, visible.numpy())
    assert free_energy(network, visible).numpy() == pytest.approx(exact, abs=1e-9)


def test_the_mean_field_is_a_fixed_point_that_lowers_the_bound(visible):
    network = draw_network(1.0, (4, 3, 2))
    means = infer_means(network, visible, tolerance=1e-12, most_sweeps=5_000)
    assert float(means.change.max()) <= 1e-12
    states = (visible, *means.hidden)
    for layer in (1, 2, 3):
        expected = torch.sigmoid(network.field(layer, states))
        assert means.hidden[layer - 1].numpy() == pytest.approx(expected.numpy(), abs=1e-9)
    few = infer_means(network, visible, most_sweeps=1).hidden
    more = infer_means(network, visible, most_sweeps=3).hidden
    assert (free_energy(network, visible, more) <= free_energy(network, visible, few) + 1e-12).all()
    damped = infer_means(network, visible, tolerance=1e-10, most_sweeps=5_000, damping=0.5)
    assert damped.hidden[1].numpy() == pytest.approx(means.hidden[1].numpy(), abs=1e-6)


def test_moments_are_the_gradients_of_the_bound_and_of_log_z(visible):
    network = draw_network(0.7)
    for parameter in (*network.biases, *network.weights):
        parameter.requires_grad_(True)
    with torch.enable_grad():
        means = infer_means(network, visible, tolerance=1e-13, most_sweeps=5_000)
        hidden = [mean.detach() for mean in means.hidden]
        bound = -free_energy(network, visible, hidden).mean()
        slopes = torch.autograd.grad(bound, (*network.biases, *network.weights))
    no_offsets = [torch.zeros(size, dtype=torch.float64) for size in network.sizes]
    moments = measure_moments((visible, *hidden), no_offsets)
    for slope, moment in zip(slopes, moments, strict=True):
        assert moment.numpy() == pytest.approx(slope.numpy(), abs=1e-12)
    # log Z by enumeration, differentiated numerically.
    for parameter in (*network.biases, *network.weights):
        parameter.requires_grad_(False)
    means_of, pairs_of = exact_model_means(network)
    for parameter, expected in zip(
        (network.biases[1], network.weights[0], network.weights[1]),
        (means_of[1], pairs_of[0], pairs_of[1]),
        strict=True,
    ):
        place = tuple(0 for _ in parameter.shape)
        step = 1e-4
        parameter[place] += step
        above = exact_log_partition(network)
        parameter[place] -= 2 * step
        below = exact_log_partition(network)
        parameter[place] += step
        assert expected[place] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_centred_moments_are_the_gradient_by_centred_parameters(visible):
    network = draw_network(0.7)
    offsets = [torch.full((size,), 0.3, dtype=torch.float64) for size in network.sizes]
    hidden = infer_means(network, visible, tolerance=1e-13, most_sweeps=5_000).hidden
    centred = measure_moments((visible, *hidden), offsets)[len(offsets)]
    plain = measure_moments((visible, *hidden), [0 * each for each in offsets])
    by_hand = (
        plain[3]
        - torch.outer(offsets[0], plain[1])
        - torch.outer(plain[0], offsets[1])
        + torch.outer(offsets[0], offsets[1])
    )
    assert centred.numpy() == pytest.approx(by_hand.numpy(), abs=1e-12)


def test_a_layout_refuses_what_it_cannot_hold():
    with pytest.raises(ModelError, match="one-hot groups first"):
        Layout((Group("f", "flag"), Group("g", "one_hot", ("a", "b"))))
    with pytest.raises(ModelError, match="no group 'h'"):
        SMALL.columns("h")
    with pytest.raises(ModelError, match="needs a hidden layer"):
        empty_network(SMALL, ())


def test_as_flags_has_the_same_columns():
    assert SMALL.as_flags().names == SMALL.names
    assert SMALL.as_flags().one_hots == ()
