"""The consistency adapter: how plausible a row would be with a block of units set otherwise.

By free energies alone, so no log Z is needed: with everything else as it is,

    log p(block on | rest) - log p(block off | rest) = F(off) - F(on).

A clamp must be coherent: it sets every unit that follows from the block, or part of the score is
the price of logical impossibility.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ml.core.errors import ModelError
from ml.world_model.network import Network, free_energy

_ROWS = 16_384


@dataclass(frozen=True)
class Block:
    """Units that are set together; ``on`` and ``off`` map unit names to values."""

    name: str
    on: Mapping[str, float]
    off: Mapping[str, float]


@dataclass(frozen=True)
class LogOdds:
    """Log-odds of a block, nats, shape (n,).

    ``bias_only`` is the part that the visible units' own biases make up: what the score would be if
    units were independent. Where it is nearly all, couplings say nothing.
    """

    value: np.ndarray
    bias_only: np.ndarray


def score_block(network: Network, visible: np.ndarray, block: Block) -> LogOdds:
    """Return the model's log-odds that a block is on, given the rest of each row.

    Parameters
    ----------
    network
        Of L hidden layers.
    visible : shape (n, V)
        Rows; what the block's units are in them doesn't matter.
    block
        Its on and off states name the same units.

    Returns
    -------
    LogOdds
        In nats; exact but for what the mean field's free energies are above the exact ones.

    Raises
    ------
    ModelError
        If a unit is unknown, or one state sets a unit that the other doesn't, or a one-hot is set
        in part.
    """
    _check(network, block)
    on, off = (_clamp(network, visible, state) for state in (block.on, block.off))
    bias = network.biases[0].double().cpu().numpy()
    return LogOdds(
        measure_free_energy(network, off) - measure_free_energy(network, on),
        (on - off).astype(np.float64) @ bias,
    )


def contrast_blocks(
    network: Network, visible: np.ndarray, block: Block, given: Block
) -> np.ndarray:
    """Return by how much another block's being on raises a block's log-odds, shape (n,), nats.

    The difference in differences of free energies: the model's log odds ratio. What either block
    does alone cancels, the biases of visible units among it.

    Parameters
    ----------
    network, visible, block
        As for ``score_block``.
    given
        The other block.

    Returns
    -------
    np.ndarray
        Log-odds of ``block`` with ``given`` on, less those with it off.
    """
    _check(network, given)
    with_it, without = (
        score_block(network, _clamp(network, visible, state), block).value
        for state in (given.on, given.off)
    )
    return with_it - without


def rank_among(
    scores: np.ndarray,
    segment: np.ndarray,
    calibration: np.ndarray,
    calibration_segment: np.ndarray,
) -> np.ndarray:
    """Return conformal p-values: how usual a free energy is among real rows of its segment.

    p = (1 + number of calibration rows at least as high) / (rows + 1): uniform or larger where the
    row is drawn as they were (Vovk, Gammerman and Shafer 2005).

    Parameters
    ----------
    scores : shape (n,)
        Free energies of the rows in question.
    segment : shape (n,), int
        Of each.
    calibration, calibration_segment : shape (m,)
        Of real rows that the network wasn't trained on.

    Returns
    -------
    np.ndarray
        Shape (n,), in (0, 1]; 1 where the segment has no calibration row.
    """
    found = np.ones(len(scores))
    for each in np.unique(segment):
        known = np.sort(calibration[calibration_segment == each])
        own = segment == each
        n_higher = len(known) - np.searchsorted(known, scores[own], side="left")
        found[own] = (1 + n_higher) / (len(known) + 1)
    return found


def measure_free_energy(network: Network, visible: np.ndarray) -> np.ndarray:
    """Return the variational free energy of each row, shape (n,), nats."""
    bias = network.biases[0]
    found = np.empty(len(visible))
    for start in range(0, len(visible), _ROWS):
        block = torch.from_numpy(np.ascontiguousarray(visible[start : start + _ROWS]))
        energies = free_energy(network, block.to(bias.device, bias.dtype))
        found[start : start + _ROWS] = energies.double().cpu().numpy()
    return found


def _check(network: Network, block: Block) -> None:
    """Refuse a block that isn't a switch of known, whole groups."""
    names = set(network.layout.names)
    unknown = sorted((set(block.on) | set(block.off)) - names)
    if unknown:
        raise ModelError(f"block {block.name}: there are no visible units {unknown}")
    if set(block.on) != set(block.off):
        differing = sorted(set(block.on) ^ set(block.off))
        raise ModelError(f"block {block.name}: on and off must set the same units, not {differing}")
    for columns in network.layout.one_hots:
        group = set(network.layout.names[columns])
        touched = group & set(block.on)
        if touched and (
            touched != group
            or any(sum(state[name] for name in group) != 1 for state in (block.on, block.off))
        ):
            raise ModelError(
                f"block {block.name}: of the one-hot {sorted(group)} exactly one unit must be on"
            )


def _clamp(network: Network, visible: np.ndarray, state: Mapping[str, float]) -> np.ndarray:
    """Return the rows with some units set."""
    clamped = np.array(visible, dtype=np.float32, copy=True)
    for name, value in state.items():
        clamped[:, network.layout.names.index(name)] = value
    return clamped
