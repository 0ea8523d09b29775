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
from typing import Literal

import torch

from ml.core.errors import ModelError
from ml.world_model.chance import Chance, seed_generator
from ml.world_model.checkpoints import Progress, read_progress, write_progress
from ml.world_model.files import name_tensors, pick_network
from ml.world_model.network import Network, States, empty_network, free_energy, infer_means
from ml.world_model.parallel import ALONE, Workers
from ml.world_model.sampling import draw_hidden, sweep
from ml.world_model.steps import Adam, begin_adam, measure_moments, move
from ml.world_model.visible import Layout, fit_biases

_MEASURED = 4_096


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Attributes
    ----------
    hidden
        Units of each hidden layer, from below.
    n_epochs
        Passes over the data.
    batch_size
        Rows a step, over all workers.
    n_particles
        Persistent chains, per worker.
    n_sweeps
        Of Gibbs sampling between steps.
    learning_rate, last_learning_rate
        Adam's, falling geometrically.
    momentum
        Adam's first decay.
    decay
        Of the weights, per step and learning rate.
    weight_scale
        Standard deviation of the weights at the beginning.
    copies
        Chains that share their uniform numbers, turned.
    centring
        How fast the offsets follow the data's means.
    refreshed_share
        Of the chains, begun anew from data every epoch.
    tolerance, most_sweeps
        Of the mean field in training.
    posterior
        What stands for p(h | v) of the data: the mean field, whose bound is raised; or draws by
        Gibbs sampling with the data clamped, whose likelihood is.
    seed
        Of all chance.
    """

    hidden: tuple[int, ...] = (64, 16)
    n_epochs: int = 20
    batch_size: int = 1024
    n_particles: int = 512
    n_sweeps: int = 5
    copies: int = 8
    learning_rate: float = 1e-2
    last_learning_rate: float = 1e-4
    momentum: float = 0.5
    decay: float = 1e-5
    weight_scale: float = 0.05
    centring: float = 0.01
    refreshed_share: float = 0.02
    tolerance: float = 1e-3
    most_sweeps: int = 10
    posterior: Literal["mean_field", "sampled"] = "mean_field"
    seed: int = 0

    @property
    def fall(self) -> float:
        """The last rate of learning over the first."""
        return self.last_learning_rate / self.learning_rate


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


@dataclass
class Learner:
    """What changes from step to step; ``offsets`` are the centres of all layers.

    The network's own biases are those of the uncentred energy, so that whatever reads it needs no
    offsets.
    """

    network: Network
    particles: States
    offsets: States
    adam: Adam
    epoch: int = 0


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
    while learner.epoch < config.n_epochs:
        done = _run_epoch(learner, own, config, workers, validation)
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
    return f"{config} {n_rows} {digest.hexdigest()[:16]} {workers.count}"


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


def _run_epoch(
    learner: Learner,
    own: torch.Tensor,
    config: TrainingConfig,
    workers: Workers,
    validation: torch.Tensor | None,
) -> Epoch:
    """Take the steps of one epoch; chance depends on seed, epoch and worker alone."""
    started = time.monotonic()
    generator = seed_generator(config.seed, learner.epoch, workers.rank, own.device)
    order = torch.randperm(len(own), generator=generator, device=own.device)
    chance = Chance(generator, config.copies)
    n_refreshed = int(config.refreshed_share * config.n_particles)
    if n_refreshed:
        begun = draw_hidden(learner.network, own[order[:n_refreshed]], Chance(generator))
        place = torch.randperm(config.n_particles, generator=generator, device=own.device)
        for state, new in zip(learner.particles, begun, strict=True):
            state[place[: len(new)]] = new
    n_batch = max(1, config.batch_size // workers.count)
    n_steps = max(1, len(own) // n_batch)
    n_sweeps = 0
    for step in range(n_steps):
        batch = own[order[step * n_batch : (step + 1) * n_batch]]
        done = learner.adam.n_steps / max(1, config.n_epochs * n_steps - 1)
        rate = config.learning_rate * config.fall**done
        n_sweeps += _take_step(learner, batch, config, rate, chance, workers)
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


def _take_step(
    learner: Learner,
    batch: torch.Tensor,
    config: TrainingConfig,
    rate: float,
    chance: Chance,
    workers: Workers,
) -> int:
    """Move the network once; return the sweeps that the mean field took."""
    network, offsets = learner.network, learner.offsets
    means = infer_means(network, batch, tolerance=config.tolerance, most_sweeps=config.most_sweeps)
    states: States = (batch, *means.hidden)
    if config.posterior == "sampled" and network.n_layers > 1:
        states = sweep(
            network,
            draw_hidden(network, batch, chance),
            n_sweeps=config.n_sweeps,
            chance=chance,
            is_free=False,
        )
    learner.particles = sweep(network, learner.particles, n_sweeps=config.n_sweeps, chance=chance)
    data = measure_moments(states, offsets)
    model = measure_moments(learner.particles, offsets)
    n_biases = len(network.biases)
    averaged = workers.average(
        [*(a - b for a, b in zip(data, model, strict=True)), *data[1:n_biases]]
    )
    gradient, shifts = averaged[: len(data)], averaged[len(data) :]
    steps = learner.adam.scale(gradient, rate)
    for weight, step in zip(network.weights, steps[n_biases:], strict=True):
        step.sub_(weight, alpha=rate * config.decay)
    move(network.biases, network.weights, steps, offsets)
    for offset, shift in zip(offsets[1:], shifts, strict=True):
        offset.add_(shift, alpha=config.centring)
    return means.n_sweeps


def _keep(learner: Learner, curve: Sequence[Epoch]) -> Progress:
    """Return everything that the next epoch depends on."""
    tensors = {
        **name_tensors(learner.network),
        **{f"particles.{i}": each for i, each in enumerate(learner.particles)},
        **{f"offsets.{i}": each for i, each in enumerate(learner.offsets)},
        **{f"means.{i}": each for i, each in enumerate(learner.adam.means)},
        **{f"squares.{i}": each for i, each in enumerate(learner.adam.squares)},
    }
    return Progress(tensors, learner.adam.n_steps, learner.epoch, [asdict(each) for each in curve])


def _restore(
    kept: Progress, layout: Layout, config: TrainingConfig, device: torch.device
) -> Learner:
    """Return the learner that ``_keep`` kept."""
    tensors = {name: each.to(device) for name, each in kept.tensors.items()}
    n_layers = len(config.hidden)
    n_parameters = 2 * n_layers + 1
    return Learner(
        pick_network(tensors, layout, n_layers),
        tuple(tensors[f"particles.{i}"] for i in range(n_layers + 1)),
        tuple(tensors[f"offsets.{i}"] for i in range(n_layers + 1)),
        Adam(
            config.momentum,
            [tensors[f"means.{i}"] for i in range(n_parameters)],
            [tensors[f"squares.{i}"] for i in range(n_parameters)],
            kept.n_steps,
        ),
        kept.epoch,
    )
