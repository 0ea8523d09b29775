"""The media mix against known truths: python -m benchmarks.studies.media_mix.

Coverage of 90 % intervals on series drawn from the prior; what lift tests do where hidden demand
draws spend; the bakery's bought media and Robyn's sample: time, diagnostics, 26 weeks ahead; the
last posterior as prior beside a full refit. What is finished is kept.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.studies.media_mix.parts import (
    compare_lift_tests,
    compare_updates,
    cover_prior,
    fit_bakery,
    fit_robyn,
)
from benchmarks.studies.resuming import print_line, run_missing

_ROBYN = Path(__file__).parents[4] / "shared/data/mmm-robyn-weekly/dt_simulated_weekly.csv"
_BATCH = 20


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started, out = time.monotonic(), Path(parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    is_quick = parsed.quick
    n_draws, label = (100, "quick") if is_quick else (300, "full")
    n_cases, n_confounded, n_steps = (1, 1, 1) if is_quick else (parsed.seeds, 20, 6)
    jobs: dict[Path, Callable[[], pl.DataFrame]] = {}
    covers = []
    for first in range(0, n_cases, _BATCH):
        file = out / f"{label}-cover-{first}.parquet"
        covers.append(file)
        jobs[file] = partial(
            cover_prior, range(first, min(first + _BATCH, n_cases)), n_draws=n_draws
        )
    lifts = []
    for first in range(0, n_confounded, 5):
        file = out / f"{label}-lift-{first}.parquet"
        lifts.append(file)
        jobs[file] = partial(
            compare_lift_tests, range(first, min(first + 5, n_confounded)), n_draws=n_draws
        )
    bakery, robyn, updates = (
        out / f"{label}-{name}.parquet" for name in ("bakery", "robyn", "updates")
    )
    kept_draws = n_draws if is_quick else 800
    jobs[bakery] = partial(fit_bakery, n_draws=kept_draws)
    if parsed.robyn.exists():
        jobs[robyn] = partial(fit_robyn, parsed.robyn, n_draws=kept_draws)
    else:
        print(f"Robyn's sample is not there, left out: {parsed.robyn}")
    if not is_quick:
        jobs[updates] = partial(compare_updates, n_draws=n_draws, n_steps=n_steps)
    run_missing(jobs)

    figures = _report_cover(pl.concat([pl.read_parquet(file) for file in covers]))
    figures |= _report_lifts(pl.concat([pl.read_parquet(file) for file in lifts]))
    for name, file in (("bakery", bakery), ("robyn", robyn)):
        if file in jobs:
            figures |= _report_fit(name, pl.read_parquet(file))
    if updates in jobs:
        _report_updates(pl.read_parquet(updates))
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _report_cover(table: pl.DataFrame) -> dict[str, float]:
    """Print coverage by kind of return; return its figures."""
    table = table.with_columns(_is_within().alias("covers"))
    n = table["seed"].n_unique()
    print(f"\nCoverage of 90 % intervals, {n} series drawn from the prior, 3 channels each")
    covered = {}
    for kind in ("average", "marginal"):
        rows = table.filter(pl.col("kind") == kind)
        covered[kind] = float(rows["covers"].to_numpy().mean())
        width = np.median(((rows["high"] - rows["low"]) / rows["truth"]).to_numpy())
        print(f"  {kind:<10} {covered[kind]:.3f}, median width {width:.2f} x truth")
    fits = table.group_by("seed").agg(pl.col("r_hat", "divergent").first())
    r_hat, divergent = fits["r_hat"].to_numpy(), fits["divergent"].to_numpy()
    print(
        f"  R-hat above 1.01 in {(r_hat > 1.01).mean():.1%} of the fits, above 1.05 in "
        f"{(r_hat > 1.05).mean():.1%}; divergent {divergent.mean():.2%}"
    )
    return {"coverage_roi": covered["average"], "coverage_marginal_roi": covered["marginal"]}


def _report_lifts(table: pl.DataFrame) -> dict[str, float]:
    """Print what lift tests do to width, bias and coverage; return the figures."""
    table = table.with_columns(
        (pl.col("high") - pl.col("low")).alias("width"),
        (pl.col("mean") / pl.col("truth") - 1).alias("bias"),
        _is_within().alias("covers"),
        pl.when(pl.col("channel") == "push")
        .then(pl.lit("drawn by demand"))
        .otherwise(pl.lit("not confounded"))
        .alias("spend"),
    )
    print(f"\nHidden demand draws one channel's spend, {table['seed'].n_unique()} series")
    grouped = table.group_by("spend", "kind", "fit", maintain_order=True).agg(
        pl.col("width").mean(), pl.col("bias").mean(), pl.col("covers").mean()
    )
    for row in grouped.sort("spend", "kind", "fit").iter_rows(named=True):
        print(
            f"  {row['spend']:<16}{row['kind']:<10}{row['fit']:<9} bias {row['bias']:+.3f}, width "
            f"{row['width']:.3f}, covered {row['covers']:.2f}"
        )
    found = {(row["spend"], row["kind"], row["fit"]): row for row in grouped.iter_rows(named=True)}
    width = table.group_by("fit").agg(pl.col("width").mean())
    by_fit = dict(width.iter_rows())
    return {
        "lift_test_width_ratio": by_fit["with"] / by_fit["without"],
        "bias_confounded_without": found["drawn by demand", "average", "without"]["bias"],
        "bias_confounded_with": found["drawn by demand", "average", "with"]["bias"],
    }


def _report_fit(name: str, table: pl.DataFrame) -> dict[str, float]:
    """Print a fit's figures; return them."""
    print(f"\n{name}")
    values = dict(table.iter_rows())
    for figure, value in values.items():
        print(f"  {figure:<28}{value:12.4g}")
    kept = ("cpu_seconds", "r_hat", "effective_draws", "divergent", "error_ahead")
    figures = {f"{name}_{each}": values[each] for each in (*kept, "error_of_last_year")}
    return figures | ({"fit_seconds": values["cpu_seconds"]} if name == "bakery" else {})


def _report_updates(table: pl.DataFrame) -> None:
    """Print the last posterior as prior, beside a full refit."""
    print("\nBakery, 24 weeks taken up four at a time: error of mean returns over truth, width")
    grouped = table.group_by("fit", "kind", maintain_order=True).agg(
        (pl.col("mean") / pl.col("truth") - 1).abs().mean().alias("error"),
        ((pl.col("high") - pl.col("low")) / pl.col("truth")).mean().alias("width"),
    )
    for row in grouped.iter_rows(named=True):
        print(f"  {row['fit']:<22}{row['kind']:<10}{row['error']:.3f}  {row['width']:.3f}")


def _is_within() -> pl.Expr:
    return pl.col("truth").is_between("low", "high")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="media_mix", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="series drawn from the prior")
    parser.add_argument("--robyn", type=Path, default=_ROBYN)
    parser.add_argument("--quick", action="store_true", help="a minute: two series, short chains")
    parser.add_argument("--out", default=".liftloop-media-mix", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
