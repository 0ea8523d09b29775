"""The published training, as it was described, beside ours at equal CPU time.

Its settings and its departures from a Boltzmann machine's learning rule are kept: layers trained
one by one without doubling, on sampled states below; the middle couplings halved by hand and biases
corrected for it; chains whose visible units alone persist, and are driven by the mean field; every
unit a flag. What is shortened is the number of epochs, in proportion, to what the time allows.
"""

import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from benchmarks.studies.three_in_one.baselines import score_independent
from benchmarks.studies.three_in_one.features import list_visible, make_layout
from benchmarks.studies.three_in_one.seeds import PUBLISHED, Row, tabulate
from ml.simulate.purchase_world import PURCHASE_WORLDS, simulate_purchases
from ml.world_model.health import measure_spreads
from ml.world_model.learning import TrainingConfig
from ml.world_model.network import Network, empty_network, free_energy
from ml.world_model.partition import estimate_log_partition
from ml.world_model.training import train_network
from ml.world_model.visible import Layout

AS_PUBLISHED = (64, 32, 16)
_BATCH, _CHAINS, _SWEEPS, _MEAN_FIELD = 128, 128, 5, 10
# Rates of learning and decays.
_PRETRAINING, _JOINT = (1e-4, 1e-3), (1e-5, 1e-4)
_MIDDLE = 0.5
_RUNS, _STEPS, _SCORED = 100, 2_000, 20_000
# Of the published epochs 100 for each of three layers and 300 together.
_PRETRAINING_SHARE = 0.5


def compare_training(seed: int, minutes: float) -> pl.DataFrame:
    """Return both bounds on held-out consumers after so many minutes of CPU each.

    Parameters
    ----------
    seed
        Of the world as published, 1,024 consumers, a fifth of whom are held out.
    minutes
        Of CPU time; ours is also shown at its default number of epochs.

    Returns
    -------
    pl.DataFrame
        Part 'bound': subject, contender and nats a row or seconds; 'spread' per layer.
    """
    torch.set_num_threads(1)
    config = PURCHASE_WORLDS[PUBLISHED]
    visible = list_visible(config, simulate_purchases(config))
    order = np.random.default_rng(seed).permutation(visible.shape[1])
    cut = len(order) * 4 // 5
    training, held_out = (
        torch.from_numpy(visible[:, chosen].reshape(-1, visible.shape[2])).float()
        for chosen in (order[:cut], order[cut:])
    )
    held_out = held_out[torch.randperm(len(held_out), generator=_seed(seed))[:_SCORED]]
    layout = make_layout(len(config.store_shares))
    rows: list[Row] = []

    def report(contender: str, network: Network, seconds: float) -> None:
        bound = measure_bound(network, training.mean(dim=0), held_out)
        rows.append(("bound", "held_out", contender, bound))
        rows.append(("seconds", "training", contender, seconds))
        for layer, spread in enumerate(measure_spreads(network, held_out), start=1):
            rows.append(("spread", f"layer_{layer}", contender, spread))

    rows.append(("bound", "held_out", "independent", score_independent(layout, training, held_out)))
    started = time.process_time()
    ours = train_network(training, layout, TrainingConfig(hidden=(64,), seed=seed))
    seconds = time.process_time() - started
    report("ours", ours.network, seconds)
    longer = TrainingConfig(
        hidden=(64,), n_epochs=max(20, int(20 * 60 * minutes / seconds)), seed=seed
    )
    started = time.process_time()
    network = train_network(training, layout, longer).network
    report("ours_longer", network, time.process_time() - started)
    started = time.process_time()
    network = train_as_published(training, layout, seconds=60 * minutes, seed=seed)
    report("as_published", network, time.process_time() - started)
    return tabulate(rows, seed)


def measure_bound(network: Network, mean: torch.Tensor, rows: torch.Tensor) -> float:
    """Return the mean lower bound of log p(row), nats, log Z annealed from below."""
    log_partition = estimate_log_partition(
        network.to("cpu", torch.float64), mean.double(), n_steps=_STEPS, n_runs=_RUNS
    )
    return -float(free_energy(network, rows).mean()) - log_partition.value


def train_as_published(rows: torch.Tensor, layout: Layout, *, seconds: float, seed: int) -> Network:
    """Return the published network, trained its way for so long.

    Parameters
    ----------
    rows : shape (n, V)
        To train on.
    layout
        Of the V units; each becomes a flag.
    seconds
        Of CPU time, half of it for the layers one by one.
    seed
        Of chance.

    Returns
    -------
    Network
        72-64-32-16 for 72 units.
    """
    generator = _seed(seed)
    network = empty_network(layout.as_flags(), AS_PUBLISHED)
    below, mean = rows, rows.mean(dim=0).clamp(1e-4, 1 - 1e-4)
    network.biases[0].copy_(torch.logit(mean))
    each = seconds * _PRETRAINING_SHARE / len(AS_PUBLISHED)
    means = []
    for layer, weight in enumerate(network.weights):
        visible_bias = network.biases[0] if layer == 0 else torch.zeros(below.shape[1])
        _train_pair(below, weight, visible_bias, network.biases[layer + 1], each, generator)
        above = torch.sigmoid(below @ weight + network.biases[layer + 1])
        means.append(above.mean(dim=0))
        below = torch.bernoulli(above, generator=generator)
    for weight in network.weights[1:-1]:
        weight.mul_(_MIDDLE)
    for layer in range(1, len(AS_PUBLISHED)):
        network.biases[layer].sub_(network.weights[layer] @ means[layer])
    _train_together(rows, network, seconds * (1 - _PRETRAINING_SHARE), generator)
    return network


def _train_pair(
    below: torch.Tensor,
    weight: torch.Tensor,
    below_bias: torch.Tensor,
    above_bias: torch.Tensor,
    seconds: float,
    generator: torch.Generator,
) -> None:
    """Train a plain restricted machine in place: persistent chains, one sweep a step."""
    weight.normal_(0, 0.01, generator=generator)
    parameters = [weight, below_bias, above_bias]
    optimiser = torch.optim.Adam(parameters, lr=_PRETRAINING[0], weight_decay=_PRETRAINING[1])
    chain = below[torch.randint(len(below), (_CHAINS,), generator=generator)].clone()
    for batch in _draw_batches(below, seconds, generator):
        up = torch.sigmoid(batch @ weight + above_bias)
        drawn = torch.bernoulli(torch.sigmoid(chain @ weight + above_bias), generator=generator)
        chain = torch.bernoulli(torch.sigmoid(drawn @ weight.T + below_bias), generator=generator)
        dreamt = torch.sigmoid(chain @ weight + above_bias)
        weight.grad = chain.T @ dreamt / len(chain) - batch.T @ up / len(batch)
        below_bias.grad = chain.mean(dim=0) - batch.mean(dim=0)
        above_bias.grad = dreamt.mean(dim=0) - up.mean(dim=0)
        optimiser.step()


def _train_together(
    rows: torch.Tensor, network: Network, seconds: float, generator: torch.Generator
) -> None:
    """Fine-tune all layers in place; of the chains the visible units alone persist."""
    parameters = [*network.weights, *network.biases]
    optimiser = torch.optim.Adam(parameters, lr=_JOINT[0], weight_decay=_JOINT[1])
    chain = rows[torch.randint(len(rows), (_CHAINS,), generator=generator)].clone()
    for batch in _draw_batches(rows, seconds, generator):
        data = (batch, *_relax(network, batch))
        for _ in range(_SWEEPS):
            drawn = torch.bernoulli(_relax(network, chain)[0], generator=generator)
            field = drawn @ network.weights[0].T + network.biases[0]
            chain = torch.bernoulli(torch.sigmoid(field), generator=generator)
        model = (chain, *_relax(network, chain))
        for layer, weight in enumerate(network.weights):
            weight.grad = model[layer].T @ model[layer + 1] / len(chain) - data[layer].T @ data[
                layer + 1
            ] / len(batch)
        for layer, bias in enumerate(network.biases):
            bias.grad = model[layer].mean(dim=0) - data[layer].mean(dim=0)
        optimiser.step()


def _relax(network: Network, visible: torch.Tensor) -> list[torch.Tensor]:
    """Return the hidden means after ten sweeps from one half."""
    hidden = [torch.full((len(visible), size), 0.5) for size in network.sizes[1:]]
    for _ in range(_MEAN_FIELD):
        for layer in range(1, network.n_layers + 1):
            hidden[layer - 1] = torch.sigmoid(network.field(layer, (visible, *hidden)))
    return hidden


def _draw_batches(
    rows: torch.Tensor, seconds: float, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield batches, epoch after epoch, until the CPU time is spent."""
    ends = time.process_time() + seconds
    while True:
        order = torch.randperm(len(rows), generator=generator)
        for chosen in torch.split(order, _BATCH):
            if time.process_time() > ends:
                return
            yield rows[chosen]


def _seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
