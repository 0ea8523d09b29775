"""A budget for more customers than memory holds: python -m benchmarks.performance.streamed.

Draws customers x 10 actions as float32 into a Parquet file, block by block, and assigns them within
a budget in a process of its own: seconds, CPU seconds, peak memory, scans, gap to the bound. At
10 and 100 million customers; --quick takes a minute.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.performance.allocation import draw_problem

_ACTIONS = tuple(f"a{place}" for place in range(10))
_BLOCK = 1_000_000
_BUDGET = 0.35
"""Currency per customer: half of what their best actions cost, about."""


def write_problem(path: Path, n: int) -> None:
    """Write n customers' rewards and costs.

    Parameters
    ----------
    path
        The file.
    n
        Customers.
    """
    names = [f"{kind}.{action}" for kind in ("reward", "cost") for action in _ACTIONS]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False) as writer:
        for start in range(0, n, _BLOCK):
            reward, cost = draw_problem(min(_BLOCK, n - start), len(_ACTIONS), seed=start + 1)
            columns = [*reward.T.astype(np.float32), *cost.T.astype(np.float32)]
            writer.write_table(pa.table(columns, schema=schema))


def assign(path: Path, n: int) -> dict[str, float]:
    """Assign a file's customers and return the figures.

    Parameters
    ----------
    path
        Of ``write_problem``.
    n
        Customers.

    Returns
    -------
    dict
        Seconds, CPU seconds, peak MiB, scans, share of customers kept, gap.
    """
    from ml.allocation.streaming import assign_parquet

    started, cpu = time.monotonic(), time.process_time()
    found = assign_parquet(path, _ACTIONS, budget=_BUDGET * n)
    if found.cost > _BUDGET * n:
        raise AssertionError("the assignment is over its budget")
    return {
        "customers": n,
        "actions": len(_ACTIONS),
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "file_mib": path.stat().st_size / 2**20,
        "scans": found.n_scans,
        "kept_share": found.n_kept / n,
        "gap": 1 - found.reward / found.bound,
        "budget_used_share": found.cost / (_BUDGET * n),
    }


def main() -> int:
    """Run and print a row per size and the line of the last."""
    parser = argparse.ArgumentParser(prog="streamed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a million customers")
    parser.add_argument("--customers", type=int, default=0, help="so many alone")
    parser.add_argument("--folder", default="", help="where the file goes (100 million: 8 GiB)")
    parser.add_argument("--assign", default="", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.assign:
        print(json.dumps(assign(Path(parsed.assign), parsed.customers)))
        return 0
    sizes = [parsed.customers] if parsed.customers else [10_000_000, 100_000_000]
    figures: dict[str, float] = {}
    for n in [1_000_000] if parsed.quick else sizes:
        with tempfile.TemporaryDirectory(dir=parsed.folder or None) as folder:
            path = Path(folder) / "customers.parquet"
            write_problem(path, n)
            command = [sys.executable, "-m", "benchmarks.performance.streamed"]
            command += ["--assign", str(path), "--customers", str(n)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print("  ".join(f"{name} {value:,.4g}" for name, value in figures.items()), flush=True)
    print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
