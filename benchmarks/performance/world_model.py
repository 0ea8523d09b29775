"""How fast the world model trains: python -m benchmarks.performance.world_model.

Purchase World as published, 1,024 consumers, a fifth of them held out; one thread, CPU seconds. The
floor is the time of the matrix products alone, as many and of the same shapes, in the same run.
Where there is a GPU, the same training there, in seconds of the clock.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.studies.three_in_one.baselines import score_chain, score_independent
from benchmarks.studies.three_in_one.features import list_visible, make_layout
from ml.simulate.purchase_world import PURCHASE_WORLDS, simulate_purchases
from ml.world_model.belief import infer_belief
from ml.world_model.health import check_health, drop_unused_layers, measure_spreads
from ml.world_model.learning import TrainingConfig
from ml.world_model.network import free_energy, infer_means
from ml.world_model.partition import bound_log_partition, estimate_log_partition
from ml.world_model.training import Epoch, Trained, train_network

_WORLD = "purchase_world_as_published"
_RUNS, _STEPS = 100, 2_000


def measure(n_customers: int, config: TrainingConfig, *, n_steps: int = _STEPS) -> dict[str, float]:
    """Train, and measure everything of the line.

    Parameters
    ----------
    n_customers
        Consumers of the world that are used.
    config
        Of the training.
    n_steps
        Of annealing.

    Returns
    -------
    dict
        Figures by name.
    """
    training, held_out = _split(n_customers)
    layout = make_layout(10)
    started = time.process_time()
    trained = train_network(training, layout, config, progress=_print)
    seconds = time.process_time() - started
    steps = config.n_epochs * (len(training) // config.batch_size)
    floor = steps * _floor_of_step(config, training, trained.curve[-1].mean_sweeps)
    belief, belief_floor = _measure_belief(trained, held_out)
    figures = {
        "rows": float(len(training)),
        "train_minutes": seconds / 60,
        "train_rows_per_second": config.n_epochs * len(training) / seconds,
        "train_floor_ratio": seconds / floor,
        "belief_rows_per_second": len(held_out) / belief,
        "belief_floor_ratio": belief / belief_floor,
        **_measure_bounds(trained, held_out, n_steps),
        "independent_nats": score_independent(layout, training, held_out),
        "chain_nats": score_chain(layout, training, held_out),
    }
    if torch.cuda.is_available():
        figures |= _measure_cuda(training, held_out, config, seconds, n_steps)
    for layer, spread in enumerate(measure_spreads(trained.network, held_out), start=1):
        figures[f"spread_hidden_{layer}"] = spread
    gates = {gate.name: gate.value for gate in check_health(trained, training, held_out)}
    figures |= {name: gates[name] for name in ("chain_rms", "chain_within_2", "free_energy_gap")}
    figures["dropped_layers"] = float(drop_unused_layers(trained.network, held_out)[1])
    reach = figures["chain_nats"] - figures["independent_nats"]
    figures["gap_closed"] = (figures["bound_nats"] - figures["independent_nats"]) / reach
    return figures


def _split(n_customers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of four fifths of the consumers, and of the others in chance order."""
    config = PURCHASE_WORLDS[_WORLD]
    visible = list_visible(config, simulate_purchases(config))[:, :n_customers]
    random = np.random.default_rng(0)
    order = random.permutation(n_customers)
    cut = n_customers * 4 // 5
    parts = []
    for chosen in (order[:cut], order[cut:]):
        rows = visible[:, chosen].reshape(-1, visible.shape[2])
        parts.append(torch.from_numpy(rows[random.permutation(len(rows))]).float())
    return parts[0], parts[1]


def _floor_of_step(config: TrainingConfig, rows: torch.Tensor, n_sweeps: float) -> float:
    """Return the CPU seconds of one step's matrix products, without anything else."""
    sizes = (rows.shape[1], *config.hidden)
    n_data, n_chains = config.batch_size, config.n_particles
    pairs = list(itertools.pairwise(sizes))
    down = {pair: torch.rand(*pair) for pair in pairs}
    data = {size: torch.rand(n_data, size) for size in sizes}
    chains = {size: torch.rand(n_chains, size) for size in sizes}

    def infer() -> None:
        for below, above in pairs[1:]:
            torch.mm(data[below], down[below, above])
            torch.mm(data[above], down[below, above].T)

    def sweep() -> None:
        for below, above in pairs:
            torch.mm(chains[below], down[below, above])
            torch.mm(chains[above], down[below, above].T)

    def rest() -> None:
        torch.mm(data[sizes[0]], down[pairs[0]])
        for below, above in pairs:
            torch.mm(data[below].T, data[above])
            torch.mm(chains[below].T, chains[above])

    return n_sweeps * _time(infer) + config.n_sweeps * _time(sweep) + _time(rest)


def _measure_belief(trained: Trained, rows: torch.Tensor) -> tuple[float, float]:
    """Return the CPU seconds of the rows' belief, and of its matrix products alone."""
    visible = rows.numpy().astype(np.uint8)
    network = trained.network
    sweeps = infer_means(network, rows, tolerance=1e-4, most_sweeps=50).n_sweeps
    block = torch.from_numpy(visible[:16_384]).float()
    hidden = [torch.rand(len(block), size) for size in network.sizes[1:]]

    def multiply() -> None:
        torch.mm(block, network.weights[0])
        for _ in range(sweeps):
            for layer, weight in enumerate(network.weights[1:]):
                torch.mm(hidden[layer], weight)
                torch.mm(hidden[layer + 1], weight.T)

    taken = _time(lambda: infer_belief(network, visible), repeats=3)
    return taken, _time(multiply) * len(rows) / len(block)


def _measure_cuda(
    training: torch.Tensor,
    held_out: torch.Tensor,
    config: TrainingConfig,
    cpu_seconds: float,
    n_steps: int,
) -> dict[str, float]:
    """Return what training takes on the GPU, recording included, and what it reaches.

    By the same settings, and by batches of a GPU's size in as many more passes as reach the same.
    """
    rows = training.cuda()
    train_network(rows, make_layout(10), replace(config, n_epochs=1))  # loads the kernels
    large = replace(
        config,
        batch_size=8 * config.batch_size,
        n_particles=8 * config.n_particles,
        learning_rate=2 * config.learning_rate,
        n_epochs=2 * config.n_epochs,
    )
    figures: dict[str, float] = {}
    for name, settings in (("cuda", config), ("cuda_large_batch", large)):
        torch.cuda.synchronize()
        started = time.perf_counter()
        trained = train_network(rows, make_layout(10), settings)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        trained = Trained(
            trained.network.to("cpu"),
            tuple(each.cpu() for each in trained.particles),
            trained.data_mean.cpu(),
            trained.curve,
        )
        bounds = _measure_bounds(trained, held_out, n_steps)
        figures |= {
            f"{name}_train_seconds": seconds,
            f"{name}_ratio": cpu_seconds / seconds,
            f"{name}_bound_nats": bounds["bound_nats"],
            f"{name}_bound_nats_reverse": bounds["bound_nats_reverse"],
        }
    return figures


def _measure_bounds(trained: Trained, rows: torch.Tensor, n_steps: int) -> dict[str, float]:
    """Return the held-out bound, log Z from below and from above."""
    network = trained.network.to("cpu", torch.float64)
    mean = trained.data_mean.double()
    below = estimate_log_partition(network, mean, n_steps=n_steps, n_runs=_RUNS)
    chains = tuple(each[:_RUNS].double() for each in trained.particles)
    above = bound_log_partition(network, mean, chains, n_steps=n_steps)
    energy = float(free_energy(trained.network, rows).mean())
    return {
        "bound_nats": -energy - below.value,
        "bound_nats_reverse": -energy - above.value,
        "annealing_effective_runs": below.effective_sample_size,
    }


def _time(call: Callable[[], object], repeats: int = 30) -> float:
    """Return the median CPU seconds of a call."""
    call()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return float(np.median(taken))


def _print(epoch: Epoch) -> None:
    print(
        f"  epoch {epoch.epoch}: free energy {epoch.training_free_energy:.2f}, chains off by "
        f"{epoch.moment_error:.4f}, {epoch.seconds:.1f} s",
        flush=True,
    )


def main() -> int:
    """Run, print the figures and the line."""
    parser = argparse.ArgumentParser(prog="world_model", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="128 consumers, 3 epochs")
    parser.add_argument("--hidden", default="64-16", help="units per hidden layer")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--posterior", default="mean_field", choices=["mean_field", "sampled"])
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainingConfig(
        hidden=tuple(int(size) for size in parsed.hidden.split("-")),
        n_epochs=3 if parsed.quick else parsed.epochs,
        posterior=parsed.posterior,
    )
    figures = measure(128 if parsed.quick else 1_024, config)
    for name, value in figures.items():
        print(f"{name:<26}{value:>12,.4g}")
    print(json.dumps({name: float(f"{value:.5g}") for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
