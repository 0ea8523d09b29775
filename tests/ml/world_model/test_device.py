"""CPU against CUDA: the same network must say the same on both, and learn as well on either."""

from dataclasses import replace

import pytest
import torch
from known_network import draw_network

from ml.world_model.chance import Chance, seed_generator
from ml.world_model.network import free_energy, infer_means
from ml.world_model.sampling import draw_hidden, sweep
from ml.world_model.training import TrainingConfig, train_network

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here: CPU and CUDA are NOT compared"
)
CONFIG = TrainingConfig(hidden=(6, 4), n_epochs=20, batch_size=256, n_particles=256)


def _rows(network, n, device="cpu"):
    chance = Chance(seed_generator(1, 0, 0, torch.device("cpu")))
    begun = torch.zeros(n, network.layout.n_units, dtype=network.biases[0].dtype)
    states = sweep(network, draw_hidden(network, begun, chance), n_sweeps=200, chance=chance)
    return states[0].float().to(device)


def test_means_and_free_energies_agree():
    network = draw_network(1.0, (6, 4)).to("cpu", torch.float32)
    rows = _rows(network, 500)
    here, there = infer_means(network, rows), infer_means(network.to("cuda"), rows.cuda())
    for one, other in zip(here.hidden, there.hidden, strict=True):
        assert torch.allclose(one, other.cpu(), atol=1e-4)
    assert torch.allclose(
        free_energy(network, rows), free_energy(network.to("cuda"), rows.cuda()).cpu(), atol=1e-3
    )


def test_training_there_is_as_good_as_here():
    network = draw_network(1.0, (6, 4)).to("cpu", torch.float32)
    rows = _rows(network, 4_000)
    gaps = []
    for device in ("cpu", "cuda"):
        trained = train_network(rows.to(device), network.layout, replace(CONFIG, seed=3))
        learned = trained.network.to("cpu")
        off, on = rows.clone(), rows.clone()
        off[:, -1], on[:, -1] = 0, 1
        gaps.append(free_energy(learned, off) - free_energy(learned, on))
    # The same conditional log-odds of a unit, up to the chance of two trainings.
    assert float((gaps[0] - gaps[1]).abs().mean()) < 0.05
