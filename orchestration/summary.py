"""The night in words that a marketing engineer understands.

Reads: lake. Writes: nothing.
"""

from collections.abc import Iterator
from datetime import date

import polars as pl

from ml.core.policy import FROZEN
from ml.core.programme import Programme
from ml.pipeline.spending import BUDGET
from orchestration.lake import Lake


def summarise_night(lake: Lake, programme: Programme, night: date) -> str:
    """Return the summary of a sealed night as plain text.

    Parameters
    ----------
    lake
        With the night's tables.
    programme
        Currency and notes.
    night
        Sealed.

    Returns
    -------
    str
        Lines of at most 100 characters.
    """
    sections = (
        _describe_delivery(lake, night),
        _describe_outcomes(lake, programme, night),
        _describe_experiment(lake, programme),
        _describe_policies(lake, programme),
        describe_gate(lake, programme, night),
        describe_champion(lake, programme, night),
        _describe_alarms(lake, night),
        _describe_decisions(lake, programme, night),
    )
    title = f"Liftloop, night of {night}, programme {programme.name}"
    notes = [f"value: {programme.value_note}", f"cost: {programme.cost_note}"]
    lines = [title, "=" * len(title), *notes]
    for section in sections:
        lines += ["", *section]
    return "\n".join(lines)


def compare_shadow(lake: Lake, night: date) -> pl.DataFrame | None:
    """Return what a shadowing candidate would have given instead, None on nights without one.

    Columns assigned, shadow (action ids), customers.
    """
    if not lake.has("shadow_assignments", night):
        return None
    assigned, would = (
        lake.read(table, night).select("customer_id", pl.col("action_id").alias(name))
        for table, name in (("assignment_table", "assigned"), ("shadow_assignments", "shadow"))
    )
    return (
        assigned.join(would, on="customer_id")
        .group_by("assigned", "shadow")
        .agg(pl.len().alias("customers"))
        .sort("customers", "assigned", "shadow", descending=[True, False, False])
    )


def _describe_delivery(lake: Lake, night: date) -> Iterator[str]:
    nights = lake.dates("ingestion_counts")
    history = pl.concat([lake.read("ingestion_counts", day) for day in nights if day <= night])
    tonight = lake.read("ingestion_counts", night)
    yield "Rows                    delivered     accepted  quarantined   (all nights / tonight)"
    totals = history.group_by("table", maintain_order=True).agg(
        pl.col("delivered", "accepted", "quarantined").sum()
    )
    for row in totals.filter(pl.col("delivered") > 0).iter_rows(named=True):
        now = tonight.filter(pl.col("table") == row["table"])["delivered"].sum()
        yield (
            f"  {row['table']:<18}{row['delivered']:>13,}{row['accepted']:>13,}"
            f"{row['quarantined']:>13,}   / {now:,}"
        )
    refused = pl.concat([lake.read("quarantine", day) for day in nights if day <= night])
    reasons = refused.explode("reasons").group_by("table", "reasons").len()
    for table, reason, count in reasons.sort("len", descending=True).head(8).iter_rows():
        yield f"  quarantined: {count:,} x {table}: {reason}"


def _describe_outcomes(lake: Lake, programme: Programme, night: date) -> Iterator[str]:
    outcomes = lake.scan("realised_outcomes", until=night)
    yield f"Realised so far, {programme.currency} per matured decision"
    for horizon, days, prefix, is_matured in (
        ("learning", programme.learning_horizon_days, "", "is_matured"),
        ("accounting", programme.accounting_horizon_days, "accounting_", "is_accounting_matured"),
    ):
        matured = outcomes.filter(pl.col(is_matured)).select(
            pl.len(), pl.col(f"{prefix}value", f"{prefix}cost").mean()
        )
        n_matured, value, cost = matured.collect().row(0)
        if n_matured:
            yield (
                f"  {horizon} horizon, {days} days: value {value:.4f}, cost {cost:.4f} "
                f"({n_matured:,} decisions)"
            )


def _describe_experiment(lake: Lake, programme: Programme) -> Iterator[str]:
    days = lake.dates("experiment_effects")
    if not days:
        return
    effects = lake.read("experiment_effects", days[-1])
    yield (
        f"Unadjusted effects of assigning an offer, not none; matured until {days[-1]} "
        "(95 % interval)"
    )
    for row in effects.filter(pl.col("outcome").is_in(["spend", "visit"])).iter_rows(named=True):
        unit = programme.currency if row["outcome"] == "spend" else "share"
        yield (
            f"  {row['action_id']:<20}{row['outcome']:<7}{row['effect']:>+11.6f} "
            f"[{row['low']:+.4f}, {row['high']:+.4f}] {unit}   "
            f"({row['n_offered']:,} offered, {row['n_control']:,} not)"
        )


def _describe_policies(lake: Lake, programme: Programme) -> Iterator[str]:
    days = lake.dates("policy_values")
    if not days:
        yield "No policy was valued yet: tonight's decisions are exploration."
        return
    values = lake.read("policy_values", days[-1]).filter(pl.col("estimator") == "dr")
    n_customers = values["n_customers"][0]
    yield (
        f"Policy value over no-offer, {programme.currency} per decision (DR, "
        f"{n_customers:,} evaluation customers, 95 % interval)"
    )
    if programme.later_value_weight > 0:
        yield "  net: value - cost, and what offers are proven to bring after the learning horizon"
    for name in values["policy"].unique(maintain_order=True):
        cells = [f"  {name:<20}"]
        for reward in ("value", "cost", "net_value"):
            row = values.filter((pl.col("policy") == name) & (pl.col("reward") == reward)).row(
                0, named=True
            )
            cells.append(
                f"{reward.removesuffix('_value')} {row['incremental_value']:+.4f} "
                f"[{row['incremental_low']:+.4f}, {row['incremental_high']:+.4f}]"
            )
        yield "  ".join(cells)


def describe_gate(lake: Lake, programme: Programme, night: date) -> Iterator[str]:
    """Say what the newest gate found, and what came of it."""
    days = lake.dates("evaluation_record")
    if not days:
        return
    row = lake.read("evaluation_record", days[-1]).row(0, named=True)
    deciding = lake.read("night_budget", night)["policy_version"][0]
    if not row["is_passed"]:
        verdict = "NOT PROVEN, champion stays"
    elif deciding == row["candidate_version"]:
        verdict = "PROMOTED"
    else:
        held = lake.has("promotions", days[-1]) and lake.read("promotions", days[-1])["reason"][0]
        verdict = f"PROVEN, not promoted ({held})" if held else "PROVEN, not promoted"
    yield (
        f"Gate: candidate v{row['candidate_version']} against champion "
        f"v{row['champion_version']}: {verdict} (record of {days[-1]}, "
        f"{(night - days[-1]).days} days old)"
    )
    yield (
        f"  net-value difference {row['net_value_difference']:+.4f} "
        f"[{row['difference_low']:+.4f}, {row['difference_high']:+.4f}] {programme.currency} per "
        f"decision ({row['level']:.1%} interval: gate {row['gate_number']} against this champion); "
        f"smallest detectable difference {row['smallest_detectable_difference']:.4f}"
    )
    yield "  by lifecycle " + ", ".join(
        f"{each['lifecycle']} {each['difference']:+.4f}" for each in row["lifecycle_differences"]
    )
    yield (
        f"  expected cost {row['expected_cost']:.4f} of {row['budget_per_decision']:.4f} allowed; "
        f"effective sample size {row['effective_sample_size']:,.0f} of {row['n_decisions']:,}"
    )
    yield from (f"  reason: {reason}" for reason in row["reasons"])


def describe_champion(lake: Lake, programme: Programme, night: date) -> Iterator[str]:
    """Say who decides, why, and how the two arms compare."""
    if set(lake.read("assignment_table", night)["arm"]) == {FROZEN}:
        yield "Frozen: nobody gets anything"
    days = [day for day in lake.dates("champion_changes") if day <= night]
    if not days:
        return
    change = lake.read("champion_changes", days[-1]).row(-1, named=True)
    yield f"Champion: v{change['to_version']} ({change['cause']}: {change['reason']})"
    arms = lake.read("online_validation", night)
    for row in arms.iter_rows(named=True):
        line = (
            f"  arms of v{row['champion_version']} and v{row['challenger_version']}, which it "
            f"replaced: {row['status']} after {row['n_decisions']:,} matured decisions"
        )
        if row["difference"] is not None:
            line += (
                f", realised net-value difference {row['difference']:+.4f} [{row['low']:+.4f}, "
                f"{row['high']:+.4f}] {programme.currency} ({row['level']:.0%}, at any time)"
            )
        yield line


def _describe_alarms(lake: Lake, night: date) -> Iterator[str]:
    if not lake.has("monitoring", night):
        return
    signals = lake.read("monitoring", night)
    alarms = signals.filter("is_alarm")
    yield f"Monitoring: {alarms.height} of {signals.height} signals alarm"
    for row in alarms.head(8).iter_rows(named=True):
        yield (
            f"  ALARM {row['signal']}, {row['subject']}: {row['statistic']:.2f}, "
            f"limit {row['limit']:.2f}"
        )


def _describe_decisions(lake: Lake, programme: Programme, night: date) -> Iterator[str]:
    table, held = lake.read("assignment_table", night), lake.read("holdout", night)
    budget = lake.read("night_budget", night).row(0, named=True)
    shadow = compare_shadow(lake, night)
    lifecycles = table["lifecycle"].value_counts(sort=True)
    yield (
        f"Decided: {table.height:,} customers ("
        + ", ".join(f"{count:,} {name}" for name, count in lifecycles.iter_rows())
        + f"), {held.height:,} held out"
    )
    n_challenger = table.filter(pl.col("arm") == "challenger").height
    yield (
        f"  by policy v{budget['policy_version']} ({budget['policy_kind']}), "
        + (f"{n_challenger:,} of them by the challenger, " if n_challenger else "")
        + f"{int(table['is_exploration'].sum()):,} exploration"
    )
    if shadow is not None:
        n_other = int(shadow.filter(pl.col("assigned") != pl.col("shadow"))["customers"].sum())
        yield (
            f"  in the shadow: the candidate would have given {n_other:,} of {table.height:,} "
            "customers another action"
        )
    if budget["policy_kind"] == FROZEN:
        yield "  FROZEN: nobody gets an offer; make unfreeze lifts it"
    share = budget["expected_cost"] / budget["budget"] if budget["budget"] else 0.0
    yield (
        f"  budget {budget['budget']:,.2f} {programme.currency}, expected to be spent "
        f"{budget['expected_cost']:,.2f} ({share:.0%})"
    )
    if lake.has("night_pace", night):
        pace = lake.read("night_pace", night).row(0, named=True)
        yield (
            f"  period {pace['period_begin']} to {pace['period_end']}: {pace['realised']:,.2f} of "
            f"{pace['target']:,.2f} {programme.currency} paid, {pace['outstanding']:,.2f} still to "
            f"come of what is out, {pace['nights_left']} nights left ({pace['steering']})"
        )
    for row in lake.read("limit_usage", night).filter(pl.col("limit") != BUDGET).to_dicts():
        unit = programme.currency if row["measure"] == "cost" else "offers"
        yield (
            f"  limit {row['limit']}: {row['expected']:,.2f} {unit} expected, at {row['side']} "
            f"{row['bound']:,.2f}; one {'more' if row['side'] == 'most' else 'fewer'} would bring "
            f"{row['price']:.2f} {programme.currency}"
        )
    for action, count in table["action_id"].value_counts(sort=True).iter_rows():
        yield f"  {action:<20}{count:>9,} customers ({count / max(table.height, 1):.1%})"
    yield f"  table: {lake.path('assignment_table', night)}"
