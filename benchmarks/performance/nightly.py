"""A night at many sizes: python -m benchmarks.performance.nightly.

Lands eight days of a bakery of n customers, lives its first night, then measures the second, from
delivery to page: seconds of each stage, peak memory of all processes together, disk. The policy
that decides was trained on a sample: a smaller home of the same world. At 10,000 to 1 million
customers, or --customers 10000000; --quick takes a few minutes.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import psutil

from ml.simulate.stream import stream_world
from ml.simulate.worlds import find_world

SIZES, QUICK = (10_000, 100_000, 1_000_000), (2_000, 20_000)
FIRST = date(2026, 3, 2)
"""The sample's first night, after eight weeks; the sizes' first, after as many days as below."""
_HISTORY_DAYS = 8
_SHARD = 500_000
_OF_SAMPLE = ("champion_changes", "evaluation_record", "promotions", "policy_values", "action_plan")
"""What a sample's training leaves in the lake beside the registry."""
_STAGE = re.compile(r"^  (?P<stage>[^ ].*): done in (?P<seconds>[\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """One command's print, seconds and peak of memory."""

    printed: str
    seconds: float
    peak_mib: float


def land(home: Path, n: int) -> None:
    """Land what is delivered up to the first night, shard by shard.

    Parameters
    ----------
    home
        A new state folder.
    n
        Customers.
    """
    config = find_world("bakery")
    # All are customers already: a night's cost is told per customer.
    config = replace(config, first_date=FIRST - timedelta(days=_HISTORY_DAYS), joining_share=0.0)
    shards = range(0, n, _SHARD)
    for place, start in enumerate(shards):
        own = replace(config, n_customers=min(_SHARD, n - start), seed=config.seed + place)
        scratch = home / "shard"
        stream_world(own, scratch, n_days=_HISTORY_DAYS)
        (scratch / "programme.json").replace(home / "programme.json")
        for path in scratch.glob("*/*/world.parquet"):
            table = path.parent.parent.name
            if place and table in ("actions", "media_spend", "media_kpi"):
                continue
            target = home / "landing" / table / path.parent.name / f"shard-{place}.parquet"
            target.parent.mkdir(parents=True, exist_ok=True)
            rows = pl.read_parquet(path)
            marks = [
                (pl.col(name) + f"-{place}").alias(name)
                for name in ("customer_id", "decision_id")
                if name in rows.columns
            ]
            rows.with_columns(marks).write_parquet(target, compression_level=1)
        shutil.rmtree(scratch)


def run(home: Path, *arguments: str, **environment: str) -> Measured:
    """Run a command on a state folder and watch the memory of its processes.

    Raises
    ------
    AssertionError
        If it fails, with the end of what it printed.
    """
    asked = {**os.environ, "LIFTLOOP_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-W", "ignore", "-m", "orchestration.commands", *arguments]
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = [0.0]
    watching = threading.Thread(target=_watch, args=(process.pid, peak))
    watching.start()
    printed, _ = process.communicate()
    seconds = time.monotonic() - started
    watching.join()
    if process.returncode:
        raise AssertionError(printed[-3000:])
    return Measured(printed, seconds, peak[0])


def measure(folder: Path, n: int, sample: Path) -> dict[str, float]:
    """Live a home of n customers up to its second night; return that night's figures.

    Parameters
    ----------
    folder
        For the home, deleted afterwards.
    n
        Customers.
    sample
        A home whose champion decides.
    """
    home = folder / f"home-{n}"
    home.mkdir()
    started = time.monotonic()
    land(home, n)
    landed = time.monotonic() - started
    for table in _OF_SAMPLE:
        if (sample / "lake" / table).exists():
            shutil.copytree(sample / "lake" / table, home / "lake" / table)
    tracked = {"MLFLOW_TRACKING_URI": f"sqlite:///{sample / 'mlflow' / 'mlflow.db'}"}
    first = run(home, "nightly", "--source", "landing", "--date", str(FIRST), **tracked)
    land_morning(home)
    night = FIRST + timedelta(days=1)
    done = run(home, "nightly", "--source", "landing", "--date", str(night), **tracked)
    emitted = home / "lake" / "assignment_table" / f"decision_date={night}" / "part-0.parquet"
    figures = {
        "customers": n,
        "decisions": pl.scan_parquet(emitted).select(pl.len()).collect().item(),
        "seconds": done.seconds,
        "peak_mib": done.peak_mib,
        "first_night_seconds": first.seconds,
        "first_night_peak_mib": first.peak_mib,
        "landing_seconds": landed,
        "disk_mib": sum(each.stat().st_size for each in home.rglob("*") if each.is_file()) / 2**20,
    }
    for found in _STAGE.finditer(done.printed):
        name = re.sub(r"\W+", "_", found["stage"].lower()).strip("_")
        figures[f"stage_{name}_seconds"] = float(found["seconds"])
    shutil.rmtree(home)
    return figures


def land_morning(home: Path) -> None:
    """Land the second night's delivery: the day before it again, its clock put on."""
    day, night = str(FIRST), str(FIRST + timedelta(days=1))
    for folder in (home / "landing").glob(f"*/{day}"):
        target = folder.parent / night
        target.mkdir(exist_ok=True)
        for path in folder.glob("shard-*.parquet"):
            if folder.parent.name in ("assignments", "deliveries", "actions"):
                continue
            rows = pl.read_parquet(path)
            clocks = [name for name, kind in rows.schema.items() if kind == pl.Datetime]
            days = [name for name, kind in rows.schema.items() if kind == pl.Date]
            later = rows.with_columns(pl.col(*clocks, *days) + pl.duration(days=1))
            if "decision_id" in rows.columns:
                later = later.with_columns(pl.lit(None, pl.String).alias("decision_id"))
            later.write_parquet(target / path.name, compression_level=1)


def _watch(pid: int, peak: list[float]) -> None:
    """Keep the most that a process and those it started held together, MiB."""
    while True:
        try:
            root = psutil.Process(pid)
            held = 0
            for each in (root, *root.children(recursive=True)):
                try:
                    held += each.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
        except psutil.NoSuchProcess:
            return
        if held == 0:
            return
        peak[0] = max(peak[0], held / 2**20)
        time.sleep(0.1)


def main() -> int:
    """Run and print a row per size, and the line."""
    parser = argparse.ArgumentParser(prog="nightly", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--customers", type=int, nargs="*", default=(), help="these sizes")
    parser.add_argument("--sample", default="", help="a home whose champion decides; else made")
    parser.add_argument("--folder", default="", help="where homes go")
    parsed = parser.parse_args()
    sizes = tuple(parsed.customers) or (QUICK if parsed.quick else SIZES)
    rows = []
    with tempfile.TemporaryDirectory(dir=parsed.folder or None) as scratch:
        folder = Path(scratch)
        sample = Path(parsed.sample) if parsed.sample else folder / "sample"
        if not parsed.sample:
            sample.mkdir()
            n_sample = "2000" if parsed.quick else "10000"
            run(sample, "nightly", "--source", "simulated", "--customers", n_sample)
        for n in sizes:
            rows.append(measure(folder, n, sample))
            print(_describe(rows[-1]), flush=True)
    each = [row["seconds"] / row["customers"] for row in rows]
    line = {
        "stage_seconds": {
            str(int(row["customers"])): {
                name.removeprefix("stage_").removesuffix("_seconds"): value
                for name, value in row.items()
                if name.startswith("stage_")
            }
            for row in rows
        },
        "night_seconds": {str(int(row["customers"])): round(row["seconds"], 1) for row in rows},
        "peak_mib": {str(int(row["customers"])): round(row["peak_mib"]) for row in rows},
        # Cost per customer at the largest size over that at the one before.
        "linearity": round(each[-1] / each[-2], 3) if len(each) > 1 else None,
    }
    print(json.dumps(line))
    return 0


def _describe(row: dict[str, float]) -> str:
    """Return one size's row, its stages below."""
    lines = [
        f"{row['customers']:>12,.0f} customers {row['decisions']:>10,.0f} decisions "
        f"{row['seconds']:>8.1f} s {row['peak_mib']:>8,.0f} MiB, disk {row['disk_mib']:,.0f} MiB "
        f"(first night with {_HISTORY_DAYS} days' history {row['first_night_seconds']:.0f} s, "
        f"{row['first_night_peak_mib']:,.0f} MiB; landing {row['landing_seconds']:.0f} s)"
    ]
    lines += [
        f"    {name.removeprefix('stage_').removesuffix('_seconds'):<60}{value:>8.1f} s"
        for name, value in row.items()
        if name.startswith("stage_")
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
