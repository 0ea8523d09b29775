"""Networks as files: safetensors for numbers, JSON for everything else; no pickles."""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ml.core.errors import ModelError
from ml.world_model.network import Network
from ml.world_model.visible import Layout, read_layout

TENSORS, DESCRIPTION = "network.safetensors", "network.json"
_FORMAT = 1


def save_network(network: Network, folder: Path, *, notes: Mapping[str, Any] | None = None) -> None:
    """Write a network into a folder.

    Parameters
    ----------
    network
        On any device.
    folder
        Made if missing; its earlier network is replaced.
    notes
        What else is to be known about it, as JSON.
    """
    write_tensors(folder / TENSORS, name_tensors(network))
    description = {
        "format": _FORMAT,
        "sizes": list(network.sizes),
        "layout": network.layout.to_json(),
        "notes": dict(notes or {}),
    }
    _write(folder / DESCRIPTION, json.dumps(description, indent=1).encode())


def load_network(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Read a network and its notes.

    Parameters
    ----------
    folder
        Where ``save_network`` wrote.

    Returns
    -------
    tuple
        Network, on the CPU, and notes.

    Raises
    ------
    ModelError
        If a file is missing, damaged, of another format, or doesn't fit the other.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / DESCRIPTION} can't be read: {error}") from error
    if description.get("format") != _FORMAT:
        raise ModelError(f"{folder} has format {description.get('format')}, not {_FORMAT}")
    sizes = description["sizes"]
    tensors = read_tensors(folder / TENSORS)
    names = [f"biases.{i}" for i in range(len(sizes))]
    names += [f"weights.{i}" for i in range(len(sizes) - 1)]
    shapes = [(size,) for size in sizes] + list(itertools.pairwise(sizes))
    for name, shape in zip(names, shapes, strict=True):
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise ModelError(f"{folder / TENSORS}: {name} is missing or not of shape {shape}")
    network = pick_network(tensors, read_layout(description["layout"]), len(sizes) - 1)
    if network.layout.n_units != sizes[0]:
        raise ModelError(f"{folder}: the layout has {network.layout.n_units} units, not {sizes[0]}")
    return network, description["notes"]


def name_tensors(network: Network) -> dict[str, torch.Tensor]:
    """Return a network's tensors by name."""
    return {
        **{f"biases.{i}": each for i, each in enumerate(network.biases)},
        **{f"weights.{i}": each for i, each in enumerate(network.weights)},
    }


def pick_network(tensors: Mapping[str, torch.Tensor], layout: Layout, n_layers: int) -> Network:
    """Return the network that ``name_tensors`` named."""
    return Network(
        layout,
        tuple(tensors[f"biases.{i}"] for i in range(n_layers + 1)),
        tuple(tensors[f"weights.{i}"] for i in range(n_layers)),
    )


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], *, notes: str | None = None
) -> None:
    """Write tensors, whole or not at all, with a note in the file's head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    plain = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    save_file(plain, temporary, metadata=None if notes is None else {"notes": notes})
    _replace(temporary, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors.

    Raises
    ------
    ModelError
        If the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} can't be read: {error}") from error


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(content)
    _replace(temporary, path)


def _replace(temporary: Path, path: Path) -> None:
    """Put a file in place once it is on the disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
