"""CPU against CUDA: the same network must say the same on both, and learn as well on either."""

from dataclasses import replace

import pytest
import torch
from known_network import draw_network

from ml.world_model.chance import Chance, seed_generator
from ml.world_model.learning import Learner, TrainingConfig
from ml.world_model.network import Network, free_energy, infer_means
from ml.world_model.recorded import RecordedStep
from ml.world_model.sampling import draw_hidden, sweep
from ml.world_model.steps import begin_adam
from ml.world_model.training import train_network

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


def test_the_recorded_step_is_the_step_that_was_not_recorded():
    network = draw_network(1.0, (6, 4)).to("cuda", torch.float32)
    rows = _rows(draw_network(1.0, (6, 4)).to("cpu", torch.float32), 4_096, "cuda")
    batches = torch.arange(4_096, device="cuda").view(16, 256)
    found = []
    for is_recorded in (True, False):
        generator = seed_generator(1, 0, 0, rows.device)
        learner = Learner(
            Network(
                network.layout,
                tuple(each.clone() for each in network.biases),
                tuple(each.clone() for each in network.weights),
            ),
            draw_hidden(network, rows[:256], Chance(generator)),
            (rows.mean(dim=0), *(torch.full((n,), 0.5, device="cuda") for n in network.sizes[1:])),
            begin_adam((*network.biases, *network.weights), momentum=0.5),
        )
        step = RecordedStep(learner, CONFIG, 256)
        if not is_recorded:
            step._record = lambda: None
        step.run(rows, batches, [1e-3] * 16, generator)
        found.append(learner.network)
    for one, other in zip(found[0].weights, found[1].weights, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert not torch.allclose(found[0].weights[0], network.weights[0], atol=1e-3)


def test_a_killed_training_there_goes_on_to_the_same_end(tmp_path):
    network = draw_network(1.0, (6, 4)).to("cpu", torch.float32)
    rows = _rows(network, 4_000, "cuda")
    config = replace(CONFIG, n_epochs=4)

    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train_network(rows, network.layout, config, checkpoints=tmp_path, progress=kill)
    again = train_network(rows, network.layout, config, checkpoints=tmp_path).network
    whole = train_network(rows, network.layout, config).network
    assert torch.allclose(again.weights[0], whole.weights[0], atol=1e-5)
