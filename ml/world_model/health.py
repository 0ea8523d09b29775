"""Whether a trained network is fit for use: units, layers, chains, mean field, overfitting."""

from dataclasses import dataclass, replace

import torch

from ml.world_model.chance import Chance
from ml.world_model.network import Network, free_energy, infer_means
from ml.world_model.sampling import sweep
from ml.world_model.training import Trained

LEAST_SPREAD = 0.1
_DEAD, _MOST_DEAD = 0.01, 0.10
_MOST_RMS, _LEAST_WITHIN = 1.5, 0.90
_LEAST_CONVERGED, _TOLERANCE = 0.99, 1e-4
_MOST_GAP = 0.5
_SWEEPS, _ROWS = 50, 20_000


@dataclass(frozen=True)
class Gate:
    """One measure against its limit; ``is_least`` where the limit is the least allowed."""

    name: str
    value: float
    limit: float
    is_least: bool = False

    @property
    def is_passed(self) -> bool:
        """Whether the measure keeps the limit."""
        return self.value >= self.limit if self.is_least else self.value <= self.limit


def measure_spreads(network: Network, rows: torch.Tensor) -> tuple[float, ...]:
    """Return each hidden layer's median, over units, standard deviation of the means over rows.

    A layer whose units hardly move says nothing about a row, though none of them be dead.
    """
    return tuple(_spread(mean) for mean in infer_means(network, rows).hidden)


def drop_unused_layers(network: Network, rows: torch.Tensor) -> tuple[Network, int]:
    """Return the network without the layers from the first unused one up, and how many went.

    What a dropped layer's constant means add to the layer below goes into that layer's biases, so
    beliefs stay as they were.

    Parameters
    ----------
    network
        Of L hidden layers; the first is kept always.
    rows : shape (n, V)
        Data.

    Returns
    -------
    tuple
        Network of at least one hidden layer; layers dropped.
    """
    means = infer_means(network, rows).hidden
    unused = [layer for layer in range(1, network.n_layers) if _spread(means[layer]) < LEAST_SPREAD]
    if not unused:
        return network, 0
    kept = unused[0]
    above = means[kept].mean(dim=0)
    biases = list(network.biases[: kept + 1])
    biases[kept] = biases[kept] + network.weights[kept] @ above
    shorter = replace(network, biases=tuple(biases), weights=network.weights[:kept])
    return shorter, network.n_layers - kept


@torch.no_grad()
def check_health(
    trained: Trained,
    training: torch.Tensor,
    validation: torch.Tensor,
    *,
    customer: torch.Tensor | None = None,
    seed: int = 0,
) -> tuple[Gate, ...]:
    """Check a trained network.

    Parameters
    ----------
    trained
        Network and chains.
    training, validation : shape (n, V), (m, V)
        Rows, in chance order: the first 20,000 are used.
    customer : shape (m,), int, optional
        Whose row each validation row is; None: each of another.
    seed
        Of the chains' further sweeps.

    Returns
    -------
    tuple of Gate
        dead and saturated shares of units; spread per layer; chains' moments against the data's, in
        standard errors; share of rows whose mean field converged; free energy of validation rows
        less training rows, nats, within half a nat and two standard errors by customer.
    """
    network = trained.network
    rows, others = training[:_ROWS], validation[:_ROWS]
    means = infer_means(network, rows, tolerance=_TOLERANCE)
    every = torch.cat([mean.mean(dim=0) for mean in means.hidden])
    scores = score_chains(trained, rows, seed=seed)
    theirs = free_energy(network, others)
    return (
        Gate("dead_share", float((every < _DEAD).float().mean()), _MOST_DEAD),
        Gate("saturated_share", float((every > 1 - _DEAD).float().mean()), _MOST_DEAD),
        *(
            Gate(f"spread_hidden_{layer}", _spread(mean), LEAST_SPREAD, True)
            for layer, mean in enumerate(means.hidden, start=1)
        ),
        Gate("chain_rms", float(scores.pow(2).mean().sqrt()), _MOST_RMS),
        Gate("chain_within_2", float((scores.abs() <= 2).float().mean()), _LEAST_WITHIN, True),
        Gate(
            "converged_share",
            float((means.change <= _TOLERANCE).float().mean()),
            _LEAST_CONVERGED,
            True,
        ),
        Gate(
            "free_energy_gap",
            float(theirs.mean() - free_energy(network, rows).mean()),
            _MOST_GAP + 2 * _measure_error(theirs, customer),
        ),
    )


@torch.no_grad()
def score_chains(trained: Trained, rows: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """Return how far chains' means and pairs of visible units are from the data's.

    Parameters
    ----------
    trained
        Its chains are swept 50 times more.
    rows : shape (n, V)
        Data.
    seed
        Of chance.

    Returns
    -------
    torch.Tensor
        Differences in standard errors of both, of every moment that varies in either.
    """
    chance = Chance(torch.Generator(rows.device).manual_seed(seed))
    chains = sweep(trained.network, trained.particles, n_sweeps=_SWEEPS, chance=chance)[0]
    upper = torch.triu_indices(rows.shape[1], rows.shape[1], device=rows.device)
    differences, variances = [], []
    for sample, sign in ((chains, 1.0), (rows, -1.0)):
        first = sample.T @ sample / len(sample)
        second = (sample**2).T @ (sample**2) / len(sample)
        moments = torch.cat([sample.mean(dim=0), first[upper[0], upper[1]]])
        squares = torch.cat([(sample**2).mean(dim=0), second[upper[0], upper[1]]])
        differences.append(sign * moments)
        variances.append((squares - moments**2).clamp_min(0) / len(sample))
    variance = variances[0] + variances[1]
    varies = variance > 0
    return (differences[0] + differences[1])[varies] / variance[varies].sqrt()


def _measure_error(values: torch.Tensor, customer: torch.Tensor | None) -> float:
    """Return the standard error of the mean of values, customers drawn whole."""
    residuals = values - values.mean()
    if customer is not None:
        _, dense = torch.unique(customer[: len(values)], return_inverse=True)
        residuals = torch.zeros(int(dense.max()) + 1).to(values).index_add_(0, dense, residuals)
    return float(residuals.pow(2).sum().sqrt() / len(values))


def _spread(mean: torch.Tensor) -> float:
    """Return the median, over units, of their means' standard deviation over rows."""
    return float(mean.std(dim=0).median())
