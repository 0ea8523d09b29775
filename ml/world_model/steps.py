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


@dataclass
class Adam:
    """Running means and squares of slopes (Kingma and Ba 2015)."""

    momentum: float
    means: list[torch.Tensor]
    squares: list[torch.Tensor]
    n_steps: int = 0

    def scale(self, slopes: Sequence[torch.Tensor], rate: float) -> list[torch.Tensor]:
        """Return the steps uphill for a rate of learning."""
        self.n_steps += 1
        unbias = math.sqrt(1 - _SECOND_DECAY**self.n_steps)
        rate = rate * unbias / (1 - self.momentum**self.n_steps)
        steps = []
        for slope, mean, square in zip(slopes, self.means, self.squares, strict=True):
            mean.lerp_(slope, 1 - self.momentum)
            square.mul_(_SECOND_DECAY).addcmul_(slope, slope, value=1 - _SECOND_DECAY)
            steps.append(mean / square.sqrt().add_(_SMALLEST * unbias) * rate)
        return steps


def begin_adam(parameters: Sequence[torch.Tensor], *, momentum: float) -> Adam:
    """Return Adam before its first step."""
    return Adam(
        momentum,
        [torch.zeros_like(each) for each in parameters],
        [torch.zeros_like(each) for each in parameters],
    )


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
