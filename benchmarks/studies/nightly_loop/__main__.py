"""Live the nightly loop in a simulated world: python -m benchmarks.studies.nightly_loop.

Without --seeds one life, the system's nights through Dagster itself; with --seeds many, through
ml.pipeline directly, and with --parity one more life through Dagster. Finished seeds are kept and
not lived again.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl

from benchmarks.studies.nightly_loop.contenders import Gate
from benchmarks.studies.nightly_loop.living import Life, live
from benchmarks.studies.nightly_loop.report import (
    add_increments,
    plot_lives,
    summarise,
    tabulate,
    write_line,
)
from ml.simulate.config import WorldConfig
from ml.simulate.worlds import find_world

_WORKERS = 2


def main() -> int:
    """Run the study and print its table and its line."""
    parsed = _parse()
    config = find_world(parsed.world)
    if parsed.customers:
        config = replace(config, n_customers=parsed.customers)
    started, out = time.monotonic(), Path(parsed.out)
    if parsed.quick:
        config = replace(config, n_customers=3_000)
        lives = [live(config, n_nights=3, progress=_say)]
    elif parsed.seeds:
        lives = _live_seeds(config, parsed, out)
    else:
        lives = [_live_once(config, parsed.nights, out)]
    if parsed.parity:
        _live_once(config, parsed.nights, out)
    nights = add_increments(pl.concat([life.nights for life in lives]))
    gates = [gate for life in lives for gate in life.gates]
    figures = summarise(
        nights,
        promotions=sum(gate.is_passed for gate in gates),
        refusals=sum(not gate.is_passed for gate in gates),
    )
    plot = out / f"{config.name}.png"
    plot_lives(nights, plot)
    print(f"\n{config.name}, {config.n_customers:,} customers, {len(lives)} lives\n")
    print(tabulate(nights))
    print(f"\nplot: {plot}\n{time.monotonic() - started:.0f} s")
    print(write_line(figures))
    return 0


def _live_seeds(config: WorldConfig, parsed: argparse.Namespace, out: Path) -> list[Life]:
    """Live many seeds, two at a time; those already kept are read."""
    folder = out / "seeds"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{config.name}-v{config.version}-{config.n_customers}-{parsed.nights}"
    files = {
        seed: folder / f"{stem}-{seed}.parquet"
        for seed in range(parsed.first_seed, parsed.first_seed + parsed.seeds)
    }
    missing = [seed for seed, file in files.items() if not file.exists()]
    with ProcessPoolExecutor(_WORKERS) as pool:
        running = {
            pool.submit(live, replace(config, seed=seed), n_nights=parsed.nights): seed
            for seed in missing
        }
        for done, future in enumerate(as_completed(running), start=1):
            seed, life = running[future], future.result()
            gates = json.dumps([asdict(gate) for gate in life.gates])
            temporary = files[seed].with_suffix(".tmp")
            life.nights.with_columns(pl.lit(gates).alias("gates")).write_parquet(temporary)
            temporary.replace(files[seed])
            _say(f"seed {seed} lived ({done} of {len(missing)}): {', '.join(map(str, life.gates))}")
    return [_read_life(file) for file in files.values()]


def _read_life(file: Path) -> Life:
    """Return a kept life."""
    kept = pl.read_parquet(file)
    gates = [Gate(**each) for each in json.loads(kept["gates"][0])]
    return Life(kept.drop("gates"), gates)


def _live_once(config: WorldConfig, n_nights: int, out: Path) -> Life:
    """Live the system's nights through Dagster, the others' directly, and compare the two."""
    from benchmarks.studies.nightly_loop.through_dagster import live_through_dagster

    home = out / f"home-{config.name}-{config.n_customers}"
    replayed = live_through_dagster(config, home=home, n_nights=n_nights)
    life = live(config, n_nights=n_nights, replayed=replayed.tables, progress=_say)
    _say(
        f"parity: {life.n_differing:,} of {life.n_compared:,} decisions differ between Dagster's "
        "and the direct path"
    )
    return replace(life, gates=replayed.gates)


def _say(message: str) -> None:
    print(f"  {message}", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nightly_loop", description=__doc__)
    parser.add_argument("--world", default="bakery", help="a name of docs/worlds.md")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=0, help="lives through ml.pipeline directly")
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--customers", type=int, default=0)
    parser.add_argument("--parity", action="store_true", help="one more life through Dagster")
    parser.add_argument("--quick", action="store_true", help="a minute: 3 nights, 3,000 customers")
    parser.add_argument("--out", default=".liftloop-loop", help="folder of lives, plots, homes")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
