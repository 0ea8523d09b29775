"""How fast off-policy evaluation is: python -m benchmarks.performance.ope --obp PYTHON (--quick).

Five estimators by one pass of ours and by obp, on the same rows, one thread, CPU seconds of each
process. obp's intervals are timed with few and with three times as many resamples; the difference
is scaled to ours, 1,000, and its points are added. Ours is streamed from Parquet once more, for
its memory.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.performance.memory import mark_peak, read_peak
from ml.ope.bootstrap import N_RESAMPLES, bootstrap_mean
from ml.ope.intervals import bound_by_likelihood, estimate_mean
from ml.ope.sums import LogPart, PolicySums, read_parts, sum_log

_SCRIPT = Path(__file__).with_name("ope_peer.py")
_LIMIT = 10.0
_SHARED = ("ips", "snips", "dr", "switch_dr", "dros")
_SIZES = ((1_000_000, 10, 20), (10_000_000, 4, 2))
"""Rounds, actions, and how often obp resamples."""


def draw_part(n: int, n_actions: int, seed: int = 1) -> LogPart:
    """Return a log of n decisions, three a customer, with a policy and an outcome model."""
    random = np.random.default_rng(seed)
    logging = random.random((n, n_actions)) + 0.1
    logging /= logging.sum(axis=1, keepdims=True)
    action = (random.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(0, n_actions - 1)
    propensity = logging[np.arange(n), action]
    policy = random.random((n, n_actions)) ** 3
    policy /= policy.sum(axis=1, keepdims=True)
    expected = random.random((n, n_actions))
    reward = (random.random(n) < expected[np.arange(n), action]).astype(float)
    return LogPart(np.arange(n) // 3, action, propensity, reward, policy, expected)


def measure(n: int, n_actions: int, obp: str, n_peer_resamples: int) -> dict[str, float]:
    """Time ours, and obp's where there is one, on one log.

    Parameters
    ----------
    n, n_actions
        Size of the log.
    obp
        A Python with obp; empty for none.
    n_peer_resamples
        Of obp's bootstrap.

    Returns
    -------
    dict
        Figures of the benchmark's line.
    """
    part = draw_part(n, n_actions)
    _sum([draw_part(1_000, n_actions)]).bootstrap(seed=1)
    figures: dict[str, float] = {"rounds": n, "actions": n_actions}
    started = time.process_time()
    summed = _sum([part])
    figures["point_cpu"] = time.process_time() - started
    started = time.process_time()
    summed.bootstrap(seed=1)
    figures["interval_cpu"] = time.process_time() - started
    figures["clustered_cost_ratio"] = _compare_clustering(part)
    with tempfile.TemporaryDirectory() as folder:
        if obp:
            peer = _run_peer(part, obp, n_peer_resamples, Path(folder) / "log.npz")
            interval = peer["point_cpu"] + peer["cpu_per_resample"] * N_RESAMPLES
            figures |= {
                "obp_point_cpu": peer["point_cpu"],
                "obp_interval_cpu": interval,
                "obp_extra_mib": peer["extra_mib"],
                "point_cpu_ratio": peer["point_cpu"] / figures["point_cpu"],
                "interval_cpu_ratio": interval / (figures["point_cpu"] + figures["interval_cpu"]),
                "max_abs_diff": max(
                    abs(peer["values"][name] - summed.values[name]) for name in _SHARED
                ),
            }
        inputs = sum(each.nbytes for each in vars(part).values()) / 2**20
        file = Path(folder) / "log.parquet"
        pl.DataFrame(dict(vars(part))).write_parquet(file, row_group_size=50_000)
        del part
        figures |= _stream(file, inputs)
    return figures


def _compare_clustering(part: LogPart) -> float:
    """Return what a clustered interval costs over one that takes every decision for a customer."""
    values = part.reward * part.policy[np.arange(len(part.action)), part.action] / part.propensity
    cost = []
    for customer in (part.customer, np.arange(len(values))):
        started = time.process_time()
        estimate_mean(values, customer)
        bootstrap_mean(values, customer, seed=1)
        bound_by_likelihood(values, customer)
        cost.append(time.process_time() - started)
    return cost[0] / cost[1]


def _sum(parts: Iterable[LogPart]) -> PolicySums:
    return sum_log(parts, limit=_LIMIT, shrinkage=_LIMIT)


def _run_peer(part: LogPart, python: str, n_resamples: int, file: Path) -> dict[str, Any]:
    np.savez(
        file,
        action=part.action,
        reward=part.reward,
        propensity=part.propensity,
        policy=part.policy,
        expected=part.expected_reward,
        limit=_LIMIT,
    )
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [python, str(_SCRIPT), str(file), str(n_resamples)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **single},
    )
    if done.returncode:
        raise SystemExit(f"obp failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _stream(file: Path, inputs_mib: float) -> dict[str, float]:
    """Return what a process takes in memory to stream the log, beyond its first part."""
    command = [sys.executable, "-m", "benchmarks.performance.ope", "--stream", str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    extra = float(done.stdout)
    return {"extra_mib": extra, "extra_share": extra / inputs_mib}


def _report_stream(file: Path) -> None:
    """Print the peak of streaming the log above what the process holds before (Linux)."""
    _sum(itertools.islice(read_parts(file), 1))
    before = mark_peak()
    _sum(read_parts(file))
    print(read_peak() - before)


def main() -> int:
    """Run and print a row per size and the line of the largest."""
    parser = argparse.ArgumentParser(prog="ope", description=__doc__)
    parser.add_argument("--obp", default="", help="a Python with sb-obp")
    parser.add_argument("--quick", action="store_true", help="100,000 rounds")
    parser.add_argument("--rounds", type=int, default=0, help="one size alone")
    parser.add_argument("--stream", default="", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.stream:
        _report_stream(Path(parsed.stream))
        return 0
    sizes = [each for each in _SIZES if parsed.rounds in (0, each[0])]
    if parsed.quick:
        sizes = [(100_000, 4, 20)]
    figures: dict[str, float] = {}
    for n, n_actions, n_resamples in sizes:
        figures = measure(n, n_actions, parsed.obp, n_resamples)
        print("  ".join(f"{name} {value:,.4g}" for name, value in figures.items()), flush=True)
    print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
