"""The three-in-one world model, re-run: python -m benchmarks.studies.three_in_one.

Prediction: areas under the curve of adapters on beliefs and on raw units, with and without each
consumer's own history, beside plain networks and the oracle. Effects: each estimator's error over
the true effect's standard deviation (1 is what the true mean effect would have), for push, which is
random, and the sale, which depends on the weekday and binned demographics ('identified') or on
latent taste ('hidden'). Seeds that are finished are kept.
"""

import argparse
import time
from functools import partial

import polars as pl
from scipy import stats

from benchmarks.studies.resuming import keep_seeds, print_line
from benchmarks.studies.three_in_one.seeds import HIDDEN, IDENTIFIED, PUBLISHED, run_seed


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started = time.monotonic()
    n_seeds = 1 if parsed.quick else parsed.seeds
    n_customers = 32 if parsed.quick else parsed.customers
    figures: dict[str, float] = {"seeds": n_seeds, "consumers": n_customers}
    for world in [IDENTIFIED] if parsed.quick else parsed.worlds.split(","):
        lived = keep_seeds(
            parsed.out,
            f"{world}-{n_customers}",
            range(parsed.first_seed, parsed.first_seed + n_seeds),
            partial(run_seed, world=world, n_customers=n_customers, is_quick=parsed.quick),
        )
        figures |= _report(world, lived)
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _report(world: str, lived: pl.DataFrame) -> dict[str, float]:
    """Print a world's tables; return the line's figures."""
    n_seeds = lived["seed"].n_unique()
    name = world.removeprefix("purchase_world_")
    figures: dict[str, float] = {}
    print(f"\n{world}, {n_seeds} seeds: mean, and half of its 95 % interval")
    for part in ("auc", "error", "bias", "rank"):
        table = (
            lived.filter(part=part)
            .group_by("contender", "subject", maintain_order=True)
            .agg(pl.col("value").mean().alias("mean"), pl.col("value").std().alias("sd"))
        )
        if table.is_empty():
            continue
        print(f"  {part}")
        reach = float(stats.t.ppf(0.975, n_seeds - 1)) / n_seeds**0.5 if n_seeds > 1 else 0.0
        for row in table.iter_rows(named=True):
            half = reach * (row["sd"] or 0.0)
            print(f"    {row['subject']:<10}{row['contender']:<24}{row['mean']:>9.4f} ± {half:.4f}")
            key = "effect_error" if part == "error" else part
            figures[f"{name}_{row['subject']}_{key}_{row['contender']}"] = row["mean"]
    errors = lived.filter(pl.col("part") == "error")
    if errors.height:
        figures |= _count_wins(name, errors)
    return figures


def _count_wins(name: str, errors: pl.DataFrame) -> dict[str, float]:
    """Return how often the adapter has less error than every learner, and than the constant."""
    figures = {}
    for subject in errors["subject"].unique(maintain_order=True):
        wide = errors.filter(subject=subject).pivot("contender", index="seed", values="value")
        learners = ["s_learner", "t_learner", "x_learner", "dr_learner", "forest", "tarnet"]
        best = wide.select(pl.min_horizontal(learners)).to_series().to_numpy()
        ours, constant = wide["adapter"].to_numpy(), wide["constant"].to_numpy()
        suffix = "confounded" if subject == "sale" else "randomised"
        figures[f"{name}_wins_{suffix}"] = float((ours < best).mean())
        figures[f"{name}_beats_constant_{suffix}"] = float((ours < constant).mean())
        figures[f"{name}_error_over_best_{suffix}"] = float((ours / best).mean())
    return figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="three_in_one", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--customers", type=int, default=256)
    parser.add_argument("--worlds", default=f"{PUBLISHED},{IDENTIFIED},{HIDDEN}")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a minute: 32 consumers, one seed of one world, few trees",
    )
    parser.add_argument("--out", default=".liftloop-three-in-one", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
