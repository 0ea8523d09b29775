"""Greedy pre-training, a layer at a time, as the halves of a deep machine want it.

In the deep machine a hidden layer hears from both sides; alone it hears from one. So the lowest
layer is trained with two copies of what is below, the highest with two copies of itself, layers
between with both; a copy's weights are the machine's own (Salakhutdinov and Hinton 2009, section
3.1, where an undirected pair with doubled weights is halved afterwards).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ml.world_model.chance import Chance, seed_generator
from ml.world_model.learning import TrainingConfig
from ml.world_model.network import Network, empty_network
from ml.world_model.steps import begin_adam, measure_moments, move
from ml.world_model.visible import Group, Layout, draw_flags, draw_visible, fit_biases


@dataclass
class _Half:
    """One layer pair: ``copies`` of what is below and above."""

    layout: Layout
    copies: tuple[int, int]
    below_bias: torch.Tensor
    above_bias: torch.Tensor
    weight: torch.Tensor

    def expect_above(self, below: torch.Tensor) -> torch.Tensor:
        """Return the means above, with every copy below alike."""
        return torch.sigmoid(
            torch.addmm(self.above_bias, below, self.weight, alpha=float(self.copies[0]))
        )


@torch.no_grad()
def pretrain_network(
    visible: torch.Tensor,
    layout: Layout,
    config: TrainingConfig,
    *,
    n_epochs: int = 10,
    progress: Callable[[int, int], None] = lambda _layer, _epoch: None,
) -> Network:
    """Return a network whose layers were trained one after the other.

    Parameters
    ----------
    visible : shape (n, V)
        Rows.
    layout
        Of the V units.
    config
        Its hidden layers, batch, chains, rates and seed.
    n_epochs
        Per layer.
    progress
        Called with layer and epoch as each ends.

    Returns
    -------
    Network
        To begin ``train_network`` with.
    """
    n_layers = len(config.hidden)
    network = empty_network(layout, config.hidden, dtype=visible.dtype).to(visible.device)
    rows, below = visible, layout
    for layer in range(1, n_layers + 1):
        copies = (2 if layer < n_layers else 1, 2 if layer > 1 else 1)
        half = _train_half(rows, below, copies, layer, config, n_epochs, progress)
        network.weights[layer - 1].copy_(half.weight)
        if layer == 1:
            network.biases[0].copy_(half.below_bias)
        # A hidden layer's bias is what both of its halves found, on average.
        share = 0.5 if layer < n_layers else 1.0
        network.biases[layer].add_(half.above_bias, alpha=share)
        if layer > 1:
            network.biases[layer - 1].add_(half.below_bias, alpha=0.5)
        rows = half.expect_above(rows)
        below = Layout(tuple(Group(f"h{layer}.{i}", "flag") for i in range(rows.shape[1])))
    return network


def _train_half(
    rows: torch.Tensor,
    layout: Layout,
    copies: tuple[int, int],
    layer: int,
    config: TrainingConfig,
    n_epochs: int,
    progress: Callable[[int, int], None],
) -> _Half:
    """Train one pair of layers by persistent chains, centred on the data's means."""
    n_above = config.hidden[layer - 1]
    generator = seed_generator(config.seed, -1 - layer, 0, rows.device)
    chance = Chance(generator, config.copies)
    mean = rows.mean(dim=0)
    weight = torch.empty(rows.shape[1], n_above, dtype=rows.dtype, device=rows.device)
    weight.normal_(0, config.weight_scale, generator=generator)
    centre = torch.full((n_above,), 0.5, dtype=rows.dtype, device=rows.device)
    half = _Half(
        layout,
        copies,
        fit_biases(layout, mean) - copies[1] * (weight @ centre),
        -copies[0] * (mean @ weight),
        weight,
    )
    above = [
        draw_flags(torch.zeros(config.n_particles, n_above).to(rows), chance)
        for _ in range(copies[1])
    ]
    adam = begin_adam((half.below_bias, half.above_bias, weight), momentum=config.momentum)
    above, below, up = _turn(half, above, chance)
    n_steps = max(1, len(rows) // config.batch_size)
    for epoch in range(n_epochs):
        order = torch.randperm(len(rows), generator=generator, device=rows.device)
        for step in range(n_steps):
            batch = rows[order[step * config.batch_size : (step + 1) * config.batch_size]]
            for _ in range(config.n_sweeps):
                above, below, up = _turn(half, above, chance)
            seen = half.expect_above(batch)
            chain = torch.stack(below).mean(dim=0)
            data = measure_moments((batch, seen), (mean, centre))
            model = measure_moments((chain, torch.sigmoid(up)), (mean, centre))
            done = adam.n_steps / max(1, n_epochs * n_steps - 1)
            rate = config.learning_rate * config.fall**done
            slopes = [a - b for a, b in zip(data, model, strict=True)]
            steps = adam.scale(slopes, adam.pace(rate))
            move((half.below_bias, half.above_bias), (weight,), steps, (mean, centre), [copies])
            centre.add_(data[1], alpha=config.centring)
        progress(layer, epoch + 1)
    return half


def _turn(
    half: _Half, above: list[torch.Tensor], chance: Chance
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Draw every copy below, then every copy above; return both and the field above."""
    down = torch.addmm(half.below_bias, torch.stack(above).sum(dim=0), half.weight.T)
    below = [draw_visible(half.layout, down, chance) for _ in range(half.copies[0])]
    up = torch.addmm(half.above_bias, torch.stack(below).sum(dim=0), half.weight)
    return [draw_flags(up, chance) for _ in range(half.copies[1])], below, up
