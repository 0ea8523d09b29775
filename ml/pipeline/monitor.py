"""Validate, every night: what came in and what matured against what was expected."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.policy import FROZEN
from ml.core.programme import Programme
from ml.core.schemas import Monitoring
from ml.ope.diagnostics import diagnose_tail
from ml.ope.estimators import contrast_actions
from ml.ope.intervals import estimate_mean

WINDOW_DAYS = 28
TOLERANCE = 0.20
CUSUM_LIMIT = 8.0
EFFECT_LIMIT = 4.0
MINIMUM_ROWS = 100
SHIFT_LIMIT = 0.15
RATIO_ALPHA = 1e-4
MISSING_LIMIT = 0.01
OUTCOMES = ("visit", "value")
FEATURES = (
    "visits_28d",
    "purchases_28d",
    "spend_28d",
    "days_since_visit",
    "days_since_purchase",
)
"""What customers do; what the loop itself sends changes with every promotion."""


@dataclass(frozen=True)
class Watched:
    """What a night's monitoring reads.

    ``delivered``: logged decisions that were delivered for the night. ``matured``: the loop's own
    decisions whose outcome is final, with action_id, propensity, eligible_actions,
    eligible_propensities, policy_version, expected_cost_effect, visits, value and cost.
    ``this_week`` and ``last_week``: customer_features of due customers. ``reference``:
    ExperimentEffects that the champion was promoted on, None before. ``catalogue`` is tonight's,
    ``fitted`` the champion's.
    """

    delivered: pl.DataFrame
    matured: pl.DataFrame
    this_week: pl.DataFrame
    last_week: pl.DataFrame
    reference: pl.DataFrame | None
    catalogue: ActionSet
    fitted: ActionSet | None


class Signal(NamedTuple):
    """One thing watched: its statistic, the limit above which it alarms, and how many rows."""

    signal: str
    subject: str
    statistic: float
    limit: float
    n_rows: int


def monitor_night(watched: Watched, *, programme: Programme) -> pl.DataFrame:
    """Compare what came in and what matured with what was expected.

    Signals, each with a limit at which it alarms: ``propensities`` (share of delivered decisions
    that lack theirs), ``sample_ratio`` (an action's count against the sum of its propensities, z),
    ``costs`` (an offer's CUSUM of realised cost beyond tolerance above or below expectation),
    ``effects`` (an offer's effect against no-offer over the last weeks against that of its
    experiment, z),
    ``catalogue`` (relative change of face value and message cost since the champion was fitted),
    ``features`` (Kolmogorov-Smirnov distance of this week's customers to last week's).

    Parameters
    ----------
    watched
        What is compared.
    programme
        Whether propensities may lack.

    Returns
    -------
    pl.DataFrame
        Monitoring rows, one per signal and subject.
    """
    own = watched.matured.filter(pl.col("arm") != FROZEN)
    recent = take_recent(own)
    signals = [
        *_watch_propensities(watched.delivered, programme),
        *_watch_sample_ratio(recent),
        *_watch_costs(own, watched.catalogue),
        *_watch_effects(recent, watched.reference, control=watched.catalogue.action_ids[0]),
        *_watch_catalogue(watched.catalogue, watched.fitted),
        *_watch_features(watched.this_week, watched.last_week),
    ]
    rows = [{**each._asdict(), "is_alarm": each.statistic > each.limit} for each in signals]
    return Monitoring.validate(pl.DataFrame(rows, schema=Monitoring.create_empty().schema))


def trace_costs(matured: pl.DataFrame, *, catalogue: ActionSet) -> pl.DataFrame:
    """Return a row per offer and decision date: its realised and expected cost, and both CUSUMs.

    S+ = max(0, S+ + (C - (1 + d) E) / s) and S- likewise for (1 - d) E - C, with the night's
    realised cost C, expected cost E, tolerance d and s = r sqrt(n), where r is the root mean square
    of what the offer's decisions were off their expectation so far (Page 1954). Costs of no-offer
    are 0, so no comparison group is needed and a night tells much: that an offer wears out or meets
    other tastes shows in its redemptions long before it shows in its value. Messages without a face
    value cost what the catalogue says and are left to that signal.

    Parameters
    ----------
    matured
        Of ``Watched``.
    catalogue
        Which offers have a face value.

    Returns
    -------
    pl.DataFrame
        action_id, decision_date, n_offers, cost, expected_cost, standard_error, rise, fall.
    """
    redeemable = [
        name
        for name, face in zip(catalogue.action_ids, catalogue.face_values, strict=True)
        if face > 0
    ]
    # Before there is a policy nothing is expected: its rows carry the offers' declared most.
    nights = (
        matured.filter(
            (pl.col("expected_cost_effect") > 0)
            & pl.col("arm").is_in(["champion", "challenger"])
            & pl.col("action_id").is_in(redeemable)
        )
        .group_by("action_id", "decision_date")
        .agg(
            pl.len().alias("n_offers"),
            pl.col("cost").sum(),
            pl.col("expected_cost_effect").sum().alias("expected_cost"),
            ((pl.col("cost") - pl.col("expected_cost_effect")) ** 2).sum().alias("off"),
        )
        .sort("action_id", "decision_date")
        .with_columns(
            (pl.col("off").cum_sum() / pl.col("n_offers").cum_sum() * pl.col("n_offers"))
            .sqrt()
            .over("action_id")
            .alias("standard_error")
        )
        .drop("off")
        .filter(pl.col("standard_error") > 0)
    )
    above = pl.col("cost") - (1 + TOLERANCE) * pl.col("expected_cost")
    below = (1 - TOLERANCE) * pl.col("expected_cost") - pl.col("cost")
    return nights.with_columns(
        _accumulate(above / pl.col("standard_error")).over("action_id").alias("rise"),
        _accumulate(below / pl.col("standard_error")).over("action_id").alias("fall"),
    )


def trace_effects(recent: pl.DataFrame, *, control: str) -> pl.DataFrame:
    """Return a row per offer and outcome: its effect against no-offer, self-normalised.

    Parameters
    ----------
    recent
        Matured decisions as in ``Watched``.
    control
        The action that sends nothing.

    Returns
    -------
    pl.DataFrame
        action_id, outcome, n_offered, effect, standard_error; only offers with at least
        ``MINIMUM_ROWS`` decisions, whose tails allow an interval.
    """
    rows = []
    outcomes = {
        "visit": (recent["visits"] > 0).to_numpy().astype(float),
        "value": recent["value"].to_numpy(),
    }
    action, eligible = recent["action_id"], recent["eligible_actions"]
    propensity = recent["propensity"].to_numpy()
    customer = recent["customer_id"].cast(pl.Categorical).to_physical().to_numpy()
    counts = dict(action.value_counts().iter_rows())
    for name in sorted(set(counts) - {control}):
        if counts[name] < MINIMUM_ROWS:
            continue
        could = eligible.list.contains(name).to_numpy()
        taken = np.where((action == name).to_numpy(), 1, np.where(action == control, 0, 2))
        for outcome, values in outcomes.items():
            try:
                contrast = contrast_actions(
                    values[could], taken[could], propensity[could], chosen=1, against=0
                )
                diagnose_tail(contrast, customer[could]).require()
            # Nobody of them got nothing, or a few decide: no effect to compare.
            except SupportError:
                continue
            estimate = estimate_mean(contrast, customer[could])
            rows.append((name, outcome, counts[name], estimate.value, estimate.standard_error))
    columns = ["action_id", "outcome", "n_offered", "effect", "standard_error"]
    types = [pl.String, pl.String, pl.Int64, pl.Float64, pl.Float64]
    return pl.DataFrame(rows, schema=dict(zip(columns, types, strict=True)), orient="row")


def compare_effects(recent: pl.DataFrame, reference: pl.DataFrame, *, control: str) -> pl.DataFrame:
    """Return ``trace_effects`` beside the reference's, with the z score of their difference.

    Parameters
    ----------
    recent
        Matured decisions as in ``Watched``.
    reference
        ExperimentEffects.
    control
        The action that sends nothing.

    Returns
    -------
    pl.DataFrame
        action_id, outcome, n_offered, effect, standard_error, reference, reference_error, z.
    """
    known = reference.select(
        "action_id",
        "outcome",
        pl.col("effect").alias("reference"),
        pl.col("standard_error").alias("reference_error"),
    )
    error = (pl.col("standard_error") ** 2 + pl.col("reference_error") ** 2).sqrt()
    return (
        trace_effects(recent, control=control)
        .join(known, on=["action_id", "outcome"])
        .with_columns(
            pl.when(error > 0)
            .then((pl.col("effect") - pl.col("reference")) / error)
            .otherwise(0.0)
            .alias("z")
        )
    )


def take_recent(matured: pl.DataFrame) -> pl.DataFrame:
    """Return the decisions of the newest ``WINDOW_DAYS`` nights that have matured."""
    newest = pl.col("decision_date").max()
    return matured.filter(pl.col("decision_date") > newest - pl.duration(days=WINDOW_DAYS))


def take_newest_policy(matured: pl.DataFrame) -> pl.DataFrame:
    """Return the decisions under the policy version that decided last: its expectations."""
    newest = matured.sort("decision_date")["policy_version"].tail(1)
    return matured.filter(pl.col("policy_version").is_in(newest.implode()))


def _watch_propensities(delivered: pl.DataFrame, programme: Programme) -> Iterator[Signal]:
    if delivered.height and not programme.fits_propensities:
        share = delivered["propensity"].null_count() / delivered.height
        yield Signal("propensities", "missing", share, MISSING_LIMIT, delivered.height)


def _watch_sample_ratio(recent: pl.DataFrame) -> Iterator[Signal]:
    expected = (
        recent.select("eligible_actions", "eligible_propensities")
        .explode("eligible_actions", "eligible_propensities")
        .group_by(pl.col("eligible_actions").alias("action_id"))
        .agg(
            pl.col("eligible_propensities").sum().alias("expected"),
            (pl.col("eligible_propensities") * (1 - pl.col("eligible_propensities")))
            .sum()
            .alias("variance"),
        )
        .join(recent["action_id"].value_counts(), on="action_id", how="left")
        .filter(pl.col("variance") > 0)
        .sort("action_id")
    )
    limit = float(stats.norm.isf(RATIO_ALPHA / (2 * max(expected.height, 1))))
    for row in expected.iter_rows(named=True):
        z = ((row["count"] or 0) - row["expected"]) / np.sqrt(row["variance"])
        yield Signal("sample_ratio", row["action_id"], abs(z), limit, row["count"] or 0)


def _watch_costs(matured: pl.DataFrame, catalogue: ActionSet) -> Iterator[Signal]:
    traced = trace_costs(take_newest_policy(matured), catalogue=catalogue)
    newest = traced.group_by("action_id", maintain_order=True).agg(
        pl.col("n_offers").sum(), pl.col("rise", "fall").last()
    )
    for row in newest.iter_rows(named=True):
        for name, direction in (("rise", "above"), ("fall", "below")):
            subject = f"{row['action_id']} {direction}"
            yield Signal("costs", subject, row[name], CUSUM_LIMIT, row["n_offers"])


def _watch_effects(
    recent: pl.DataFrame, reference: pl.DataFrame | None, *, control: str
) -> Iterator[Signal]:
    if reference is not None:
        for row in compare_effects(recent, reference, control=control).iter_rows(named=True):
            subject = f"{row['action_id']} on {row['outcome']}"
            yield Signal("effects", subject, abs(row["z"]), EFFECT_LIMIT, row["n_offered"])


def _watch_catalogue(catalogue: ActionSet, fitted: ActionSet | None) -> Iterator[Signal]:
    if fitted is None:
        return
    for index, name in enumerate(fitted.action_ids):
        if name in catalogue.action_ids:
            now = catalogue.action_ids.index(name)
            before = fitted.face_values[index] + fitted.message_costs[index]
            after = catalogue.face_values[now] + catalogue.message_costs[now]
            change = abs(after / before - 1) if before > 0 else float(after > 0)
            yield Signal("catalogue", name, float(change), TOLERANCE, 1)


def _watch_features(this_week: pl.DataFrame, last_week: pl.DataFrame) -> Iterator[Signal]:
    if min(this_week.height, last_week.height) < MINIMUM_ROWS:
        return
    for name in FEATURES:
        now, before = this_week[name].drop_nulls(), last_week[name].drop_nulls()
        if len(now) and len(before):
            distance = stats.ks_2samp(now.to_numpy(), before.to_numpy()).statistic
            yield Signal("features", name, float(distance), SHIFT_LIMIT, this_week.height)


def _accumulate(steps: pl.Expr) -> pl.Expr:
    """Return max(0, S + step), step after step: the sum's height over its lowest point so far."""
    total = steps.cum_sum()
    return total - pl.min_horizontal(total.cum_min(), 0.0)
