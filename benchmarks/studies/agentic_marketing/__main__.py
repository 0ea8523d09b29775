"""The agentic-marketing document, re-run: python -m benchmarks.studies.agentic_marketing.

Its agent (24 hidden units, its reward with an XGBoost T-learner's uplift and a media mix's returns)
beside ours and policies that don't learn, in a loyalty programme frozen before any training and in
its ratchet version, where nobody drops a tier. Seeds that are finished are kept.
"""

import argparse
import time
from functools import partial

import polars as pl
from scipy import stats

from benchmarks.studies.agentic_marketing.document import PROGRAMMES, run_document
from benchmarks.studies.resuming import keep_seeds, print_line


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    started = time.monotonic()
    seeds = range(1, 2 if parsed.quick else parsed.seeds + 1)
    figures: dict[str, float] = {"seeds": len(seeds)}
    label = "quick" if parsed.quick else "full"
    for programme in list(PROGRAMMES)[: 1 if parsed.quick else None]:
        work = partial(run_document, programme=programme, is_quick=parsed.quick)
        lived = keep_seeds(parsed.out, f"{label}-document-{programme}", seeds, work)
        found = _report(programme, lived)
        suffix = "" if programme == "frozen" else f"_{programme}"
        for name in ("paper", "ours", "never_send", "always_send", "random", "myopic"):
            figures[f"{name}_gold{suffix}"] = found[name, "gold_share"]
        figures[f"ours_net_margin{suffix}"] = found["ours", "net_margin"]
        paid = found["paper_paid_by_margin", "net_margin"]
        figures[f"paper_paid_by_margin_net_margin{suffix}"] = paid
        figures[f"paper_net_margin{suffix}"] = found["paper", "net_margin"]
        figures[f"messages_to_gold_document_ratio{suffix}"] = found[
            "ours", "messages_per_gold_step"
        ] / max(found["paper", "messages_per_gold_step"], 1e-9)
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _report(programme: str, lived: pl.DataFrame) -> dict[tuple[str, str], float]:
    """Print a programme's tables; return the policies' figures."""
    n_seeds = lived["seed"].n_unique()
    reach = float(stats.t.ppf(0.975, n_seeds - 1)) / n_seeds**0.5 if n_seeds > 1 else 0.0
    print(f"\n{programme} programme, {n_seeds} training seeds: mean, half of its 95 % interval")
    found = {}
    for part in ("policy", "uplift", "media"):
        rows = lived.filter(pl.col("part") == part)
        table = rows.group_by("subject", "figure", maintain_order=True).agg(
            pl.col("value").mean().alias("mean"), pl.col("value").std().alias("sd")
        )
        for row in table.iter_rows(named=True):
            half = reach * (row["sd"] or 0.0)
            print(f"  {row['subject']:<22}{row['figure']:<24}{row['mean']:9.3f} ± {half:.3f}")
            found[row["subject"], row["figure"]] = row["mean"]
    first = lived.filter((pl.col("part") == "trace") & (pl.col("seed") == lived["seed"].min()))
    print("  The paper's agent, one gold customer")
    for row in first.iter_rows(named=True):
        print(f"    {row['subject']:<16}{row['figure']:<14}{row['value']:6.2f}")
    return found


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agentic_marketing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="training seeds")
    parser.add_argument("--quick", action="store_true", help="a minute: one seed, few updates")
    parser.add_argument("--out", default=".liftloop-agentic-marketing", help="what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
