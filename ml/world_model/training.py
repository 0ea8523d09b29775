"""Training: persistent chains against the data's mean field, centred, by Adam.

Salakhutdinov and Hinton (2009) with the centring of Montavon and Mueller (2012): the gradient of
the variational bound is the difference of <(x - m)(y - m)'> between data and chains.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ml.core.errors import ModelError
from ml.world_model.chance import Chance, seed_generator
from ml.world_model.checkpoints import Progress, read_progress, write_progress
from ml.world_model.files import name_tensors, pick_network
from ml.world_model.learning import Learner, TrainingConfig, take_step
from ml.world_model.network import Network, States, empty_network, free_energy
from ml.world_model.parallel import ALONE, Workers
from ml.world_model.recorded import RecordedStep, can_record
from ml.world_model.sampling import draw_hidden
from ml.world_model.steps import Adam, begin_adam
from ml.world_model.visible import Layout, fit_biases

_MEASURED = 4_096


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to; free energies in nats per row, of samples of the rows.

    ``moment_error`` is the root mean square difference of the visible means of data and chains.
    """

    epoch: int
    training_free_energy: float
    validation_free_energy: float
    moment_error: float
    mean_sweeps: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained network, its chains as they ended, and its learning curve."""

    network: Network
    particles: States
    data_mean: torch.Tensor
    curve: tuple[Epoch, ...]


@torch.no_grad()
def train_network(
    visible: torch.Tensor,
    layout: Layout,
    config: TrainingConfig,
    *,
    validation: torch.Tensor | None = None,
    begin: Network | None = None,
    checkpoints: Path | None = None,
    workers: Workers = ALONE,
    progress: Callable[[Epoch], None] = lambda _: None,
) -> Trained:
    """Train a network on rows.

    Parameters
    ----------
    visible : shape (n, V)
        Rows of all workers; of any floating type, on the device to train on.
    layout
        Of the V units.
    config
        How.
    validation : shape (m, V), optional
        Rows of other customers, for the free energy's gap.
    begin
        A network to go on from, such as a pre-trained one; None: small random weights.
    checkpoints
        A folder: every epoch is kept there, and a run that was killed goes on from the last to the
        same end.
    workers
        Who shares the gradient.
    progress
        Called after each epoch.

    Returns
    -------
    Trained
        The same for the same rows, config and number of workers.

    Raises
    ------
    ModelError
        If rows are missing, don't fit the layout or are not numbers; or checkpoints are of another
        training, or of different epochs for different workers.
    """
    _check(visible, layout)
    data_mean = visible.mean(dim=0)
    own = workers.share(visible)
    folder = None if checkpoints is None else checkpoints / f"worker-{workers.rank}"
    identity = _identify(config, data_mean, len(visible), begin, workers)
    kept = read_progress(folder, identity) if folder else None
    if not workers.agree(0 if kept is None else kept.epoch):
        raise ModelError(
            f"{checkpoints}: the workers' checkpoints are of different epochs, as after a kill "
            "while they were written; remove the folder to begin anew"
        )
    if kept is None:
        learner, curve = _begin(own, layout, config, data_mean, begin, workers), []
    else:
        learner, curve = (
            _restore(kept, layout, config, own.device),
            [Epoch(**each) for each in kept.curve],
        )
    recorded = None
    if can_record(own, config, workers) and learner.epoch < config.n_epochs:
        recorded = RecordedStep(learner, config, _size_batch(own, config, workers))
    while learner.epoch < config.n_epochs:
        done = _run_epoch(learner, own, config, workers, validation, recorded)
        curve.append(done)
        if folder:
            write_progress(folder, identity, _keep(learner, curve))
        progress(done)
    return Trained(learner.network, learner.particles, data_mean, tuple(curve))


def _check(visible: torch.Tensor, layout: Layout) -> None:
    if visible.dim() != 2 or visible.shape[1] != layout.n_units:
        raise ModelError(f"rows have shape {tuple(visible.shape)}, not (n, {layout.n_units})")
    if not len(visible):
        raise ModelError("there are no rows to train on")
    if not bool(torch.isfinite(visible).all()):
        column = int((~torch.isfinite(visible)).any(dim=0).nonzero()[0])
        raise ModelError(f"column {layout.names[column]!r} has values that are not numbers")


def _identify(
    config: TrainingConfig,
    data_mean: torch.Tensor,
    n_rows: int,
    begin: Network | None,
    workers: Workers,
) -> str:
    """Return what a checkpoint must be of: settings, rows, beginning and number of workers."""
    digest = hashlib.sha256()
    for tensor in (data_mean, *(() if begin is None else (*begin.biases, *begin.weights))):
        digest.update(tensor.double().cpu().numpy().tobytes())
    return f"layout 2 {config} {n_rows} {digest.hexdigest()[:16]} {workers.count}"


def _begin(
    own: torch.Tensor,
    layout: Layout,
    config: TrainingConfig,
    data_mean: torch.Tensor,
    begin: Network | None,
    workers: Workers,
) -> Learner:
    """Return a learner at the beginning: the same network for all workers, chains of their own."""
    generator = seed_generator(config.seed, -1, 0, own.device)
    if begin is not None:
        network = replace(
            begin,
            biases=tuple(each.clone() for each in begin.biases),
            weights=tuple(each.clone() for each in begin.weights),
        )
    else:
        network = empty_network(layout, config.hidden, dtype=own.dtype).to(own.device)
        network.biases[0].copy_(fit_biases(layout, data_mean))
        for weight in network.weights:
            weight.normal_(0, config.weight_scale, generator=generator)
    offsets = [data_mean, *(torch.sigmoid(bias) for bias in network.biases[1:])]
    if begin is None:
        # Offsets of weights that begin at random: units begin even, whatever the data's means.
        for layer in range(1, network.n_layers + 1):
            network.biases[layer].sub_(offsets[layer - 1] @ network.weights[layer - 1])
        for layer in range(network.n_layers):
            network.biases[layer].sub_(network.weights[layer] @ offsets[layer + 1])
    chance = seed_generator(config.seed, -1, workers.rank + 1, own.device)
    rows = torch.randint(len(own), (config.n_particles,), generator=chance, device=own.device)
    return Learner(
        network,
        draw_hidden(network, own[rows], Chance(chance)),
        tuple(offsets),
        begin_adam((*network.biases, *network.weights), momentum=config.momentum),
    )


def _size_batch(own: torch.Tensor, config: TrainingConfig, workers: Workers) -> int:
    """Return the rows that a worker has in a step."""
    return min(len(own), max(1, config.batch_size // workers.count))


def _run_epoch(
    learner: Learner,
    own: torch.Tensor,
    config: TrainingConfig,
    workers: Workers,
    validation: torch.Tensor | None,
    recorded: RecordedStep | None,
) -> Epoch:
    """Take the steps of one epoch; chance depends on seed, epoch and worker alone."""
    started = time.monotonic()
    generator = seed_generator(config.seed, learner.epoch, workers.rank, own.device)
    order = torch.randperm(len(own), generator=generator, device=own.device)
    n_refreshed = int(config.refreshed_share * config.n_particles)
    if n_refreshed:
        begun = draw_hidden(learner.network, own[order[:n_refreshed]], Chance(generator))
        place = torch.randperm(config.n_particles, generator=generator, device=own.device)
        for state, new in zip(learner.particles, begun, strict=True):
            state[place[: len(new)]] = new
    n_batch = _size_batch(own, config, workers)
    n_steps = len(own) // n_batch
    batches = order[: n_steps * n_batch].view(n_steps, n_batch)
    taken, n_all = learner.adam.n_steps, max(1, config.n_epochs * n_steps - 1)
    rates = [
        config.learning_rate * config.fall ** ((taken + step) / n_all) for step in range(n_steps)
    ]
    if recorded is not None:
        n_sweeps = n_steps * recorded.run(own, batches, rates, generator)
    else:
        chance = Chance(generator, config.copies)
        n_sweeps = sum(
            take_step(learner, own[batch], config, rate, chance, workers)
            for batch, rate in zip(batches, rates, strict=True)
        )
    learner.epoch += 1
    sample = own[order[-_MEASURED:]]
    chain_mean = learner.particles[0].mean(dim=0)
    return Epoch(
        learner.epoch,
        float(free_energy(learner.network, sample).mean()),
        math.nan
        if validation is None
        else float(free_energy(learner.network, validation[:_MEASURED]).mean()),
        float((chain_mean - learner.offsets[0]).pow(2).mean().sqrt()),
        n_sweeps / n_steps,
        time.monotonic() - started,
    )


def _keep(learner: Learner, curve: Sequence[Epoch]) -> Progress:
    """Return everything that the next epoch depends on."""
    tensors = {
        **name_tensors(learner.network),
        **{f"particles.{i}": each for i, each in enumerate(learner.particles)},
        **{f"offsets.{i}": each for i, each in enumerate(learner.offsets)},
        "mean": learner.adam.mean.clone(),
        "square": learner.adam.square.clone(),
    }
    return Progress(tensors, learner.adam.n_steps, learner.epoch, [asdict(each) for each in curve])


def _restore(
    kept: Progress, layout: Layout, config: TrainingConfig, device: torch.device
) -> Learner:
    """Return the learner that ``_keep`` kept."""
    tensors = {name: each.to(device) for name, each in kept.tensors.items()}
    n_layers = len(config.hidden)
    return Learner(
        pick_network(tensors, layout, n_layers),
        tuple(tensors[f"particles.{i}"] for i in range(n_layers + 1)),
        tuple(tensors[f"offsets.{i}"] for i in range(n_layers + 1)),
        Adam(
            config.momentum,
            tensors["mean"],
            tensors["square"],
            kept.n_steps,
        ),
        kept.epoch,
    )
