"""The media mix: bought media and this programme's messages, calibrated by the randomised log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import ContractError
from ml.core.logged import LoggedDecisions
from ml.core.media_schemas import ChannelBudgets, LiftTests, MediaReturns
from ml.core.programme import Programme
from ml.media_mix.fitting import MediaMix, MediaMixSettings, fit_media_mix
from ml.media_mix.reading import read_returns
from ml.media_mix.series import LiftTest, MediaSeries, sum_weeks
from ml.media_mix.splitting import Split, split_budget

MESSAGES = " messages"
CUSTOMERS = "customers"
_RECENT_WEEKS = 4
_LEAST_SENT = 100


@dataclass(frozen=True)
class MixedMedia:
    """What a week's media mix is made of.

    ``calibrated`` was fitted with the log's lift tests, ``uncalibrated`` without; they are one
    where there is no lift test. ``lifts`` are LiftTests, ``budgets`` ChannelBudgets, ``returns``
    MediaReturns of both fits.
    """

    calibrated: MediaMix
    uncalibrated: MediaMix
    lifts: pl.DataFrame
    returns: pl.DataFrame
    split: Split
    budgets: pl.DataFrame


def mix_media(
    media_daily: pl.DataFrame,
    sales_daily: pl.DataFrame,
    logged: LoggedDecisions,
    *,
    actions: ActionSet,
    programme: Programme,
    as_of: date,
    decided: pl.Series,
    settings: MediaMixSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> MixedMedia:
    """Fit the media mix with and without lift tests, and split the current spend anew.

    Parameters
    ----------
    media_daily, sales_daily
        Marts.
    logged
        Matured randomised decisions of training customers, with ``spend`` and ``decision_date``.
    actions, programme
        Channels of the offers; horizons.
    as_of
        Only weeks whose decisions have matured by then count.
    decided
        The date of every decision of the programme, of all customers.
    settings
        Of the fits.
    progress
        Called with a line per stage.

    Raises
    ------
    ContractError
        If there is too little of media_spend and media_kpi.
    """
    until = as_of - timedelta(days=programme.matured_after_days)
    series = compose_series(media_daily, sales_daily, until=until, programme=programme)
    n_after = -(-programme.learning_horizon_days // 7)
    lifts = measure_lifts(logged, series, actions=actions, n_after=n_after)
    tests = make_tests(lifts, series, n_after=n_after)
    uncalibrated = fit_media_mix(series, settings=settings, progress=progress)
    calibrated = uncalibrated
    if tests:
        calibrated = fit_media_mix(series, tests=tests, settings=settings, progress=progress)
    fits = {"with_lift_tests": calibrated, "without": uncalibrated}
    returns = pl.concat(
        [
            read_returns(mix).to_frame().with_columns(pl.lit(fit).alias("fit"))
            for fit, mix in fits.items()
            if fit == "without" or tests
        ]
    )
    current = dict(
        zip(series.channels, series.spend[-_RECENT_WEEKS:].mean(axis=0).tolist(), strict=True)
    )
    split = split_budget(calibrated, budget=sum(current.values()), current=current)
    return MixedMedia(
        calibrated=calibrated,
        uncalibrated=uncalibrated,
        lifts=lifts,
        returns=MediaReturns.validate(returns, cast=True),
        split=split,
        budgets=tabulate_budgets(
            split,
            decisions_a_week=_count_recent(decided, series) / _RECENT_WEEKS,
            least=find_least_limits(actions, programme),
            is_sound=calibrated.diagnostics.has_converged and calibrated.diagnostics.predicts,
        ),
    )


def compose_series(
    media_daily: pl.DataFrame,
    sales_daily: pl.DataFrame,
    *,
    until: date,
    programme: Programme,
) -> MediaSeries:
    """Return weekly series: the KPI with the programme's sales, messages as channels of their own.

    The number of the programme's customers is a control: their sales begin with their log.

    Raises
    ------
    ContractError
        If the company delivers no KPI, or a day between the first and the last lacks it.
    """
    days = sales_daily.filter(pl.col("kpi").is_not_null() & (pl.col("day") < until))
    if days.height == 0:
        raise ContractError(
            "a media mix needs media_kpi: deliver the KPI of every day (docs/input-contract.md)"
        )
    kpi = pl.col("kpi")
    if not programme.kpi_includes_programme:
        kpi = kpi + pl.col("programme_sales")
    days = days.select("day", kpi.alias("kpi"), "customers")
    name = pl.when("is_message").then(pl.col("channel") + MESSAGES).otherwise("channel")
    spent = media_daily.select("day", name.alias("channel"), "spend")
    channels = spent.filter(pl.col("day").is_in(days["day"].implode()))["channel"].unique().sort()
    grid = days.join(pl.DataFrame({"channel": channels}), how="cross")
    joined = grid.join(spent, on=["day", "channel"], how="left", maintain_order="left").join(
        media_daily.group_by(name.alias("channel")).agg(
            pl.col("day").min().alias("first"),
            pl.col("day").max().alias("last"),
            pl.col("is_message").first(),
        ),
        on="channel",
        how="left",
        maintain_order="left",
    )
    # Bought media that lack a day in between lack a delivery; messages that lack one weren't sent.
    is_silent = pl.col("is_message") | ~pl.col("day").is_between("first", "last")
    controls = (
        days.group_by(pl.col("day").dt.truncate("1w").alias("week"))
        .agg(pl.col("customers").mean().alias(CUSTOMERS))
        .sort("week")
    )
    has_customers = controls[CUSTOMERS].n_unique() > 1
    weekly = sum_weeks(
        joined.select(
            "day",
            "channel",
            pl.when(is_silent).then(pl.col("spend").fill_null(0.0)).otherwise("spend"),
            "kpi",
        ),
        controls=controls if has_customers else None,
    )
    return weekly.keep_channels(weekly.spend.sum(axis=0) > 0)


def measure_lifts(
    logged: LoggedDecisions, series: MediaSeries, *, actions: ActionSet, n_after: int = 1
) -> pl.DataFrame:
    """Measure what each channel's messages added, by the log's randomisation.

    The messages of a channel that these customers were assigned, against no offer instead: with
    e_c(x) = sum of the channel's propensities, the mean of who got one less that of who got none,
    weighted by e_c(x) / e_0(x), times the number who got one (the effect on the treated, Hajek;
    clustered by customer). Of whole weeks of the series that ``n_after`` others follow, since a
    decision's spend counts for a horizon.

    Returns
    -------
    pl.DataFrame
        LiftTests; none of a channel with fewer than 100 decisions on either side.
    """
    frame = logged.contexts.frame
    week = frame["decision_date"].dt.truncate("1w")
    whole = [each for each in series.weeks[:-n_after] if (week == each).any()]
    is_in = week.is_in(whole).to_numpy() & logged.has_vector
    spend = frame["spend"].to_numpy()
    control = logged.logging_policy[:, 0]
    rows = []
    for channel in sorted({each for each in actions.channels if each}):
        members = np.array([each == channel for each in actions.channels])
        propensity = logged.logging_policy[:, members].sum(axis=1)
        keep = is_in & (propensity > 0) & (control > 0)
        sent = keep & members[logged.action]
        not_sent = keep & (logged.action == 0)
        if min(sent.sum(), not_sent.sum()) < _LEAST_SENT:
            continue
        weight = propensity[not_sent] / control[not_sent]
        base = float(np.average(spend[not_sent], weights=weight))
        mean = float(spend[sent].mean())
        n_sent = int(sent.sum())
        influence = np.zeros(len(spend))
        influence[sent] = spend[sent] - mean
        influence[not_sent] = -weight * (spend[not_sent] - base) * n_sent / weight.sum()
        of_customer = np.bincount(logged.customer, weights=influence)
        if not of_customer.any():
            # Nobody bought anything: there is nothing to tell the two by.
            continue
        rows.append(
            {
                "channel": channel,
                "first_date": min(whole),
                "last_date": max(whole) + timedelta(days=6),
                "n_sent": n_sent,
                "n_not": int(not_sent.sum()),
                "spend": float(logged.cost[sent].sum()),
                "lift": n_sent * (mean - base),
                "standard_error": float(np.sqrt((of_customer**2).sum())),
            }
        )
    return LiftTests.validate(pl.DataFrame(rows, schema=LiftTests.create_empty().schema))


def make_tests(lifts: pl.DataFrame, series: MediaSeries, *, n_after: int = 1) -> list[LiftTest]:
    """Return lift tests of the series' channels: messages are mapped to spend by what they cost.

    A test takes away the share of the channel's spend that the measured messages cost, and compares
    the KPI of these weeks and of ``n_after`` more.
    """
    weeks = np.array(series.weeks)
    tests = []
    for row in lifts.iter_rows(named=True):
        name = row["channel"] + MESSAGES
        is_tested = (weeks >= row["first_date"]) & (weeks <= row["last_date"])
        if name not in series.channels:
            continue
        spent = float(series.spend[is_tested, series.channels.index(name)].sum())
        if min(spent, row["spend"]) <= 0:
            continue
        measured = is_tested.copy()
        for lag in range(1, n_after + 1):
            measured[lag:] |= is_tested[:-lag]
        tests.append(
            LiftTest(
                channel=name,
                weeks=is_tested,
                measured=measured,
                share=min(row["spend"] / spent, 1.0),
                lift=row["lift"],
                standard_error=row["standard_error"],
            )
        )
    return tests


def _count_recent(decided: pl.Series, series: MediaSeries) -> int:
    """Return how many decisions fell into the weeks whose spend is the current one."""
    after = series.weeks[-1] + timedelta(days=7)
    is_recent = decided.is_between(series.weeks[-_RECENT_WEEKS], after, closed="left")
    return int(is_recent.sum())


def find_least_limits(actions: ActionSet, programme: Programme) -> dict[str, float]:
    """Return what exploring a channel's offers may cost at most per decision, currency.

    A limit below it would stop a night: each offer is sent at the floor, and costs at most its
    message and its face value.
    """
    most = programme.propensity_floor * (actions.message_costs + actions.face_values)
    channels = np.array(actions.channels)
    return {each: float(most[channels == each].sum()) for each in set(actions.channels)}


def tabulate_budgets(
    split: Split, *, decisions_a_week: float, least: Mapping[str, float], is_sound: bool
) -> pl.DataFrame:
    """Return ChannelBudgets: a message channel's limit is its spend per decision.

    None where the fit isn't sound, or a channel is written to no more: a limit on it could name
    no offer. ``least`` is a channel's lowest limit.
    """
    is_message = pl.col("channel").str.ends_with(MESSAGES)
    frame = split.to_frame().rename({"spend": "recommended", "marginal": "marginal_return"})
    name = pl.col("channel").str.strip_suffix(MESSAGES)
    lowest = name.replace_strict(dict(least), default=0.0, return_dtype=pl.Float64)
    is_limited = is_message & (pl.col("current") > 0) & pl.lit(is_sound)
    per_decision = pl.col("recommended") / max(decisions_a_week, 1.0)
    return ChannelBudgets.validate(
        frame.with_columns(
            is_message.alias("is_message"),
            name,
            pl.when(is_limited)
            .then(pl.max_horizontal(per_decision, lowest))
            .alias("most_per_decision"),
        ).select(list(ChannelBudgets.create_empty().columns)),
    )
