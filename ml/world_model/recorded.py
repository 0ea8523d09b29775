"""The step of learning as one recorded CUDA graph.

A step of a small network is some hundred small kernels, and launching them one by one is what takes
the time on a GPU. So the recorded step waits for no number: its mean field takes as many sweeps as
the epoch's first batch needs, its chance is drawn beforehand, and its pace lies in tensors. Chains
are drawn by noise on the fields: a flag is on where its field and a logistic number are above 0, a
one-hot is the category whose field and a Gumbel number are highest (Yellott 1977).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ml.world_model.learning import Learner, TrainingConfig, climb
from ml.world_model.network import Network, States, infer_means, settle_means
from ml.world_model.parallel import Workers
from ml.world_model.steps import Pace, measure_moments
from ml.world_model.visible import Layout

_WARM_UPS = 3
_LEAST = 1e-7


def can_record(rows: torch.Tensor, config: TrainingConfig, workers: Workers) -> bool:
    """Return whether a training's step can be recorded: on a GPU, alone, with the mean field."""
    return rows.is_cuda and workers.count == 1 and config.posterior == "mean_field"


class RecordedStep:
    """``take_step``, with all of its tensors in their places and nothing decided in between.

    Off the GPU it isn't recorded, but does the same.

    Parameters
    ----------
    learner
        Whose tensors are moved, in place, from now on.
    config
        Of the training.
    n_batch
        Rows a step.
    """

    def __init__(self, learner: Learner, config: TrainingConfig, n_batch: int) -> None:
        bias = learner.network.biases[0]
        # Chains are drawn into the tensors that they are read from.
        learner.particles = tuple(each.clone() for each in learner.particles)
        self._learner, self._config = learner, config
        self._sampler = _Sampler(learner.network, config.n_particles, config.n_sweeps)
        self._batch = bias.new_zeros(n_batch, len(bias))
        self._pace = bias.new_zeros(3)
        self._n_sweeps = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(
        self,
        rows: torch.Tensor,
        batches: torch.Tensor,
        rates: Sequence[float],
        generator: torch.Generator,
    ) -> int:
        """Move the network once per batch.

        Parameters
        ----------
        rows : shape (n, V)
            All of them.
        batches : shape (n_steps, n_batch)
            Their places.
        rates
            Of learning, one per step.
        generator
            Of the draws.

        Returns
        -------
        int
            Sweeps that the mean field took in each step.
        """
        n_sweeps = infer_means(
            self._learner.network,
            rows[batches[0]],
            tolerance=self._config.tolerance,
            most_sweeps=self._config.most_sweeps,
        ).n_sweeps
        if n_sweeps != self._n_sweeps:
            self._n_sweeps = n_sweeps
            self._graph = self._record() if rows.is_cuda else None
        steps = [self._learner.adam.pace(rate) for rate in rates]
        paces = self._pace.new_tensor([(each.rate, each.step, each.smallest) for each in steps])
        for batch, pace in zip(batches, paces, strict=True):
            torch.index_select(rows, 0, batch, out=self._batch)
            self._sampler.draw_chance(generator)
            self._pace.copy_(pace)
            if self._graph is None:
                self._advance()
            else:
                self._graph.replay()
        return n_sweeps

    def _advance(self) -> None:
        """Do what ``take_step`` does, with what ``run`` put in place."""
        learner = self._learner
        beside = _Beside(self._batch.is_cuda)
        with beside.block():
            hidden = settle_means(learner.network, self._batch, n_sweeps=self._n_sweeps)
            data = measure_moments((self._batch, *hidden), learner.offsets)
        self._sampler.sweep(learner.network, learner.particles)
        model = measure_moments(learner.particles, learner.offsets)
        beside.wait()
        rate, step, smallest = self._pace.unbind()
        climb(learner, data, model, self._config, Pace(rate, step, smallest))

    def _record(self) -> torch.cuda.CUDAGraph:
        """Record the step, and leave every tensor as it was."""
        learner = self._learner
        moved = [
            *learner.network.biases,
            *learner.network.weights,
            *learner.particles,
            *learner.offsets,
            learner.adam.mean,
            learner.adam.square,
        ]
        before = [each.clone() for each in moved]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._advance()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance()
        for each, old in zip(moved, before, strict=True):
            each.copy_(old)
        return graph


class _Beside:
    """A stream beside the current one: what is in its block may run while the rest does."""

    def __init__(self, is_used: bool) -> None:
        self._stream = torch.cuda.Stream() if is_used else None

    @contextmanager
    def block(self) -> Iterator[None]:
        """Run what is in the block there."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """Let the current stream wait for what was in the block."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)


class _Sampler:
    """Block Gibbs, as in ``sampling.sweep``, by noise that is drawn for all sweeps at once.

    Visible states are padded in between: one-hots as (groups, most categories), then the others.
    """

    def __init__(self, network: Network, n_chains: int, n_sweeps: int) -> None:
        layout, like = network.layout, network.biases[0]
        places, is_padding, shape = _pad_one_hots(layout)
        n_padded = len(places)
        others = torch.arange(layout.flags.start, layout.n_units)
        self._places = torch.cat([places, others]).to(like.device)
        self._is_padding = is_padding.to(like.device)
        kept = torch.cat([(~is_padding).nonzero()[:, 0], n_padded + torch.arange(len(others))])
        self._kept = kept.to(like.device)
        self._shape, self._n_sweeps = shape, n_sweeps
        self._flags = slice(n_padded, n_padded + layout.flags.stop - layout.flags.start)
        self._widths = (len(others), *network.sizes[1:])
        self._gumbel = like.new_full((n_sweeps, n_chains, n_padded), 0.5)
        self._logistic = like.new_full((n_sweeps, n_chains, sum(self._widths)), 0.5)

    def draw_chance(self, generator: torch.Generator) -> None:
        """Draw the next step's chance."""
        self._gumbel.exponential_(generator=generator)
        self._logistic.uniform_(generator=generator)

    def sweep(self, network: Network, particles: States) -> None:
        """Draw all layers so many times, in place."""
        weight = network.weights[0].index_select(0, self._places)
        weight[: len(self._is_padding)].masked_fill_(self._is_padding[:, None], 0)
        weights = (weight, *network.weights[1:])
        visible, hidden = self._draw_noise(network.biases)
        current = [particles[0].index_select(1, self._places), *particles[1:]]
        current[0][:, : len(self._is_padding)].masked_fill_(self._is_padding, 0)
        for i in range(self._n_sweeps):
            for layer in range(1, network.n_layers + 1, 2):
                _draw_layer(weights, layer, current, hidden[layer - 1][i])
            self._draw_visible(torch.addmm(visible[i], current[1], weight.T), current[0])
            for layer in range(2, network.n_layers + 1, 2):
                _draw_layer(weights, layer, current, hidden[layer - 1][i])
        torch.index_select(current[0], 1, self._kept, out=particles[0])

    def _draw_noise(self, biases: States) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return bias plus noise of every sweep, of visible units and of each hidden layer."""
        n_flags = self._flags.stop - self._flags.start
        noise = torch.logit(self._logistic, eps=_LEAST)
        if self._widths[0] > n_flags:
            numbers = slice(n_flags, self._widths[0])
            chance = self._logistic[:, :, numbers].clamp(_LEAST, 1 - _LEAST)
            noise[:, :, numbers] = torch.special.ndtri(chance)
        others, *hidden = torch.split(noise, list(self._widths), dim=2)
        bias = biases[0].index_select(0, self._places)
        bias[: len(self._is_padding)].masked_fill_(self._is_padding, -torch.inf)
        visible = torch.cat([self._gumbel.log().neg_(), others], dim=2) + bias
        return visible, [each + bias for each, bias in zip(hidden, biases[1:], strict=True)]

    def _draw_visible(self, noisy: torch.Tensor, visible: torch.Tensor) -> None:
        """Write each group's highest category, flags, and numbers, which the noisy field is.

        One draw in some million ties in floating point and has two categories until the next.
        """
        start, stop = self._flags.start, self._flags.stop
        if start:
            groups = torch.unflatten(noisy[:, :start], 1, self._shape)
            highest = groups.amax(dim=2, keepdim=True)
            torch.eq(groups, highest, out=torch.unflatten(visible[:, :start], 1, self._shape))
        torch.gt(noisy[:, start:stop], 0, out=visible[:, start:stop])
        if noisy.shape[1] > stop:
            visible[:, stop:] = noisy[:, stop:]


def _draw_layer(
    weights: States, layer: int, current: list[torch.Tensor], noise: torch.Tensor
) -> None:
    """Draw a hidden layer in place."""
    field = torch.addmm(noise, current[layer - 1], weights[layer - 1])
    if layer < len(weights):
        field.addmm_(current[layer + 1], weights[layer].T)
    torch.gt(field, 0, out=current[layer])


def _pad_one_hots(layout: Layout) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Return the unit of each place, which places are padding, and (groups, most categories)."""
    sizes = torch.tensor([each.stop - each.start for each in layout.one_hots]).long()
    most = int(sizes.max()) if len(sizes) else 0
    rank = torch.arange(most).expand(len(sizes), most)
    first = (sizes.cumsum(0) - sizes)[:, None]
    places = first + rank.minimum(sizes[:, None] - 1)
    return places.reshape(-1), (rank >= sizes[:, None]).reshape(-1), (len(sizes), most)
