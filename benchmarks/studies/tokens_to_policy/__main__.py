"""What drives effects: python -m benchmarks.studies.tokens_to_policy.

Part 'null': how often a whole search finds something where the effect is the same for everybody,
by codes that are rare and an outcome that is skewed. Part 'power': two drivers among 500 candidates
that all know of them, as in the published simulations. Part 'bakery': tokens to codes to drivers
to a tree, in a bakery whose customers read and click. Part 'mails': the public test of two
e-mails, if its file is given.

Finished parts are kept and not worked out again.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.studies.resuming import print_line, run_missing
from benchmarks.studies.tokens_to_policy import bakery, mails, null, power

_KEPT = "benchmarks/kept/tokens_to_policy"
"""Finished parts, in the repository."""
_SEEDS = (101, 102, 103)
"""Worlds of the bakery; settings were chosen on 31 and 41."""
_NULL_BATCHES, _BATCHES, _OLDER_BATCHES = 8, 10, 2


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started = time.monotonic()
    parts, quick = parsed.parts.split(","), parsed.quick
    out = Path(".liftloop-tokens-to-policy" if quick else parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    if "null" in parts:
        n_searches = {"n_searches": 5} if quick else {}
        figures |= null.report_null(
            _gather(
                {
                    out / f"null-{n}-{batch}.parquet": partial(
                        null.run_null, batch, n, **n_searches
                    )
                    for n in null.SIZES[: 1 if quick else None]
                    for batch in range(2 if quick else _NULL_BATCHES)
                }
            )
        )
    if "power" in parts:
        small = {"m": 60, "n_seeds": 2} if quick else {}
        figures |= power.report_power(
            _gather(
                {
                    out / f"power-{'older' if is_older else 'newer'}-{n}-{batch}.parquet": partial(
                        power.run_power, batch, n, is_older=is_older, **small
                    )
                    for is_older, n_batches in ((False, _BATCHES), (True, _OLDER_BATCHES))
                    for n in power.SIZES[: 1 if quick else None]
                    for batch in range(1 if quick else n_batches)
                }
            )
        )
    if "bakery" in parts:
        encoders, seeds = (("bag",), (1,)) if quick else (bakery.ENCODERS, _SEEDS)
        figures |= bakery.report_bakery(
            _gather(
                {
                    out / f"bakery-{encoder}-{seed}.parquet": partial(
                        bakery.run_bakery, seed, encoder=encoder, is_quick=quick
                    )
                    for encoder in encoders
                    # The bag is judged; of the others a seed shows what they know.
                    for seed in (seeds if encoder == "bag" else seeds[:1])
                }
            )
        )
    if "mails" in parts:
        figures |= _search_mails(parsed, out)
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _search_mails(parsed: argparse.Namespace, out: Path) -> dict[str, float]:
    """Search both e-mails, if their file is there or they were searched before."""
    works = {
        out / f"mails-{mail.split()[0].lower()}.parquet": partial(
            mails.run_mails, mail, file=Path(parsed.hillstrom), n_halves=2 if parsed.quick else 50
        )
        for mail in mails.MAILS
    }
    if not parsed.hillstrom and not all(file.exists() for file in works):
        print("\nmails: left out, --hillstrom names no file")
        return {}
    return mails.report_mails(_gather(works))


def _gather(works: Mapping[Path, Callable[[], pl.DataFrame]]) -> pl.DataFrame:
    """Work out what is missing; return everything."""
    run_missing(works)
    return pl.concat([pl.read_parquet(file) for file in works])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tokens_to_policy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute: few and small trials")
    parser.add_argument("--parts", default="null,power,bakery,mails")
    parser.add_argument("--hillstrom", default="", help="hillstrom.csv or hillstrom.csv.gz")
    parser.add_argument("--out", default=_KEPT, help="what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
