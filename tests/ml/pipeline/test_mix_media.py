"""Lift tests from a randomised log, the series they belong to, and budgets for Decide."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows
from known_media import SHORT

from ml.core.errors import ContractError
from ml.core.logged import build_logged_decisions
from ml.core.media_schemas import ChannelBudgets, MediaDaily, SalesDaily
from ml.media_mix.splitting import Split
from ml.pipeline.channel_budgets import limit_channels
from ml.pipeline.mix_media import (
    compose_series,
    find_least_limits,
    make_tests,
    measure_lifts,
    mix_media,
    tabulate_budgets,
)

FIRST = date(2026, 1, 5)
N_WEEKS, LOGGED_FROM = 60, 52
COUPON_2 = ACTIONS.action_ids.index("email_coupon_2")
_START = FIRST - timedelta(days=7 * LOGGED_FROM)


def _log(seed, *, skew=0.8, slope=1.0):
    """A log over the weeks 52 to 57, a few decisions per customer and day."""
    rows, _ = make_rows(seed, n=6_000, slope=slope, skew=skew)
    day = np.random.default_rng(seed).integers(0, 42, rows.height)
    dates = pl.Series("decision_date", [FIRST + timedelta(days=int(each)) for each in day])
    return build_logged_decisions(rows.with_columns(dates), programme=PROGRAMME, actions=ACTIONS)


def _marts(log):
    """Media and sales: TV from the first week, messages of the log's cost, walk-ins and sales."""
    random = np.random.default_rng(9)
    days = [_START + timedelta(days=each) for each in range(7 * N_WEEKS)]
    spend = np.repeat(random.uniform(50, 150, N_WEEKS), 7)
    sent = (
        log.contexts.frame.select("decision_date")
        .with_columns(pl.Series("spend", log.cost))
        .group_by(pl.col("decision_date").alias("day"))
        .agg(pl.col("spend").sum())
    )
    media = pl.concat(
        [
            pl.DataFrame({"day": days, "channel": "tv", "is_message": False, "spend": spend}),
            sent.select(
                "day", pl.lit("email").alias("channel"), pl.lit(True).alias("is_message"), "spend"
            ),
        ]
    ).with_columns(pl.lit(None, dtype=pl.Float64).alias("impressions"))
    stock = spend / 100
    walk_in = 1_000 + 400 * stock / (stock + 1) + random.normal(0, 20, len(days))
    is_logged = np.arange(len(days)) >= 7 * LOGGED_FROM
    bought = log.contexts.frame.group_by("decision_date").agg(pl.col("spend").sum())
    bought = dict(bought.iter_rows())
    sales = pl.DataFrame(
        {
            "day": days,
            "kpi": walk_in,
            "programme_sales": [max(bought.get(day, 0.0), 0.0) for day in days],
            "customers": np.where(is_logged, 6_000, 0),
        }
    )
    return MediaDaily.validate(media), SalesDaily.validate(sales)


@pytest.fixture(scope="module")
def series():
    media, sales = _marts(_log(1))
    return compose_series(media, sales, until=FIRST + timedelta(days=49), programme=PROGRAMME)


def test_messages_are_channels_and_programme_sales_are_in_the_kpi(series):
    assert series.channels == ("email messages", "tv")
    assert series.n_weeks == LOGGED_FROM + 7
    assert series.spend[:LOGGED_FROM, 0].sum() == 0
    assert series.spend[LOGGED_FROM : LOGGED_FROM + 6, 0].min() > 0
    assert series.control_names == ("customers",)
    assert series.controls[LOGGED_FROM - 1, 0] == 0
    assert series.controls[LOGGED_FROM, 0] == 6_000
    media, sales = _marts(_log(1))
    holds = replace(PROGRAMME, kpi_includes_programme=True)
    once = compose_series(media, sales, until=FIRST + timedelta(days=49), programme=holds)
    spent = _log(1).contexts.frame["spend"].sum()
    assert (series.kpi - once.kpi)[LOGGED_FROM:].sum() == pytest.approx(spent)
    np.testing.assert_allclose((series.kpi - once.kpi)[:LOGGED_FROM], 0.0, atol=1e-9)


def test_lifts_are_unbiased_and_their_errors_honest_where_propensities_differ(series):
    """Coupon 2 goes to the old more often, who also spend more and react more."""
    errors, naive = [], []
    for seed in range(60):
        log = _log(seed)
        row = measure_lifts(log, series, actions=ACTIONS).row(0, named=True)
        age = pl.Series(log.contexts.frame["attributes"]).str.json_path_match("$.age")
        z = (age.cast(pl.Float64).to_numpy() - 49) / 17.9
        effect = np.where(log.action == COUPON_2, 0.5 + z, 0.0) / PROGRAMME.margin
        truth = effect[log.action > 0].sum()
        errors.append((row["lift"] - truth) / row["standard_error"])
        spend = log.contexts.frame["spend"].to_numpy()
        difference = spend[log.action > 0].mean() - spend[log.action == 0].mean()
        naive.append((difference * (log.action > 0).sum() - truth) / row["standard_error"])
    errors = np.array(errors)
    assert abs(errors.mean()) < 0.4
    assert np.mean(np.abs(errors) < 1.96) >= 0.87
    assert np.mean(naive) > 1.5


def test_a_test_takes_away_the_share_that_its_messages_cost(series):
    lifts = measure_lifts(_log(1), series, actions=ACTIONS)
    (test,) = make_tests(lifts, series)
    assert test.channel == "email messages"
    assert test.share == pytest.approx(1.0)
    assert test.weeks.sum() == 6
    # A decision's spend counts for a horizon: the week after the last is compared too.
    assert test.measured.sum() == 7
    half = lifts.with_columns(pl.col("spend") / 2)
    assert make_tests(half, series)[0].share == pytest.approx(0.5)


def test_a_day_that_bought_media_lack_is_named_and_one_without_messages_is_not(series):
    media, sales = _marts(_log(1))
    day = FIRST + timedelta(days=3)
    until = FIRST + timedelta(days=49)
    quiet = media.filter((pl.col("channel") != "email") | (pl.col("day") != day))
    found = compose_series(quiet, sales, until=until, programme=PROGRAMME)
    assert found.spend[LOGGED_FROM, 0] < series.spend[LOGGED_FROM, 0]
    with pytest.raises(ContractError, match=f"{day}: tv missing"):
        compose_series(
            media.filter((pl.col("channel") != "tv") | (pl.col("day") != day)),
            sales,
            until=until,
            programme=PROGRAMME,
        )
    # Before its first day a channel was not on air.
    late = media.filter((pl.col("channel") != "tv") | (pl.col("day") >= day))
    found = compose_series(late, sales, until=until, programme=PROGRAMME)
    assert found.spend[:LOGGED_FROM, 1].sum() == 0


def test_without_a_kpi_or_with_hardly_any_messages_nothing_is_made_up(series):
    media, sales = _marts(_log(1))
    with pytest.raises(ContractError, match="needs media_kpi"):
        compose_series(
            media,
            sales.with_columns(pl.lit(None, dtype=pl.Float64).alias("kpi")),
            until=FIRST,
            programme=PROGRAMME,
        )
    few = _log(1).take(np.arange(150))
    assert measure_lifts(few, series, actions=ACTIONS).height == 0


def test_channels_that_are_written_to_no_more_get_no_limit():
    split = Split(
        channels=("email messages", "text messages", "tv"),
        current=np.array([50.0, 0.0, 10.0]),
        spend=np.array([40.0, 0.0, 20.0]),
        low=np.zeros(3),
        high=np.full(3, 50.0),
        marginal=np.ones(3),
        gain=np.zeros(5),
    )
    sound = {"decisions_a_week": 100.0, "is_sound": True}
    budgets = tabulate_budgets(split, least={"email": 0.1}, **sound)
    assert budgets["most_per_decision"].to_list() == [0.4, None, None]
    assert [each.channels for each in limit_channels(PROGRAMME, budgets).limits] == [("email",)]
    # Never below what exploration may cost, and not at all by a fit that isn't to be believed.
    tight = tabulate_budgets(split, least={"email": 0.7}, **sound)
    assert tight["most_per_decision"].to_list() == [0.7, None, None]
    unsound = tabulate_budgets(split, least={}, decisions_a_week=100.0, is_sound=False)
    assert unsound["most_per_decision"].to_list() == [None, None, None]


def test_the_least_limit_covers_what_exploration_costs():
    least = find_least_limits(ACTIONS, PROGRAMME)
    assert least["email"] == pytest.approx(0.008 * (0.02 + 2.02 + 5.02))


def test_a_channel_that_only_began_is_left_out_until_it_spent_for_a_week(series):
    media, sales = _marts(_log(1))
    day = FIRST + timedelta(days=43)
    began = pl.DataFrame(
        {"day": [day], "channel": ["radio"], "is_message": [False], "spend": [5.0]}
    ).with_columns(pl.lit(None, dtype=pl.Float64).alias("impressions"))
    found = compose_series(
        pl.concat([media, began]), sales, until=day + timedelta(days=1), programme=PROGRAMME
    )
    assert found.channels == ("email messages", "tv")


def test_where_nobody_bought_there_is_no_lift_test(series):
    log = _log(1)
    frame = log.contexts.frame.with_columns(pl.lit(0.0).alias("spend"))
    silent = replace(log, contexts=replace(log.contexts, frame=frame))
    assert measure_lifts(silent, series, actions=ACTIONS).height == 0


def test_a_longer_horizon_compares_more_weeks(series):
    lifts = measure_lifts(_log(1), series, actions=ACTIONS, n_after=3)
    # Of 59 weeks the last three may only be compared: the log's six weeks end before them.
    assert lifts["last_date"].item() == FIRST + timedelta(days=27)
    (test,) = make_tests(lifts, series, n_after=3)
    assert (test.weeks.sum(), test.measured.sum()) == (4, 7)


@pytest.mark.slow
def test_the_mix_is_told_with_and_without_the_logs_lift_test():
    log = _log(1)
    media, sales = _marts(log)
    mixed = mix_media(
        media,
        sales,
        log,
        actions=ACTIONS,
        programme=PROGRAMME,
        as_of=FIRST + timedelta(days=60),
        decided=pl.Series([FIRST + timedelta(days=each % 49) for each in range(7_000)]),
        settings=replace(SHORT, n_warmup=150, n_draws=150),
    )
    email = mixed.returns.filter(channel="email messages", kind="average")
    width = dict(email.select("fit", pl.col("high") - pl.col("low")).iter_rows())
    assert width["with_lift_tests"] < 0.7 * width["without"]
    assert mixed.budgets["recommended"].sum() == pytest.approx(mixed.budgets["current"].sum())
    ChannelBudgets.validate(mixed.budgets)
    limited = limit_channels(PROGRAMME, mixed.budgets)
    (limit,) = limited.limits
    recommended = mixed.budgets.filter(is_message=True)["recommended"].item()
    assert limit.channels == ("email",)
    assert limit.measure == "cost"
    assert limit.most_per_decision == pytest.approx(recommended / 1_000, rel=0.01)
