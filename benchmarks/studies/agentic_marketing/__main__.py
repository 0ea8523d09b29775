"""The agentic-marketing document, re-run: python -m benchmarks.studies.agentic_marketing.

Part 'document': its agent (24 hidden units, its reward with an XGBoost T-learner's uplift and a
media mix's returns) beside ours and policies that don't learn, in a loyalty programme frozen before
any training and in its ratchet version, where nobody drops a tier.

Part 'bakery': ours from a log, beside myopic policies, the lifecycle rule and chance within one
budget, and the paper's agent; five trainings in each of four worlds. Part 'size': after logs of
more and fewer customers. Part 'ranking': fitted Q evaluation's ranking of policies, from a log,
beside the simulator's.

Seeds that are finished are kept.
"""

import argparse
import time
from functools import partial

import polars as pl
from scipy import stats

from benchmarks.studies.agentic_marketing.bakery import SIZES, WORLDS, run_bakery, run_size
from benchmarks.studies.agentic_marketing.document import PROGRAMMES, run_document
from benchmarks.studies.agentic_marketing.ranking import run_ranking
from benchmarks.studies.agentic_marketing.reporting import (
    report_bakery,
    report_ranking,
    report_sizes,
)
from benchmarks.studies.resuming import keep_seeds, print_line

_KEPT = "benchmarks/kept/agentic_marketing"
"""Finished seeds, in the repository. Delete one to work it out anew."""
_RANKED = 20


def main() -> int:
    """Run the study, print its tables and its line."""
    parsed = _parse()
    if parsed.quick:
        parsed.out = ".liftloop-agentic-marketing"
    started = time.monotonic()
    seeds = range(1, 2 if parsed.quick else parsed.seeds + 1)
    figures: dict[str, float] = {"seeds": len(seeds)}
    label = "quick" if parsed.quick else "full"
    parts = parsed.parts.split(",")
    if "document" in parts:
        figures |= _run_documents(parsed)
    if "bakery" in parts:
        work = partial(run_bakery, is_quick=parsed.quick)
        worlds = WORLDS[: 1 if parsed.quick else None]
        trainings = [100 * world + seed for world in worlds for seed in seeds]
        figures |= report_bakery(keep_seeds(parsed.out, f"{label}-bakery", trainings, work))
    if "size" in parts:
        sizes = [
            keep_seeds(
                parsed.out,
                f"{label}-size-{n_logged}",
                [100 * WORLDS[0] + seed for seed in seeds],
                partial(run_size, n_logged=n_logged, is_quick=parsed.quick),
            )
            for n_logged in (SIZES[:1] if parsed.quick else SIZES)
        ]
        report_sizes(pl.concat(sizes))
    if "ranking" in parts:
        work = partial(run_ranking, is_quick=parsed.quick)
        ranked = range(1, 3 if parsed.quick else _RANKED + 1)
        figures |= report_ranking(keep_seeds(parsed.out, f"{label}-ranking", ranked, work))
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def _run_documents(parsed: argparse.Namespace) -> dict[str, float]:
    """Run the document's experiment in both programmes; return the line's figures."""
    figures = {}
    label, seeds = ("quick", range(1, 2)) if parsed.quick else ("full", range(1, parsed.seeds + 1))
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
    return figures


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
    parser.add_argument("--out", default=_KEPT, help="what is kept")
    parser.add_argument("--parts", default="document,bakery,size,ranking")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
