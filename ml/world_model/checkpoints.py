"""Checkpoints of training: one file, replaced after every epoch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ml.core.errors import ModelError
from ml.world_model.files import read_tensors, write_tensors

_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far training is: tensors by name, steps and epochs done, the curve as JSON."""

    tensors: Mapping[str, torch.Tensor]
    n_steps: int
    epoch: int
    curve: list[dict[str, Any]]


def write_progress(folder: Path, of: str, progress: Progress) -> None:
    """Keep how far training is.

    Parameters
    ----------
    folder
        Made if missing.
    of
        What is trained, how, and on what, in a word that is compared.
    progress
        Replaces what was kept.
    """
    notes = {
        "of": of,
        "n_steps": progress.n_steps,
        "epoch": progress.epoch,
        "curve": progress.curve,
    }
    write_tensors(folder / _FILE, progress.tensors, notes=json.dumps(notes))


def read_progress(folder: Path, of: str) -> Progress | None:
    """Return what was kept; None where nothing was.

    Parameters
    ----------
    folder
        Of ``write_progress``.
    of
        As written.

    Raises
    ------
    ModelError
        If it was of another training.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        notes = json.loads(file.metadata()["notes"])
    if notes["of"] != of:
        raise ModelError(
            f"{path} belongs to a training with other settings or rows: remove it to begin anew"
        )
    return Progress(read_tensors(path), notes["n_steps"], notes["epoch"], notes["curve"])
