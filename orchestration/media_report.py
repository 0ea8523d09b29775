"""The media mix in words.

Reads: lake lift_tests, media_returns, channel_budgets. Writes: nothing.
"""

from collections.abc import Iterator

from ml.core.programme import Programme
from orchestration.lake import Lake


def describe_media_mix(lake: Lake, programme: Programme) -> Iterator[str]:
    """Say what the newest media mix found, and what it recommends."""
    night = lake.dates("channel_budgets")[-1]
    lifts, returns = lake.read("lift_tests", night), lake.read("media_returns", night)
    budgets = lake.read("channel_budgets", night)
    unit = f"{programme.currency} of KPI per {programme.currency} spent"
    yield f"Media mix as of {night}, {unit} (90 %)"
    for row in returns.sort("channel", "kind", "fit").iter_rows(named=True):
        fit = "" if row["fit"] == "with_lift_tests" else "  (without lift tests)"
        yield (
            f"  {row['channel']:<16} {row['kind']:<9} {row['mean']:7.2f} "
            f"[{row['low']:.2f}, {row['high']:.2f}]{fit}"
        )
    yield "Lift tests by the randomised log"
    for row in lifts.iter_rows(named=True):
        yield (
            f"  {row['channel']:<16} {row['lift']:12,.0f} ± {1.96 * row['standard_error']:,.0f} "
            f"for {row['spend']:,.0f} spent, {row['n_sent']:,} messages, {row['n_not']:,} without"
        )
    yield f"The same spend, split anew ({programme.currency} a week)"
    for row in budgets.sort("is_message", "channel").iter_rows(named=True):
        name = f"{row['channel']} messages" if row["is_message"] else row["channel"]
        per = row["most_per_decision"]
        yield (
            f"  {name:<16} {row['current']:10,.0f} -> {row['recommended']:10,.0f} "
            f"[{row['low']:,.0f}, {row['high']:,.0f}]"
            + ("" if per is None else f"  {per:.4f} per decision")
        )
    if budgets["is_message"].any():
        yield (
            "  limits of Decide: yes"
            if programme.has_media_budgets
            else "  limits of Decide: no (has_media_budgets in programme.json)"
        )
