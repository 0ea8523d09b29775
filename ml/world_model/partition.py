"""The log partition function by annealed importance sampling, from above and from below.

Neal (2001); for Boltzmann machines Salakhutdinov and Murray (2008); annealing backwards from the
model bounds log Z from above (Burda, Grosse and Salakhutdinov 2015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ml.world_model.chance import Chance
from ml.world_model.network import Network, States
from ml.world_model.sampling import sweep
from ml.world_model.visible import draw_flags, draw_visible, fit_biases, sum_out_visible


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z, nats.

    ``standard_error`` of the estimate; ``effective_sample_size`` of the runs' weights, at most
    ``n_runs``.
    """

    value: float
    standard_error: float
    effective_sample_size: float
    n_runs: int


@torch.no_grad()
def estimate_log_partition(
    network: Network,
    data_mean: torch.Tensor,
    *,
    n_steps: int = 10_000,
    n_runs: int = 256,
    seed: int = 0,
) -> LogPartition:
    """Estimate log Z by annealing from independent units to the network.

    Unbiased for Z, so in expectation below log Z. Runs keep the odd layers; even ones, the visible
    among them, are summed out.

    Parameters
    ----------
    network
        Of L hidden layers.
    data_mean : shape (V,)
        Means of the data, which the independent units have.
    n_steps
        Temperatures.
    n_runs
        Annealed side by side.
    seed
        Of chance.

    Returns
    -------
    LogPartition
        Low where its effective sample size is small.
    """
    chance = Chance(torch.Generator(network.biases[0].device).manual_seed(seed))
    base = _independent(network, data_mean)
    states: States = tuple(
        torch.zeros(n_runs, size, dtype=bias.dtype, device=bias.device)
        for size, bias in zip(network.sizes, network.biases, strict=True)
    )
    states = sweep(base, states, n_sweeps=1, chance=chance)
    weights = _anneal(network, base, states, _temperatures(n_steps), chance)
    return _summarise(weights, _log_partition_of(base), sign=1.0)


@torch.no_grad()
def bound_log_partition(
    network: Network,
    data_mean: torch.Tensor,
    states: Sequence[torch.Tensor],
    *,
    n_steps: int = 10_000,
    seed: int = 0,
) -> LogPartition:
    """Estimate log Z by annealing states of the network back to independent units.

    In expectation above log Z where the states are draws from the network; chains that haven't
    mixed make it a guess.

    Parameters
    ----------
    network, data_mean, n_steps, seed
        As for ``estimate_log_partition``.
    states
        L + 1 tensors of draws from the network, shape (runs, units).

    Returns
    -------
    LogPartition
        High where its effective sample size is small.
    """
    chance = Chance(torch.Generator(network.biases[0].device).manual_seed(seed))
    base = _independent(network, data_mean)
    downward = _temperatures(n_steps).flip(0)
    weights = _anneal(network, base, tuple(states), downward, chance)
    return _summarise(weights, _log_partition_of(base), sign=-1.0)


def _independent(network: Network, data_mean: torch.Tensor) -> Network:
    """Return the network without couplings, its visible units as the data are alone."""
    visible = fit_biases(network.layout, data_mean.to(network.biases[0]))
    return Network(
        network.layout,
        (visible, *(torch.zeros_like(each) for each in network.biases[1:])),
        tuple(torch.zeros_like(each) for each in network.weights),
    )


def _log_partition_of(base: Network) -> float:
    """Return log Z of a network without couplings."""
    visible = float(sum_out_visible(base.layout, base.biases[0].unsqueeze(0).double()))
    return visible + sum(base.sizes[1:]) * math.log(2)


def _temperatures(n_steps: int) -> torch.Tensor:
    """Return rising shares of the network, 0 to 1, close together at both ends."""
    even = torch.linspace(-4, 4, n_steps + 1, dtype=torch.float64)
    curve = torch.sigmoid(even)
    return (curve - curve[0]) / (curve[-1] - curve[0])


def _anneal(
    network: Network,
    base: Network,
    states: States,
    shares: torch.Tensor,
    chance: Chance,
) -> torch.Tensor:
    """Return the log importance weights of runs through the temperatures, shape (runs,)."""
    weights = torch.zeros(len(states[0]), dtype=torch.float64, device=states[0].device)
    here = _mix(base, network, float(shares[0]))
    for share in shares[1:].tolist():
        following = _mix(base, network, share)
        weights += _log_weight(following, states) - _log_weight(here, states)
        states = _turn(following, states, chance)
        here = following
    return weights


def _mix(base: Network, network: Network, share: float) -> Network:
    """Return the network on the way from independent units to all of it."""
    return Network(
        network.layout,
        tuple(torch.lerp(a, b, share) for a, b in zip(base.biases, network.biases, strict=True)),
        tuple(share * each for each in network.weights),
    )


def _log_weight(network: Network, states: States) -> torch.Tensor:
    """Return the log of the unnormalised probability of odd layers, even ones summed out."""
    total = sum_out_visible(network.layout, network.field(0, states)).double()
    for layer in range(1, network.n_layers + 1):
        if layer % 2:
            total += (states[layer] @ network.biases[layer]).double()
        else:
            field = network.field(layer, states)
            total += torch.nn.functional.softplus(field).sum(dim=1).double()
    return total


def _turn(network: Network, states: States, chance: Chance) -> States:
    """Draw even layers given odd ones, then odd ones: a step that keeps the odd layers' law."""
    current = list(states)
    current[0] = draw_visible(network.layout, network.field(0, current), chance)
    for layer in (*range(2, network.n_layers + 1, 2), *range(1, network.n_layers + 1, 2)):
        current[layer] = draw_flags(network.field(layer, current), chance)
    return tuple(current)


def _summarise(weights: torch.Tensor, log_base: float, *, sign: float) -> LogPartition:
    """Return the estimate from log weights; backwards they estimate the inverse ratio."""
    n_runs = len(weights)
    scaled = torch.exp(weights - weights.max())
    log_mean = float(weights.max()) + math.log(float(scaled.mean()))
    relative = float(scaled.std() / scaled.mean()) if n_runs > 1 else math.inf
    return LogPartition(
        log_base + sign * log_mean,
        relative / math.sqrt(n_runs),
        float(scaled.sum() ** 2 / (scaled**2).sum()),
        n_runs,
    )
