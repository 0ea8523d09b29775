"""Small networks of random weights, for the tests of the world model."""

import torch

from ml.world_model.network import empty_network
from ml.world_model.visible import Group, Layout

SMALL = Layout(
    (Group("colour", "one_hot", ("a", "b", "c")), *(Group(f"f{i}", "flag") for i in range(4)))
)


def draw_network(scale, hidden=(4, 3), layout=SMALL, seed=0):
    """Return a network of random weights of a scale, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    network = empty_network(layout, hidden, dtype=torch.float64)
    for bias in network.biases:
        bias.normal_(0, 0.5, generator=generator)
    for weight in network.weights:
        weight.normal_(0, scale, generator=generator)
    return network


def plant_network(scale=3.0, hidden=(4, 3), seed=4):
    """Return a network whose units are about even, so that couplings decide what is seen."""
    network = draw_network(scale, hidden, seed=seed)
    for layer, bias in enumerate(network.biases):
        bias.zero_()
        if layer:
            bias -= network.weights[layer - 1].sum(dim=0) / 2
        if layer < network.n_layers:
            bias -= network.weights[layer].sum(dim=1) / 2
    return network
