"""Selected heads against the truth: python -m benchmarks.studies.effects (--quick).

Per world, size and seed a log is drawn, heads are fitted and judged on the evaluation cohort's true
effects. Finished logs are kept and not drawn again.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.studies.effects.judging import SMALLEST_ERROR, judge

_PROVABLE = 2.0


def main() -> int:
    """Run the study and print its tables and its line."""
    parsed = _parse()
    started = time.monotonic()
    if parsed.quick:
        parsed.sizes, parsed.seeds, parsed.worlds = [20_000], 1, ["bakery"]
    out = Path(parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    wanted = [
        (world, size, seed)
        for size in parsed.sizes
        for seed in range(parsed.first_seed, parsed.first_seed + parsed.seeds)
        for world in parsed.worlds
    ]
    files = {each: out / "{}-{}-{}.parquet".format(*each) for each in wanted}
    missing = [each for each, file in files.items() if not file.exists()]
    with ProcessPoolExecutor(parsed.workers) as pool:
        running = {
            pool.submit(judge, *each, with_peers=parsed.peers, causalml=parsed.causalml): each
            for each in missing
        }
        for done, future in enumerate(as_completed(running), start=1):
            each = running[future]
            temporary = files[each].with_suffix(".tmp")
            future.result().write_parquet(temporary)
            temporary.replace(files[each])
            print(f"  {done} of {len(missing)} logs judged: {each}", flush=True)
    rows = pl.concat([pl.read_parquet(file) for file in files.values()], how="diagonal")
    figures: dict[str, float] = {}
    print(_HEADER)
    for (world, size), part in rows.group_by("world", "n_decisions", maintain_order=True):
        mine = summarise(part)
        print(_write_row(f"{world}, {size:,}", mine))
        figures |= {f"{name}_{world}_{size}": value for name, value in mine.items()}
    if "econml_s_value_error" in rows.columns:
        print(compare_with_peers(rows))
    print(f"{time.monotonic() - started:.0f} s")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return 0


def summarise(rows: pl.DataFrame) -> dict[str, float]:
    """Return the figures of one world and size.

    Parameters
    ----------
    rows
        Of ``judge``, every seed.

    Returns
    -------
    dict
        ``ratio_*``: of a head's error to the constant effect's, over heads whose constant errs by
        at least a cent; ``total_ratio``: root of summed squares, mean over seeds;
        ``value_abstaining``: share of value heads, ``provable_abstaining`` of those whose true
        effects would as a ranking reach a z of 2; ``gain_*``: policy value over the constant
        effects', per decision, mean over seeds and its 95 % t-interval; ``caution_gain``: of the
        policy of lower bounds, relative, and ``caution_better`` in so many seeds; ``oracle_share``.
    """
    judged = rows.filter(pl.col("constant_error") >= SMALLEST_ERROR)
    ratios = (judged["error"] / judged["constant_error"]).to_numpy()
    squares = judged.filter(pl.col("outcome") == "value").group_by("seed", maintain_order=True)
    total = squares.agg(
        (
            (pl.col("n_judged") * pl.col("error") ** 2).sum()
            / (pl.col("n_judged") * pl.col("constant_error") ** 2).sum()
        )
        .sqrt()
        .alias("ratio")
    )["ratio"].to_numpy()
    logs = rows.unique("seed", maintain_order=True)
    gain = (logs["heads_value"] - logs["constant_value"]).to_numpy()
    half = 0.0
    if len(gain) > 1:
        half = float(stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain))
    value = rows.filter(pl.col("outcome") == "value")
    provable = value.filter(pl.col("ideal_z") >= _PROVABLE)["is_abstaining"].to_numpy()
    return {
        "ratio_median": float(np.median(ratios)),
        "ratio_90th": float(np.quantile(ratios, 0.9)),
        "value_total_ratio": float(total.mean()),
        "value_abstaining": float(value["is_abstaining"].to_numpy().mean()),
        "provable_abstaining": float(provable.mean()) if len(provable) else 0.0,
        "gain": float(gain.mean()),
        "gain_low": float(gain.mean()) - half,
        "caution_gain": float((logs["cautious_value"] / logs["heads_value"]).to_numpy().mean()) - 1,
        "caution_better": float((logs["cautious_value"] > logs["heads_value"]).to_numpy().mean()),
        "oracle_share": float(logs["heads_value"].to_numpy().sum())
        / float(logs["oracle_value"].to_numpy().sum()),
        "constant_share": float(logs["constant_value"].to_numpy().sum())
        / float(logs["oracle_value"].to_numpy().sum()),
        "seeds": float(len(gain)),
    }


def compare_with_peers(rows: pl.DataFrame) -> pl.DataFrame:
    """Return how often selected heads erred less than each peer, and than the best of them.

    Parameters
    ----------
    rows
        Of ``judge`` with peers, every seed.

    Returns
    -------
    pl.DataFrame
        world, n_decisions, outcome, peer, better_in (share of seeds), error_ratio (heads over
        peer, median).
    """
    logs = rows.drop_nulls("econml_s_value_error").unique(
        ["world", "n_decisions", "seed"], maintain_order=True
    )
    table = []
    for (world, size), part in logs.group_by("world", "n_decisions", maintain_order=True):
        for outcome in ("value", "cost"):
            suffix = f"_{outcome}_error"
            own = part[f"heads{suffix}"].to_numpy()
            errors = {
                name.removesuffix(suffix): part[name].to_numpy()
                for name in part.columns
                if name.endswith(suffix)
                and name != f"heads{suffix}"
                and not part[name].null_count()
            }
            errors["best of all"] = np.min(list(errors.values()), axis=0)
            for peer, each in errors.items():
                table.append(
                    {
                        "world": world,
                        "n_decisions": size,
                        "outcome": outcome,
                        "peer": peer,
                        "better_in": float((own < each).mean()),
                        "error_ratio": float(np.median(own / each)),
                    }
                )
    return pl.DataFrame(table)


_HEADER = (
    f"{'':<34}{'median':>8}{'90th':>7}{'value':>7}{'abstain':>9}{'prov.':>7}{'gain':>8}{'low':>8}"
    f"{'share':>7}{'const':>7}{'lower':>8}{'seeds':>7}   (errors over the constant effect's)"
)


def _write_row(name: str, figures: dict[str, float]) -> str:
    return (
        f"{name:<34}{figures['ratio_median']:>8.3f}{figures['ratio_90th']:>7.3f}"
        f"{figures['value_total_ratio']:>7.3f}{figures['value_abstaining']:>9.0%}"
        f"{figures['provable_abstaining']:>7.0%}{figures['gain']:>+8.3f}{figures['gain_low']:>+8.3f}{figures['oracle_share']:>7.3f}"
        f"{figures['constant_share']:>7.3f}{figures['caution_gain']:>+8.1%}{figures['seeds']:>7.0f}"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="effects", description=__doc__)
    parser.add_argument("--worlds", nargs="+", default=["bakery", "bakery_plain"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50_000, 200_000])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=401)
    parser.add_argument("--quick", action="store_true", help="one log of 20,000: a minute")
    parser.add_argument("--workers", type=int, default=2, help="logs judged side by side")
    parser.add_argument("--peers", action="store_true", help="fit EconML's learners too")
    parser.add_argument("--causalml", default="", help="a Python with causalml, for its learners")
    parser.add_argument("--out", default=".liftloop-effects", help="folder of finished logs")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
