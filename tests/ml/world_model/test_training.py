"""Training: a planted machine is found, a killed run ends the same, workers share a gradient."""

import json
import multiprocessing
import os
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from known_network import SMALL, draw_network, plant_network
from oracles.boltzmann import exact_free_energy, exact_log_partition, exact_probabilities

from ml.core.errors import ModelError
from ml.world_model.files import DESCRIPTION, TENSORS, load_network, save_network
from ml.world_model.learning import TrainingConfig
from ml.world_model.training import train_network

CONFIG = TrainingConfig(
    hidden=(4, 3),
    n_epochs=30,
    batch_size=256,
    n_particles=256,
    learning_rate=1e-2,
    last_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def planted():
    """A machine of strong couplings, its states with probabilities, and rows drawn from it."""
    network = plant_network()
    states, chances = exact_probabilities(network)
    rows = np.random.default_rng(1).choice(len(states), 20_000, p=chances)
    return states, chances, torch.tensor(states[rows], dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(planted):
    return train_network(planted[2], SMALL, CONFIG)


def _divergence(network, states, chances):
    """Return KL(planted | network), nats, by enumeration."""
    model = -exact_free_energy(network, states) - exact_log_partition(network)
    return float((chances * (np.log(chances) - model)).sum())


def test_a_planted_machine_is_found(planted, trained):
    states, chances, rows = planted
    alone = train_network(rows, SMALL, replace(CONFIG, n_epochs=0, weight_scale=0.0)).network
    far, near = _divergence(alone, states, chances), _divergence(trained.network, states, chances)
    assert far > 0.3
    assert near < 0.03 * far


def test_the_curve_says_how_training_went(planted):
    rows = planted[2]
    seen = []
    done = train_network(
        rows[:4_000],
        SMALL,
        replace(CONFIG, n_epochs=3),
        validation=rows[4_000:],
        progress=seen.append,
    )
    assert [each.epoch for each in seen] == [1, 2, 3]
    assert tuple(seen) == done.curve
    assert all(np.isfinite(each.validation_free_energy) for each in seen)
    assert all(each.moment_error < 0.1 for each in seen)


def test_a_killed_training_goes_on_to_the_same_end(planted, tmp_path):
    rows, config = planted[2][:3_000], replace(CONFIG, n_epochs=4)

    class KilledError(Exception):
        pass

    def kill(epoch):
        if epoch.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train_network(rows, SMALL, config, checkpoints=tmp_path, progress=kill)
    resumed = train_network(rows, SMALL, config, checkpoints=tmp_path)
    whole = train_network(rows, SMALL, config)
    assert [each.epoch for each in resumed.curve] == [1, 2, 3, 4]
    for a, b in zip(
        (*resumed.network.biases, *resumed.network.weights, *resumed.particles),
        (*whole.network.biases, *whole.network.weights, *whole.particles),
        strict=True,
    ):
        assert torch.equal(a, b)
    with pytest.raises(ModelError, match="other settings or rows"):
        train_network(rows, SMALL, replace(config, seed=1), checkpoints=tmp_path)


def _train_with_others(rank, count, port, rows, queue):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    from ml.world_model.parallel import join_workers

    with join_workers() as workers:
        assert workers.agree(7)
        assert not workers.agree(rank)
        done = train_network(
            torch.tensor(rows), SMALL, replace(CONFIG, n_epochs=8), workers=workers
        )
    queue.put((rank, [each.numpy() for each in (*done.network.biases, *done.network.weights)]))


def test_two_workers_train_one_network(planted):
    states, chances, rows = planted
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=_train_with_others, args=(rank, 2, port, rows.numpy(), queue))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    for a, b in zip(found[0], found[1], strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    tensors = [torch.tensor(each) for each in found[0]]
    network = replace(draw_network(0.0), biases=tuple(tensors[:3]), weights=tuple(tensors[3:]))
    alone = train_network(rows, SMALL, replace(CONFIG, n_epochs=0, weight_scale=0.0)).network
    assert _divergence(network, states, chances) < 0.3 * _divergence(alone, states, chances)


def test_training_refuses_rows_that_it_cannot_use():
    with pytest.raises(ModelError, match="have shape"):
        train_network(torch.zeros(5, 3), SMALL, CONFIG)
    with pytest.raises(ModelError, match="no rows"):
        train_network(torch.zeros(0, 7), SMALL, CONFIG)
    bad = torch.zeros(5, 7)
    bad[2, 4] = torch.nan
    with pytest.raises(ModelError, match="'f1'"):
        train_network(bad, SMALL, CONFIG)


def test_a_network_survives_its_files(trained, tmp_path):
    save_network(trained.network, tmp_path, notes={"epochs": 30})
    again, notes = load_network(tmp_path)
    assert notes == {"epochs": 30}
    assert again.layout == trained.network.layout
    for a, b in zip(again.weights, trained.network.weights, strict=True):
        assert torch.equal(a, b)
    assert not [file.name for file in tmp_path.iterdir() if file.suffix == ".tmp"]


def test_damaged_files_are_refused(trained, tmp_path):
    with pytest.raises(ModelError, match="can't be read"):
        load_network(tmp_path)
    save_network(trained.network, tmp_path)
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(description | {"sizes": [7, 4, 2]}))
    with pytest.raises(ModelError, match=r"biases\.2"):
        load_network(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description | {"format": 9}))
    with pytest.raises(ModelError, match="format 9"):
        load_network(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    (tmp_path / TENSORS).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="can't be read"):
        load_network(tmp_path)
