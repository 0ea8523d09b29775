"""Block Gibbs sampling: odd layers given even ones, and back."""

from collections.abc import Sequence

import torch

from ml.world_model.chance import Chance
from ml.world_model.network import Network, States, infer_means
from ml.world_model.visible import draw_flags, draw_visible


@torch.no_grad()
def sweep(
    network: Network,
    states: Sequence[torch.Tensor],
    *,
    n_sweeps: int,
    chance: Chance,
    is_free: bool = True,
) -> States:
    """Return the states after so many sweeps of block Gibbs over all layers.

    Layers of one parity are independent given the others, so a sweep is two parallel draws. It
    leaves p(v, h) as it is.

    Parameters
    ----------
    network
        Of L hidden layers.
    states
        L + 1 tensors of shape (n, units).
    n_sweeps
        How many.
    chance
        Of the draws, on the states' device.
    is_free
        Whether visible units are drawn too, or clamped.

    Returns
    -------
    States
        New tensors.
    """
    current = list(states)
    odd = range(1, network.n_layers + 1, 2)
    even = range(2, network.n_layers + 1, 2)
    for _ in range(n_sweeps):
        for layer in odd:
            current[layer] = draw_flags(network.field(layer, current), chance)
        if is_free:
            current[0] = draw_visible(network.layout, network.field(0, current), chance)
        for layer in even:
            current[layer] = draw_flags(network.field(layer, current), chance)
    return tuple(current)


@torch.no_grad()
def draw_hidden(network: Network, visible: torch.Tensor, chance: Chance) -> States:
    """Return visible states with hidden ones drawn about their mean-field means.

    Parameters
    ----------
    network
        Of L hidden layers.
    visible : shape (n, V)
        Data.
    chance
        Of the draws.

    Returns
    -------
    States
        L + 1 tensors: where chains begin.
    """
    means = infer_means(network, visible, tolerance=1e-3, most_sweeps=20).hidden
    return visible, *(draw_flags(torch.logit(mean, eps=1e-6), chance) for mean in means)
