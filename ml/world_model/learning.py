"""One step of learning: data's mean field against chains, centred, by Adam."""

from dataclasses import dataclass
from typing import Literal

import torch

from ml.world_model.chance import Chance
from ml.world_model.network import Network, States, infer_means
from ml.world_model.parallel import ALONE, Workers
from ml.world_model.sampling import draw_hidden, sweep
from ml.world_model.steps import Adam, Pace, measure_moments, move


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
        Chains that share their uniform numbers, turned; not on a GPU, where numbers are cheap.
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


def take_step(
    learner: Learner,
    batch: torch.Tensor,
    config: TrainingConfig,
    rate: float,
    chance: Chance,
    workers: Workers,
) -> int:
    """Move the network once, in place.

    Parameters
    ----------
    learner
        Of what changes.
    batch : shape (n, V)
        Rows of this worker.
    config
        Of the training.
    rate
        Of learning.
    chance
        Of the draws.
    workers
        Who shares the gradient.

    Returns
    -------
    int
        Sweeps that the mean field took.
    """
    network = learner.network
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
    data = measure_moments(states, learner.offsets)
    model = measure_moments(learner.particles, learner.offsets)
    climb(learner, data, model, config, learner.adam.pace(rate), workers)
    return means.n_sweeps


def climb(
    learner: Learner,
    data: States,
    model: States,
    config: TrainingConfig,
    pace: Pace,
    workers: Workers = ALONE,
) -> None:
    """Move network, offsets and Adam by the difference of moments, in place.

    Parameters
    ----------
    learner
        Of what moves.
    data, model
        Moments of the batch and of the chains, as ``measure_moments`` returns them.
    config
        Of the training.
    pace
        How far.
    workers
        Who shares the gradient.
    """
    network, offsets = learner.network, learner.offsets
    n_biases = len(network.biases)
    averaged = workers.average(
        [*(a - b for a, b in zip(data, model, strict=True)), *data[1:n_biases]]
    )
    gradient, shifts = averaged[: len(data)], averaged[len(data) :]
    steps = learner.adam.scale(gradient, pace)
    for weight, step in zip(network.weights, steps[n_biases:], strict=True):
        step.sub_(weight * (pace.rate * config.decay))
    move(network.biases, network.weights, steps, offsets)
    for offset, shift in zip(offsets[1:], shifts, strict=True):
        offset.add_(shift, alpha=config.centring)
