"""The world model as it is used: encoder, network, and how usual real customer-days are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ml.core.errors import ModelError
from ml.world_model.belief import infer_belief
from ml.world_model.consistency import measure_free_energy, rank_among
from ml.world_model.encoding import Encoder, read_encoder
from ml.world_model.files import load_network, save_network
from ml.world_model.network import Network

MODEL_FILE = "world_model.json"
_FORMAT = 1
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class WorldModel:
    """A network of customer-days.

    ``calibration``: segment to ascending free energies of days of customers that the network wasn't
    trained on; ``notes`` say what it was trained on.
    """

    encoder: Encoder
    network: Network
    calibration: Mapping[str, np.ndarray]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_belief(self) -> int:
        """Units of a belief."""
        return sum(self.network.sizes[1:])

    def believe(self, rows: pl.DataFrame) -> np.ndarray:
        """Return the belief of customer-days, shape (n, B), float32."""
        return infer_belief(self.network, self.encoder.encode(rows))

    def judge(self, rows: pl.DataFrame, segment: pl.Series) -> np.ndarray:
        """Return how plausible customer-days are, shape (n,), in (0, 1]: conformal p-values.

        Parameters
        ----------
        rows
            Of customer_days.
        segment
            Of each row; one without calibration rows gets 1.
        """
        names = sorted(self.calibration)
        number = {name: place for place, name in enumerate(names)}
        own = segment.cast(pl.String).replace_strict(number, default=-1).to_numpy().astype(int)
        energies = [np.asarray(self.calibration[name]) for name in names]
        return rank_among(
            # Rows that are alike must tie, whatever a file's or a product's rounding.
            measure_free_energy(self.network, self.encoder.encode(rows)) - _TOLERANCE,
            own,
            np.concatenate([np.zeros(0), *energies]),
            np.repeat(np.arange(len(names)), [len(each) for each in energies]),
        )


def save_world_model(model: WorldModel, folder: Path) -> None:
    """Write a world model: safetensors and JSON, no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    save_network(model.network, folder, notes=model.notes)
    described = {
        "format": _FORMAT,
        "encoder": model.encoder.to_json(),
        "calibration": {name: each.tolist() for name, each in model.calibration.items()},
    }
    (folder / MODEL_FILE).write_text(json.dumps(described))


def load_world_model(folder: Path) -> WorldModel:
    """Read what ``save_world_model`` wrote.

    Raises
    ------
    ModelError
        If a file is missing, damaged, of another format, or doesn't fit the other.
    """
    try:
        described = json.loads((folder / MODEL_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / MODEL_FILE} can't be read: {error}") from error
    if described.get("format") != _FORMAT:
        raise ModelError(f"{folder} has format {described.get('format')}, not {_FORMAT}")
    network, notes = load_network(folder)
    encoder = read_encoder(described["encoder"])
    if encoder.layout != network.layout:
        raise ModelError(f"{folder}: encoder and network are of different visible layers")
    calibration = {name: np.array(each) for name, each in described["calibration"].items()}
    return WorldModel(encoder, network, calibration, notes)
