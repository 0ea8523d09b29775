"""From rows to a world model: encode, train, drop what is unused, check, calibrate."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from ml.core.errors import ModelError, SupportError
from ml.world_model.chance import Chance, seed_generator
from ml.world_model.consistency import measure_free_energy
from ml.world_model.encoding import Encoder
from ml.world_model.health import Gate, check_health, drop_unused_layers
from ml.world_model.learning import TrainingConfig
from ml.world_model.model import WorldModel
from ml.world_model.network import Network
from ml.world_model.sampling import sweep
from ml.world_model.training import Epoch, Trained, train_network
from ml.world_model.visible import Layout

_SHOWN_SWEEPS = 50
_MOST_CALIBRATION = 5_000


@dataclass(frozen=True)
class FittedWorldModel:
    """A world model, its health and what people look at.

    ``data_mean`` and ``chain_mean`` (V,) of visible units; ``n_dropped`` layers were constant;
    ``config`` is what it was trained by.
    """

    model: WorldModel
    gates: tuple[Gate, ...]
    curve: tuple[Epoch, ...]
    data_mean: np.ndarray
    chain_mean: np.ndarray
    belief: np.ndarray
    n_dropped: int
    config: TrainingConfig

    @property
    def failed(self) -> list[Gate]:
        """Gates that are not passed."""
        return [gate for gate in self.gates if not gate.is_passed]


def fit_world_model(
    training: pl.DataFrame,
    validation: pl.DataFrame,
    encoder: Encoder,
    config: TrainingConfig,
    *,
    segment: str,
    calibrated_on: pl.Series,
    notes: Mapping[str, Any],
    checkpoints: Path | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
) -> FittedWorldModel:
    """Train a world model on the GPU if there is one, else on the CPU.

    Parameters
    ----------
    training, validation
        Customer-days of different customers.
    encoder
        Of their columns.
    config
        Of the training.
    segment
        Column within which plausibility is ranked.
    calibrated_on
        Which validation rows it is ranked among, bool.
    notes
        What else is kept with the model.
    checkpoints
        As for ``train_network``; those of another training, which was killed, are removed.
    progress
        Called after each epoch.

    Returns
    -------
    FittedWorldModel
        On the CPU.

    Raises
    ------
    SupportError
        If there are too few rows for a batch, or none to validate on.
    """
    if training.height < config.batch_size or validation.is_empty():
        raise SupportError(
            f"{training.height} customer-days to train on and {validation.height} to validate: the "
            f"world model needs {config.batch_size} and some"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random = np.random.default_rng(config.seed)
    training, validation_rows = (
        each[random.permutation(each.height)] for each in (training, validation)
    )
    rows, others = (
        torch.from_numpy(encoder.encode(each)).float().to(device)
        for each in (training, validation_rows)
    )
    customer = torch.from_numpy(
        validation_rows["customer_id"].rank("dense").cast(pl.Int64).to_numpy().copy()
    ).to(device)
    trained = _train(rows, encoder.layout, config, others, checkpoints, progress)
    shorter, n_dropped = drop_unused_layers(trained.network, others)
    particles = trained.particles[: shorter.n_layers + 1]
    # What is left is what is used, so that is what must be healthy.
    trained = replace(trained, network=shorter, particles=particles)
    gates = check_health(trained, rows, others, customer=customer, seed=config.seed)
    network = shorter.to("cpu")
    chains = sweep(
        shorter,
        particles,
        n_sweeps=_SHOWN_SWEEPS,
        chance=Chance(seed_generator(config.seed, -2, 0, device)),
    )[0]
    model = WorldModel(
        encoder,
        network,
        _calibrate(network, encoder, validation.filter(calibrated_on), segment),
        {**notes, "config": asdict(config), "device": device.type, "n_rows": training.height},
    )
    return FittedWorldModel(
        model,
        gates,
        trained.curve,
        trained.data_mean.cpu().numpy(),
        chains.mean(dim=0).cpu().numpy(),
        model.believe(validation[:_MOST_CALIBRATION]),
        n_dropped,
        config,
    )


def _train(
    rows: torch.Tensor,
    layout: Layout,
    config: TrainingConfig,
    others: torch.Tensor,
    checkpoints: Path | None,
    progress: Callable[[Epoch], None],
) -> Trained:
    """Train, from the beginning where the checkpoints are of other rows or settings."""

    def train() -> Trained:
        return train_network(
            rows, layout, config, validation=others, checkpoints=checkpoints, progress=progress
        )

    try:
        return train()
    except ModelError:
        if checkpoints is None or not checkpoints.exists():
            raise
        shutil.rmtree(checkpoints)
        return train()


def list_gates(gates: Sequence[Gate]) -> pl.DataFrame:
    """Return gates as a table: measure, value, limit, is_passed."""
    return pl.DataFrame(
        {
            "measure": [gate.name for gate in gates],
            "value": [gate.value for gate in gates],
            "limit": [
                f"{'at least' if gate.is_least else 'at most'} {gate.limit:g}" for gate in gates
            ],
            "is_passed": [gate.is_passed for gate in gates],
        }
    )


def _calibrate(
    network: Network, encoder: Encoder, validation: pl.DataFrame, segment: str
) -> dict[str, np.ndarray]:
    """Return each segment's ascending free energies of validation rows, thinned evenly."""
    energies = measure_free_energy(network, encoder.encode(validation))
    names = validation[segment].cast(pl.String).to_numpy()
    found = {}
    for name in np.unique(names):
        own = np.sort(energies[names == name])
        if len(own) > _MOST_CALIBRATION:
            own = own[np.linspace(0, len(own) - 1, _MOST_CALIBRATION).round().astype(int)]
        found[str(name)] = np.round(own, 4)
    return found
