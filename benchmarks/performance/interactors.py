"""How fast candidates are scored: python -m benchmarks.performance.interactors.

10,000 customers, 1,000 sparse codes, 999 draws of the offers; against the plain loop that refits a
regression for each candidate and draw, a few of them, scaled to all.
"""

import argparse
import json
import time

import numba
import numpy as np
from scipy import sparse

from ml.interactors.randomisation import Trial, score_candidates

_LOOPED = 5


def main() -> int:
    """Measure, print a table and a line."""
    parser = argparse.ArgumentParser(prog="interactors", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parsed = parser.parse_args()
    n, m, n_draws = (1_000, 100, 99) if parsed.quick else (10_000, 1_000, 999)
    print(f"{numba.get_num_threads()} threads")
    figures = {}
    _time(n // 10, m // 10, 9, share=0.01)  # compiles
    for name, share, sizes in (
        ("sparse", 0.01, (n, m, n_draws)),
        ("dense", 1.0, (n, m, n_draws)),
        ("half the customers", 0.01, (n // 2, m, n_draws)),
        ("half the codes", 0.01, (n, m // 2, n_draws)),
        ("half the draws", 0.01, (n, m, n_draws // 2)),
    ):
        seconds, scores = _time(*sizes, share=share)
        figures[name] = seconds
        print(f"  {name:<22}{seconds:8.2f} s   {scores:,} statistics")
    each = _loop(n, m)
    looped = each * m * n_draws
    print(f"  {'the plain loop':<22}{looped:8.0f} s   ({each * 1e3:.2f} ms each, scaled)")
    line = {"seconds": figures["sparse"], "dense_seconds": figures["dense"]}
    line["loop_ratio"] = looped / figures["sparse"]
    print(json.dumps({name: float(f"{value:.4g}") for name, value in line.items()}))
    return 0


def _make(n: int, m: int, share: float) -> tuple[Trial, sparse.csr_array]:
    random = np.random.default_rng(1)
    codes = random.random((n, m))
    codes = sparse.csr_array(codes * (random.random((n, m)) < share))
    offered = random.random(n) < 0.5
    outcome = random.normal(size=n) + 0.3 * offered
    return Trial(outcome, offered, np.full(n, 0.5), np.arange(n)), codes


def _time(n: int, m: int, n_draws: int, *, share: float) -> tuple[float, int]:
    """Return seconds, and how many statistics they brought."""
    trial, codes = _make(n, m, share)
    started = time.perf_counter()
    score_candidates(trial, codes, np.empty((n, 0)), n_draws=n_draws, seed=1)
    return time.perf_counter() - started, m * n_draws


def _loop(n: int, m: int) -> float:
    """Return seconds of one candidate's regression after one draw of the offers."""
    trial, codes = _make(n, m, 0.01)
    random = np.random.default_rng(2)
    started = time.perf_counter()
    for _ in range(_LOOPED):
        chance = (random.random(n) < 0.5) - 0.5
        for column in range(_LOOPED):
            code = codes[:, [column]].toarray()[:, 0]
            design = np.column_stack([np.ones(n), code, chance, chance * code])
            inverse = np.linalg.inv(design.T @ design)
            found = inverse @ (design.T @ trial.outcome)
            rest = trial.outcome - design @ found
            meat = (design * rest[:, None] ** 2).T @ design
            found[-1] / (inverse @ meat @ inverse)[-1, -1] ** 0.5
    return (time.perf_counter() - started) / _LOOPED**2


if __name__ == "__main__":
    raise SystemExit(main())
