"""The three-in-one world model, re-run: python -m benchmarks.studies.three_in_one.

Part 'seeds', for every world. Prediction: areas under the curve of adapters on beliefs and on raw
units, with and without each consumer's own history, beside plain networks and the oracle. Effects:
each estimator's error over the true effect's standard deviation (1 is what the true mean effect
would have), for push, which is random, and the sale, which depends on the weekday and binned
demographics ('identified') or on latent taste ('hidden'). Consistency: log-odds of blocks of units
beside the simulator's own.

Part 'large': the sale's effect by 1,024 consumers, and at the published discount. Part
'histories': few labels, latent traits, lags and a recurrent network, by 512 consumers. Part
'published': the published training's bound beside ours, at equal CPU time.

Seeds that are finished are kept.
"""

import argparse
import time
from functools import partial

import polars as pl
from scipy import stats

from benchmarks.studies.resuming import keep_seeds, print_line
from benchmarks.studies.three_in_one.histories import run_history
from benchmarks.studies.three_in_one.published import compare_training
from benchmarks.studies.three_in_one.seeds import (
    HIDDEN,
    IDENTIFIED,
    PUBLISHED,
    SMALL_EFFECT,
    run_sale,
    run_seed,
)

_LEARNERS = ("s_learner", "t_learner", "x_learner", "dr_learner", "forest", "tarnet")
_LARGE, _MANY = 1_024, 512
_KEPT = "benchmarks/kept/three_in_one"
"""Finished seeds, in the repository: all of them take hours. Delete one to work it out anew."""
_LARGE_SEEDS, _HISTORY_SEEDS = 5, 3
_CONSISTENCY = {
    "spearman": "consistency_spearman",
    "sign": "consistency_sign",
    "sign_large": "consistency_sign_large",
    "trajectory_spearman": "trajectory_spearman",
    "trajectory_sign": "trajectory_sign",
    "penalty_high": "penalty_high_base",
    "penalty_low": "penalty_low_base",
}


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started = time.monotonic()
    n_seeds = 1 if parsed.quick else parsed.seeds
    n_customers = 32 if parsed.quick else parsed.customers
    figures: dict[str, float] = {"seeds": n_seeds, "consumers": n_customers}
    parts = parsed.parts.split(",")
    out = ".liftloop-three-in-one" if parsed.quick else parsed.out
    if "seeds" in parts:
        for world in [IDENTIFIED] if parsed.quick else parsed.worlds.split(","):
            seeds = range(parsed.first_seed, parsed.first_seed + n_seeds)
            work = partial(run_seed, world=world, n_customers=n_customers, is_quick=parsed.quick)
            lived = keep_seeds(out, f"{world}-{n_customers}", seeds, work)
            figures |= _report(world.removeprefix("purchase_world_"), lived)
    if "large" in parts:
        for world, size, has_all in (
            (IDENTIFIED, n_customers if parsed.quick else _LARGE, True),
            (SMALL_EFFECT, n_customers, False),
        ):
            work = partial(
                run_sale,
                world=world,
                n_customers=size,
                has_all_learners=has_all,
                is_quick=parsed.quick,
            )
            seeds = range(parsed.first_seed, parsed.first_seed + min(_LARGE_SEEDS, n_seeds))
            lived = keep_seeds(out, f"sale-{world}-{size}", seeds, work)
            figures |= _report(f"{world.removeprefix('purchase_world_')}_{size}", lived)
    if "histories" in parts:
        size = n_customers if parsed.quick else _MANY
        work = partial(run_history, n_customers=size, is_quick=parsed.quick)
        seeds = range(parsed.first_seed, parsed.first_seed + min(_HISTORY_SEEDS, n_seeds))
        figures |= _report("histories", keep_seeds(out, f"histories-{size}", seeds, work))
    if "published" in parts:
        minutes = 0.2 if parsed.quick else parsed.minutes
        work = partial(compare_training, minutes=minutes)
        kept = keep_seeds(out, f"published-{minutes:g}", [parsed.first_seed], work)
        figures |= _report("training", kept)
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _report(name: str, lived: pl.DataFrame) -> dict[str, float]:
    """Print a world's tables; return the line's figures."""
    n_seeds = lived["seed"].n_unique()
    figures: dict[str, float] = {}
    print(f"\n{name}, {n_seeds} seeds: mean, and half of its 95 % interval")
    reach = float(stats.t.ppf(0.975, n_seeds - 1)) / n_seeds**0.5 if n_seeds > 1 else 0.0
    for (part,), rows in lived.group_by("part", maintain_order=True):
        print(f"  {part}")
        table = rows.group_by("subject", "contender", maintain_order=True).agg(
            pl.col("value").mean().alias("mean"), pl.col("value").std().alias("sd")
        )
        for row in table.sort("subject", maintain_order=True).iter_rows(named=True):
            half = reach * (row["sd"] or 0.0)
            subject, contender = row["subject"], row["contender"]
            print(f"    {subject:<22}{contender:<28}{row['mean']:>9.4f} ± {half:.4f}")
            key = _name(str(part), subject, contender)
            if key:
                figures[f"{name}_{key}"] = row["mean"]
    errors = lived.filter(pl.col("part") == "error")
    for subject in errors["subject"].unique(maintain_order=True):
        figures |= _count_wins(name, subject, errors.filter(subject=subject))
    return figures


def _name(part: str, subject: str, contender: str) -> str | None:
    """Return what the line calls a figure; None if it is in the tables alone."""
    if part == "auc":
        return f"{subject}_auc_{contender}"
    if part in ("error", "bias"):
        return f"effect_{part}_{subject}_{contender}"
    if part == "consistency" and subject in _CONSISTENCY:
        key = _CONSISTENCY[subject]
        return key if contender == "ours" else f"{key}_{contender}"
    kept = ("refused", "r2", "bound", "seconds")
    return f"{part}_{subject}_{contender}" if part in kept else None


def _count_wins(name: str, subject: str, errors: pl.DataFrame) -> dict[str, float]:
    """Return how often the adapter has less error than every learner, and than the constant."""
    wide = errors.pivot("contender", index="seed", values="value")
    best = wide.select(pl.min_horizontal([each for each in _LEARNERS if each in wide.columns]))
    least, ours = best.to_series().to_numpy(), wide["adapter"].to_numpy()
    suffix = "confounded" if subject == "sale" else "randomised"
    found = {
        f"wins_{suffix}": float((ours < least).mean()),
        f"beats_constant_{suffix}": float((ours < wide["constant"].to_numpy()).mean()),
        f"error_over_best_{suffix}": float((ours / least).mean()),
    }
    print("  " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))
    return {f"{name}_{key}": value for key, value in found.items()}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="three_in_one", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--customers", type=int, default=256)
    parser.add_argument("--worlds", default=f"{IDENTIFIED},{HIDDEN},{PUBLISHED}")
    parser.add_argument("--parts", default="seeds", help="of seeds, large, histories and published")
    parser.add_argument("--minutes", type=float, default=15.0, help="of CPU, in part published")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a minute: 32 consumers, one seed of one world, few trees",
    )
    parser.add_argument("--out", default=_KEPT, help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
