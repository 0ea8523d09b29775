"""The Deep Boltzmann Machine: its energy, its mean field and its variational free energy.

p(v, h) = exp(-E(v, h)) / Z with E = -sum_l x_l'b_l - sum_l x_{l-1}'W_l x_l (+ |numbers|^2 / 2),
x_0 = v and x_l = h_l binary (Salakhutdinov and Hinton 2009).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ml.core.errors import ModelError
from ml.world_model.visible import Layout

States = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Network:
    """A machine of L hidden layers.

    ``biases``: L + 1 tensors, the visible layer's first; ``weights``: L tensors, of shape (units
    below, units above).
    """

    layout: Layout
    biases: States
    weights: States

    @property
    def n_layers(self) -> int:
        """Hidden layers, L."""
        return len(self.weights)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of every layer, the visible one first."""
        return tuple(len(bias) for bias in self.biases)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Network":
        """Return the network elsewhere, or in another precision."""
        return replace(
            self,
            biases=tuple(each.to(device, dtype) for each in self.biases),
            weights=tuple(each.to(device, dtype) for each in self.weights),
        )

    def field(self, layer: int, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what a layer's units are driven by, shape (n, units), given its neighbours."""
        if layer == 0:
            return torch.addmm(self.biases[0], states[1], self.weights[0].T)
        total = torch.addmm(self.biases[layer], states[layer - 1], self.weights[layer - 1])
        if layer < self.n_layers:
            total.addmm_(states[layer + 1], self.weights[layer].T)
        return total


@dataclass(frozen=True)
class Means:
    """Means of hidden units given visible ones, L tensors of shape (n, units).

    ``n_sweeps`` they took; ``change``, shape (n,), the largest one in the last sweep.
    """

    hidden: States
    n_sweeps: int
    change: torch.Tensor


def energy(network: Network, states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the energy of states of all layers.

    Parameters
    ----------
    network
        Of L hidden layers.
    states
        L + 1 tensors of shape (n, units); means give the mean-field energy.

    Returns
    -------
    torch.Tensor
        Shape (n,), nats.
    """
    total = -(states[0] @ network.biases[0])
    for below, above, weight, bias in zip(
        states, states[1:], network.weights, network.biases[1:], strict=False
    ):
        total -= ((below @ weight + bias) * above).sum(dim=1)
    return total + 0.5 * (states[0][:, network.layout.numbers] ** 2).sum(dim=1)


@torch.no_grad()
def infer_means(
    network: Network,
    visible: torch.Tensor,
    *,
    tolerance: float = 1e-6,
    most_sweeps: int = 200,
    damping: float = 0.0,
) -> Means:
    """Return the mean-field means of hidden units given visible ones.

    The factorised distribution nearest to p(h | v): odd layers given even ones and back, begun by
    one pass upwards with doubled weights in place of what is above. Each half sweep lowers the free
    energy. Rows end when none of their means changes by more than the tolerance.

    Parameters
    ----------
    network
        Of L hidden layers; with one the means are exact at once.
    visible : shape (n, V)
        Data.
    tolerance
        Largest change of a mean in the last sweep.
    most_sweeps
        At most.
    damping
        Share of the old means that is kept, in [0, 1).

    Returns
    -------
    Means
        Of every row.
    """
    drive, means = _begin_means(network, visible)
    if network.n_layers == 1:
        return Means(tuple(means), 1, torch.zeros(len(visible), device=visible.device))
    n_sweeps, change = 0, torch.full((len(visible),), torch.inf, device=visible.device)
    while n_sweeps < most_sweeps and len(change) and float(change.max()) > tolerance:
        before = list(means)
        _sweep_means(network, drive, means, damping)
        n_sweeps += 1
        change = (means[0] - before[0]).abs_().amax(dim=1)
        for new, old in zip(means[1:], before[1:], strict=True):
            torch.maximum(change, (new - old).abs_().amax(dim=1), out=change)
    return Means(tuple(means), n_sweeps, change)


def settle_means(network: Network, visible: torch.Tensor, *, n_sweeps: int) -> States:
    """Return the mean-field means after so many sweeps, without a look at how they change.

    For a GPU, which would be waited for at every look.

    Parameters
    ----------
    network
        Of L hidden layers.
    visible : shape (n, V)
        Data.
    n_sweeps
        How many.

    Returns
    -------
    States
        L tensors of shape (n, units).
    """
    drive, means = _begin_means(network, visible)
    for _ in range(n_sweeps if network.n_layers > 1 else 0):
        _sweep_means(network, drive, means, 0.0)
    return tuple(means)


def _begin_means(
    network: Network, visible: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return what drives the first layer from below, and means to begin with."""
    drive = torch.addmm(network.biases[1], visible, network.weights[0])  # (n, H1)
    if network.n_layers == 1:
        return drive, [torch.sigmoid(drive)]
    means = [torch.sigmoid(drive * 2)]
    for layer in range(2, network.n_layers + 1):
        doubled = 1.0 if layer == network.n_layers else 2.0
        means.append(
            torch.sigmoid(
                torch.addmm(
                    network.biases[layer], means[-1], network.weights[layer - 1], alpha=doubled
                )
            )
        )
    return drive, means


def _sweep_means(
    network: Network, drive: torch.Tensor, means: list[torch.Tensor], damping: float
) -> None:
    """Replace every layer's means given its neighbours': odd layers, then even ones."""
    odd_first = (*range(1, network.n_layers + 1, 2), *range(2, network.n_layers + 1, 2))
    for layer in odd_first:
        means[layer - 1] = _infer_layer(network, layer, drive, means, damping)


def _infer_layer(
    network: Network, layer: int, drive: torch.Tensor, means: list[torch.Tensor], damping: float
) -> torch.Tensor:
    """Return a layer's means given its neighbours'; ``drive`` is what the first has from below."""
    if layer == 1:
        field = torch.addmm(drive, means[1], network.weights[1].T)
    else:
        field = torch.addmm(network.biases[layer], means[layer - 2], network.weights[layer - 1])
        if layer < network.n_layers:
            field.addmm_(means[layer], network.weights[layer].T)
    mean = field.sigmoid_()
    return mean.lerp_(means[layer - 1], damping) if damping else mean


def free_energy(
    network: Network, visible: torch.Tensor, hidden: Sequence[torch.Tensor] | None = None
) -> torch.Tensor:
    """Return the variational free energy F_q = E_q[E] - H(q) of visible states.

    An upper bound of F(v) = -log sum_h exp(-E), whatever the means; each coupling enters once.

    Parameters
    ----------
    network
        Of L hidden layers.
    visible : shape (n, V)
        Data.
    hidden
        L tensors of means, shape (n, units); None: the mean field's.

    Returns
    -------
    torch.Tensor
        Shape (n,), nats.
    """
    means = infer_means(network, visible).hidden if hidden is None else hidden
    entropy = torch.zeros(len(visible), dtype=visible.dtype, device=visible.device)
    for mean in means:
        entropy += (torch.special.entr(mean) + torch.special.entr(1 - mean)).sum(dim=1)
    return energy(network, (visible, *means)) - entropy


def empty_network(
    layout: Layout, hidden: Sequence[int], *, dtype: torch.dtype = torch.float32
) -> Network:
    """Return a network without couplings: every unit even.

    Parameters
    ----------
    layout
        Visible layer.
    hidden
        Units of each hidden layer, from below.
    dtype
        Of its numbers.

    Returns
    -------
    Network
        Zeros.

    Raises
    ------
    ModelError
        If it has no hidden layer.
    """
    sizes = (layout.n_units, *hidden)
    if len(sizes) < 2:
        raise ModelError("a world model needs a hidden layer")
    return Network(
        layout,
        tuple(torch.zeros(size, dtype=dtype) for size in sizes),
        tuple(torch.zeros(below, above, dtype=dtype) for below, above in itertools.pairwise(sizes)),
    )
