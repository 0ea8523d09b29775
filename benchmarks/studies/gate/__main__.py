"""Judge off-policy evaluation and the gate by known truths: python -m benchmarks.studies.gate.

Coverage and errors by kind of log, sequences of weekly gates without and with an improvement, and
gates on logs with wrong propensities. What is finished is kept and not simulated again.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from benchmarks.studies.gate.coverage import (
    CELLS,
    cover,
    summarise_coverage,
    summarise_tuning,
    tune,
)
from benchmarks.studies.gate.sequences import (
    CORRUPTIONS,
    corrupt_logs,
    live_sequences,
    measure_unit,
)
from benchmarks.studies.resuming import run_missing

_MULTIPLES = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
_BATCH = 50


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started, out = time.monotonic(), Path(parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    cells = CELLS[::7] if parsed.quick else CELLS
    n_logs, n_tuned, n_sequences = (40, 4, 50) if parsed.quick else (2_000, 200, 500)
    label = "quick" if parsed.quick else "full"
    error, per_gain = measure_unit()
    gains = {multiple: multiple * error / per_gain for multiple in _MULTIPLES}
    jobs: dict[Path, Callable[[], pl.DataFrame]] = {}
    for number, cell in enumerate(cells):
        jobs[out / f"{label}-cover-{number}.parquet"] = partial(cover, cell, seed=1, n_logs=n_logs)
        jobs[out / f"{label}-tune-{number}.parquet"] = partial(tune, cell, seed=2, n_logs=n_tuned)
    for multiple, gain in gains.items():
        for first in range(0, n_sequences, _BATCH):
            file = out / f"{label}-gates-{multiple:g}-{first}.parquet"
            jobs[file] = partial(
                live_sequences, multiple, gain=gain, seeds=range(first, first + _BATCH)
            )
    for kind in CORRUPTIONS:
        file = out / f"{label}-corrupt-{kind.replace(' ', '-')}.parquet"
        jobs[file] = partial(corrupt_logs, kind, gain=2 * gains[4.0], n_logs=n_sequences // 2)
    run_missing(jobs)
    kept = {
        part: pl.concat([pl.read_parquet(file) for file in jobs if f"{label}-{part}-" in file.name])
        for part in ("cover", "tune", "gates", "corrupt")
    }
    figures = _report(kept, out, unit=error)
    print(f"\n{time.monotonic() - started:.0f} s")
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))
    return 0


def _report(kept: dict[str, pl.DataFrame], out: Path, *, unit: float) -> dict[str, float]:
    """Print every table, draw the power, return the line's figures."""
    pl.Config.set_tbl_rows(400).set_tbl_cols(20).set_tbl_width_chars(160).set_float_precision(4)
    pl.Config.set_tbl_hide_column_data_types(True).set_tbl_hide_dataframe_shape(True)
    pl.Config.set_fmt_str_lengths(60)
    covered = summarise_coverage(kept["cover"])
    print("\nIntervals at 95 %, where the diagnostics accept the log\n", covered)
    # A kind of log that is refused more often than not has no interval to speak of.
    trusted = covered.filter(pl.col("accepted") >= 0.5)
    bootstrap = trusted.filter(pl.col("interval") == "bootstrap")["coverage"].to_numpy()
    likelihood = trusted.filter(
        (pl.col("interval") == "likelihood") & (pl.col("estimator") == "dr")
    )
    errors = covered.filter(pl.col("interval") == "bootstrap").pivot(
        "estimator", index="cell", values="rmse"
    )
    best = np.minimum(errors["ips"].to_numpy(), errors["snips"].to_numpy())
    dr_close = float((errors["dr"].to_numpy() <= 1.05 * best).mean())
    tuned = summarise_tuning(kept["tune"])
    print("\nTuned against the best in hindsight\n", tuned)
    gates = kept["gates"]
    power = gates.group_by("multiple", maintain_order=True).agg(
        ((pl.col("promoted_at") > 0) & (pl.col("promoted_at") <= 4)).mean().alias("by gate 4"),
        (pl.col("promoted_at") == 1).mean().alias("at gate 1"),
        (pl.col("promoted_at") > 0).mean().alias("ever"),
    )
    print(f"\nPromoted, by true improvement in standard errors of one gate ({unit:.4f})\n", power)
    _plot_power(power, out / "power.png")
    corrupted = (
        kept["corrupt"]
        .group_by("kind", maintain_order=True)
        .agg(pl.col("is_refused").mean().alias("refused"), pl.col("is_named").mean().alias("named"))
    )
    print("\nWrong propensities, a candidate that is better by 8 standard errors\n", corrupted)
    promoted = dict(zip(power["multiple"], power["by gate 4"], strict=True))
    return {
        "coverage_min": float(bootstrap.min()),
        "coverage_mean": float(bootstrap.mean()),
        "coverage_max": float(bootstrap.max()),
        "gate_coverage_min": float(likelihood["coverage"].to_numpy().min()),
        "gate_mean_width": float(likelihood["width"].to_numpy().mean()),
        "dr_within_share": dr_close,
        **{
            f"{tuner}_within_share": float(
                (tuned.filter(pl.col("method") == tuner)["ratio"].to_numpy() <= 1.2).mean()
            )
            for tuner in ("slope", "validation")
        },
        "false_promotion": float(power.filter(pl.col("multiple") == 0)["ever"][0]),
        "true_promotion_within_4": float(promoted[4.0]),
        "corrupt_refused": float(corrupted["refused"].to_numpy().min()),
    }


def _plot_power(power: pl.DataFrame, file: Path) -> None:
    """Draw how often a candidate is promoted, by its true improvement."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("at gate 1", "by gate 4"):
        axes.plot(power["multiple"], power[name], marker="o", label=name)
    axes.axhline(0.05, color="grey", lw=0.8, ls="--")
    axes.set_xlabel("true improvement, standard errors of one gate's paired difference")
    axes.set_ylabel("share promoted")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: fewer cells and logs")
    parser.add_argument("--out", default=".liftloop-gate", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
