"""Drifts of the bakery: python -m benchmarks.studies.drift.

Part 'noticing': how soon monitoring alarms, how often it cries wolf, what recalibration mends. Part
'updates': the rule that updates by drift and by new evidence, beside updates every week and none.

Finished seeds are kept and not lived again.
"""

import argparse
import time
from functools import partial

from benchmarks.studies.drift.noticing import live_seed, report_noticing
from benchmarks.studies.drift.updating import live_updates, report_updates
from benchmarks.studies.resuming import keep_seeds, print_line

_KEPT = "benchmarks/kept/drift"
"""Finished seeds of updates, in the repository: one takes twenty minutes."""


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started = time.monotonic()
    figures: dict[str, float] = {}
    parts = parsed.parts.split(",")

    def list_seeds(n_full: int) -> range:
        n_seeds = 1 if parsed.quick else parsed.seeds or n_full
        return range(parsed.first_seed, parsed.first_seed + n_seeds)

    if "noticing" in parts:
        n_nights, n_customers = (24, 3_000) if parsed.quick else (60, 12_000)
        live = partial(live_seed, n_nights=n_nights, n_customers=n_customers)
        lived = keep_seeds(parsed.out, f"{n_customers}-{n_nights}", list_seeds(50), live)
        figures |= report_noticing(lived, n_nights=n_nights)
    if "updates" in parts:
        n_nights, n_customers = (10, 1_500) if parsed.quick else (56, 5_000)
        update = partial(live_updates, n_nights=n_nights, n_customers=n_customers)
        sizes, out = f"updates-{n_customers}-{n_nights}", parsed.out if parsed.quick else _KEPT
        lived = keep_seeds(out, sizes, list_seeds(4), update)
        figures |= report_updates(lived)
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="drift", description=__doc__)
    parser.add_argument("--seeds", type=int, help="default: 50 of noticing, 4 of updates")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--parts", default="noticing,updates")
    parser.add_argument("--quick", action="store_true", help="a minute: one small life, few nights")
    parser.add_argument("--out", default=".liftloop-drift", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
