"""Steps uphill: moments, Adam, and how a centred step moves uncentred biases."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

_SECOND_DECAY, _SMALLEST = 0.999, 1e-8


def measure_moments(
    states: Sequence[torch.Tensor], offsets: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Return the means over rows of (x - m) of each layer, then of (x - m)(y - m)' of neighbours.

    Their difference between data and model is the gradient of the bound by centred biases and by
    weights.

    Parameters
    ----------
    states
        L + 1 tensors of shape (n, units): states, or data with mean-field means.
    offsets
        L + 1 tensors of shape (units,).

    Returns
    -------
    tuple
        L + 1 tensors of shape (units,), then L of shape (units below, units above).
    """
    centred = [state - offset for state, offset in zip(states, offsets, strict=True)]
    n = len(states[0])
    return (
        *(each.mean(dim=0) for each in centred),
        *(below.T @ above / n for below, above in itertools.pairwise(centred)),
    )


@dataclass(frozen=True)
class Pace:
    """How far a step goes: numbers, or tensors of one number where the step is recorded.

    ``rate`` of learning; ``step``, Adam's, unbiased; ``smallest``, what keeps it from dividing by
    nothing.
    """

    rate: float | torch.Tensor
    step: float | torch.Tensor
    smallest: float | torch.Tensor


@dataclass
class Adam:
    """Running means and squares of all slopes, end to end (Kingma and Ba 2015)."""

    momentum: float
    mean: torch.Tensor
    square: torch.Tensor
    n_steps: int = 0

    def pace(self, rate: float) -> Pace:
        """Return the pace of the next step, which is counted."""
        self.n_steps += 1
        unbias = math.sqrt(1 - _SECOND_DECAY**self.n_steps)
        step = rate * unbias / (1 - self.momentum**self.n_steps)
        return Pace(rate, step, _SMALLEST * unbias)

    def scale(self, slopes: Sequence[torch.Tensor], pace: Pace) -> list[torch.Tensor]:
        """Return the steps uphill."""
        slope = torch.cat([each.reshape(-1) for each in slopes])
        self.mean.lerp_(slope, 1 - self.momentum)
        self.square.mul_(_SECOND_DECAY).addcmul_(slope, slope, value=1 - _SECOND_DECAY)
        step = self.mean / self.square.sqrt().add_(pace.smallest) * pace.step
        parts = torch.split(step, [each.numel() for each in slopes])
        return [part.view_as(each) for part, each in zip(parts, slopes, strict=True)]


def begin_adam(parameters: Sequence[torch.Tensor], *, momentum: float) -> Adam:
    """Return Adam before its first step."""
    n_parameters = sum(each.numel() for each in parameters)
    mean, square = parameters[0].new_zeros(2, n_parameters)
    return Adam(momentum, mean, square)


def move(
    biases: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    steps: Sequence[torch.Tensor],
    offsets: Sequence[torch.Tensor],
    copies: Sequence[tuple[int, int]] | None = None,
) -> None:
    """Take steps of centred biases and weights, in place.

    With offsets m the energy's couplings are (x - m)'W(y - m): a step of W moves the uncentred
    biases of both its layers by what its offsets stand for.

    Parameters
    ----------
    biases, weights
        L + 1 and L tensors, uncentred.
    steps
        Of the centred biases, then of the weights.
    offsets
        L + 1 tensors.
    copies
        Of each pair's lower and upper layer, where a layer stands for several of itself.
    """
    weight_steps = steps[len(biases) :]
    for bias, step in zip(biases, steps, strict=False):
        bias.add_(step)
    for layer, (weight, step) in enumerate(zip(weights, weight_steps, strict=True)):
        below, above = (1, 1) if copies is None else copies[layer]
        weight.add_(step)
        biases[layer].sub_(step @ offsets[layer + 1], alpha=above)
        biases[layer + 1].sub_(offsets[layer] @ step, alpha=below)
