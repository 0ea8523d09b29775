"""How fast the bakery lives: python -m benchmarks.performance.world (--quick).

Each size in a process of its own, streamed to Parquet in a temporary folder: lived days with their
experiment's decisions, no burn-in, no truth. There is no peer: the figure is customers per second.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_CHILD = """
import json, resource, sys, time
from dataclasses import replace
from pathlib import Path
from ml.simulate.stream import stream_world
from ml.simulate.worlds import find_world
config = replace(find_world("bakery"), n_customers=int(sys.argv[1]), burn_in_days=0)
started = time.perf_counter()
rows = stream_world(config, Path(sys.argv[3]), n_days=int(sys.argv[2]))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_mib": peak, "n_rows": rows}))
"""


@dataclass(frozen=True)
class Measurement:
    """One size: wall-clock seconds, peak resident memory in MiB, rows written."""

    n_customers: int
    n_days: int
    seconds: float
    peak_mib: float
    n_rows: int


def measure(n_customers: int, *, n_days: int) -> Measurement:
    """Live a world of a size once.

    Parameters
    ----------
    n_customers
        Size.
    n_days
        Days from day 0 on.

    Returns
    -------
    Measurement
        Of a fresh process; imports don't count.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(n_customers), str(n_days), str(Path(folder) / "world")]
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=1_800,
        )
    return Measurement(n_customers, n_days, **json.loads(done.stdout))


def write_line(rows: list[Measurement]) -> str:
    """Return the figures as one JSON line; linearity is the largest size's cost per customer.

    Over the smallest size's: 1 is linear, below 1 is better.

    Parameters
    ----------
    rows
        From the smallest size to the largest.

    Returns
    -------
    str
        JSON.
    """
    smallest, largest = rows[0], rows[-1]
    per_customer = [row.seconds / row.n_customers for row in (smallest, largest)]
    figures = {
        "customers_per_second": largest.n_customers / largest.seconds,
        "peak_mib": largest.peak_mib,
        "linearity": per_customer[1] / per_customer[0],
        "seconds": largest.seconds,
        "customers": largest.n_customers,
    }
    return json.dumps({name: round(value, 4) for name, value in figures.items()})


def main() -> int:
    """Measure all sizes and print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="10,000 and 100,000 customers, 10 days"
    )
    parsed = parser.parse_args()
    sizes, n_days = ((10_000, 100_000), 10) if parsed.quick else ((10_000, 100_000, 1_000_000), 30)
    print(
        f"{'customers':>11}{'days':>6}{'seconds':>9}{'rows':>13}{'us/customer-day':>17}{'MiB':>8}"
    )
    rows = []
    for size in sizes:
        row = measure(size, n_days=n_days)
        rows.append(row)
        per_day = row.seconds / size / n_days * 1e6
        print(
            f"{size:>11,}{n_days:>6}{row.seconds:>9.1f}{row.n_rows:>13,}{per_day:>17.2f}"
            f"{row.peak_mib:>8,.0f}",
            flush=True,
        )
    print(write_line(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
