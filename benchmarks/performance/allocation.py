"""How fast budgets and limits are solved: python -m benchmarks.performance.allocation.

--lp PYTHON compares with OR-tools' PDLP there; --quick takes a minute. CPU seconds, one thread. An
oracle pass is one argmax of every customer at a given price; the gap is that of the whole
assignment to the bound, which is the linear programme's optimum.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.performance.memory import mark_peak, read_peak
from ml.allocation import kernels
from ml.allocation.budget import assign_actions, solve_budget
from ml.allocation.limits import Limit
from ml.allocation.rounding import assign_within_limits

_PEER = Path(__file__).with_name("allocation_peer.py")
_SIZES = ((100_000, 4), (1_000_000, 4), (1_000_000, 10), (10_000_000, 10))
_LARGEST_PEER = 1_000_000 * 4
_LARGEST_LIMITED = 10_000_000
_REPEATS = 3


def draw_problem(n: int, n_actions: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards and costs of n customers, shape (n, K): efficiencies log-normal."""
    random = np.random.default_rng(seed)
    cost = random.exponential(1, (n, n_actions))
    reward = random.lognormal(0, 0.7, (n, n_actions))
    reward -= 0.3
    reward *= cost
    reward[:, 0] = cost[:, 0] = 0
    return reward, cost


def measure(n: int, n_actions: int, lp: str) -> dict[str, float]:
    """Time one budget and ten limits, and the peer where there is one.

    Parameters
    ----------
    n, n_actions
        Size.
    lp
        A Python with ortools; empty for none.

    Returns
    -------
    dict
        Figures of the benchmark's line.
    """
    reward, cost = draw_problem(n, n_actions)
    chosen = np.empty(n, dtype=np.uint8)
    kernels.choose(reward, cost, 0.0, chosen)
    counts = np.bincount(chosen, minlength=n_actions)
    budget = 0.5 * float(cost[np.arange(n), chosen].sum())
    oracle, _ = _time(lambda: kernels.choose(reward, cost, 1.0, chosen))
    before = mark_peak()
    solving, _ = _time(lambda: solve_budget(reward, cost, None, budget=budget))
    assigning, found = _time(lambda: assign_actions(reward, cost, None, budget=budget))
    peak = max(0.0, read_peak() - before)
    if found.cost > budget:
        raise AssertionError("the assignment is over its budget")
    figures: dict[str, float] = {
        "customers": n,
        "actions": n_actions,
        "oracle_cpu": oracle,
        "solve_cpu": solving,
        "assign_cpu": assigning,
        "oracle_passes": solving / oracle,
        "assigned_passes": assigning / oracle,
        "gap": found.gap,
        "peak_mib": peak,
        "peak_share": peak * 2**20 / (reward.nbytes + cost.nbytes),
    }
    if n <= _LARGEST_LIMITED:
        limits = _draw_limits(counts, budget)
        limiting, limited = _time(
            lambda: assign_within_limits(reward, cost, None, limits), repeats=1
        )
        figures |= {
            "constrained_cpu": limiting,
            "constrained_passes": limiting / oracle,
            "constrained_gap": limited.gap,
        }
    if lp and n * n_actions <= _LARGEST_PEER:
        with tempfile.TemporaryDirectory() as folder:
            peer = _run_peer(lp, reward, cost, budget, Path(folder) / "problem.npz")
        figures |= {
            "lp_cpu": peer["cpu"],
            "lp_cpu_ratio": peer["cpu"] / assigning,
            "lp_difference": peer["reward"] / found.bound - 1,
        }
    return figures


def _draw_limits(counts: np.ndarray, budget: float) -> list[Limit]:
    """Return the budget and a cap on every offer, most of them binding."""
    k, everybody = len(counts), np.ones(1, dtype=bool)
    return [
        Limit("budget", "cost", np.arange(k) > 0, everybody, most=budget),
        *(
            Limit(
                f"offer {each}",
                "offers",
                np.arange(k) == each,
                everybody,
                most=(0.4 + 0.06 * each) * counts[each],
            )
            for each in range(1, k)
        ),
    ]


def _time(call: Callable[[], Any], repeats: int = _REPEATS) -> tuple[float, Any]:
    """Return the least CPU seconds of a call, compiled before, and what it returned."""
    took, found = [], None
    for _ in range(repeats):
        started = time.process_time()
        found = call()
        took.append(time.process_time() - started)
    return min(took), found


def _run_peer(
    python: str, reward: np.ndarray, cost: np.ndarray, budget: float, file: Path
) -> dict[str, Any]:
    np.savez(file, reward=reward, cost=cost, budget=budget)
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [python, str(_PEER), str(file)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **single},
    )
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> int:
    """Run and print a row per size and the line of the last."""
    parser = argparse.ArgumentParser(prog="allocation", description=__doc__)
    parser.add_argument("--lp", default="", help="a Python with ortools and scipy")
    parser.add_argument("--quick", action="store_true", help="100,000 customers")
    parser.add_argument("--customers", type=int, default=0, help="sizes of so many alone")
    parsed = parser.parse_args()
    sizes = [each for each in _SIZES if parsed.customers in (0, each[0])]
    if parsed.quick:
        sizes = [(100_000, 4)]
    measure(20_000, 4, "")
    figures: dict[str, float] = {}
    for n, n_actions in sizes:
        figures = measure(n, n_actions, parsed.lp)
        print("  ".join(f"{name} {value:,.4g}" for name, value in figures.items()), flush=True)
    print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
