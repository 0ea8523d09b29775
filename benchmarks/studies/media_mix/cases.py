"""Series whose truth is known, from the prior, confounded, the bakery's; and Robyn's."""

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpyro
import polars as pl

from ml.media_mix import model
from ml.media_mix.fitting import Draws
from ml.media_mix.model import Design, Scales
from ml.media_mix.reading import compute_returns
from ml.media_mix.series import LiftTest, MediaSeries, sum_weeks
from ml.simulate.media import deliver_media, draw_media, lift_of
from ml.simulate.worlds import BAKERY

N_HARMONICS = 1
_WEEKS, _CHANNELS = 104, ("push", "text", "email")
_SPEND, _KPI_SD = 1_000.0, 10_000.0
_MORE = 0.01
_ROBYN_SPEND = ("tv_S", "ooh_S", "print_S", "search_S", "facebook_S")


@dataclass(frozen=True)
class Case:
    """A series with its true returns, each shape (C,), and a lift test of each channel."""

    series: MediaSeries
    average: np.ndarray
    marginal: np.ndarray
    tests: tuple[LiftTest, ...] = ()


def draw_prior_case(seed: int) -> tuple[Design, np.ndarray, np.ndarray]:
    """Draw parameters from our prior and a KPI from them.

    Returns
    -------
    tuple
        Design of 104 weeks and 3 channels, true average and true marginal returns, shape (3,).
    """
    random = np.random.default_rng([seed, 1])
    series = _make_series(_draw_spend(random), np.zeros(_WEEKS))
    design = model.make_design(series, _SCALES, n_harmonics=N_HARMONICS)
    with numpyro.handlers.seed(rng_seed=int(random.integers(2**31))):
        drawn = model.derive_beta(design, model.draw_priors(design, "ours"))
    truth: Draws = {name: np.asarray(each)[None] for name, each in drawn.items()}
    noise = random.standard_normal(_WEEKS) * truth["sigma"]
    design = design._replace(kpi=np.asarray(model.expect_kpi(design, drawn)) + noise)
    average, marginal = compute_returns(design, truth)
    return design, average[0], marginal[0]


def draw_confounded_case(seed: int) -> Case:
    """Draw a KPI whose hidden demand also draws the first channel's spend: search, say.

    Half of the log-variance of that channel's spend follows demand, an autoregression that no
    control knows. Tests take a channel's spend away for eight weeks, apart from the series, and
    measure what it added with a standard error of a tenth of it.
    """
    random = np.random.default_rng([seed, 2])
    demand = np.zeros(_WEEKS)
    for week in range(1, _WEEKS):
        demand[week] = 0.7 * demand[week - 1] + random.normal(0, np.sqrt(1 - 0.7**2))
    log_spend = random.normal(0, 0.5, (_WEEKS, 3))
    log_spend[:, 0] = np.sqrt(0.5) * (log_spend[:, 0] + 0.5 * demand)
    spend = _SPEND * np.exp(log_spend)
    truth: Draws = {
        "kept": np.array([[0.3, 0.5, 0.2]]),
        "half": np.array([[1.0, 0.8, 1.2]]),
        "slope": np.array([[1.2, 1.0, 1.5]]),
    }
    series = _make_series(spend, np.zeros(_WEEKS))
    design = model.make_design(series, _SCALES, n_harmonics=N_HARMONICS)
    roi = np.array([1.5, 2.0, 1.0])
    shape = np.asarray(model.saturate(design.lagged, *(truth[n][0] for n in truth)))  # (T, C)
    truth["beta"] = (roi * design.total / shape.sum(axis=0))[None]
    truth |= {"intercept": np.zeros(1), "base": np.zeros((1, design.base.shape[1]))}
    truth["sigma"] = np.ones(1)
    added = (shape * truth["beta"]).sum(axis=1)
    kpi = _KPI_SD * (added + 0.25 * demand + 0.1 * random.standard_normal(_WEEKS))
    average, marginal = compute_returns(design, truth)
    weeks = (np.arange(_WEEKS) >= 60) & (np.arange(_WEEKS) < 68)
    series = _make_series(spend, kpi + 20 * _KPI_SD)
    tests = []
    for name in _CHANNELS:
        flat = LiftTest(name, weeks, weeks | np.roll(weeks, 1), 1.0, 0.0, 1.0)
        tested = model.make_design(series, _SCALES, tests=[flat], n_harmonics=N_HARMONICS)
        one = {each: drawn[0] for each, drawn in truth.items()}
        lift = float(np.asarray(model.expect_lifts(tested, one))[0]) * _KPI_SD
        error = 0.1 * abs(lift)
        measured = lift + random.normal(0, error)
        tests.append(LiftTest(name, weeks, flat.measured, 1.0, measured, error))
    return Case(series, average[0], marginal[0], tuple(tests))


def make_bakery_case(seed: int = 7) -> Case:
    """Return the bakery's bought media before its first day, and their true returns on walk-ins."""
    media = BAKERY.media
    assert media is not None
    history = draw_media(media, seed=seed, n_weeks=1, weekday=BAKERY.demand.weekday_on_visit)
    tables = deliver_media(history, BAKERY.first_date, from_day=7 * history.first_week, until_day=0)
    series = sum_weeks(
        tables["media_spend"].drop("impressions").join(tables["media_kpi"], on="day")
    )
    n_weeks = series.n_weeks
    kpi = history.walk_in[: 7 * n_weeks].reshape(n_weeks, 7).sum(axis=1)
    spend = history.spend[:n_weeks]
    channels = {each.channel: index for index, each in enumerate(media.channels)}
    lifts = {
        each.channel: lift_of(each, spend[:, index]) for index, each in enumerate(media.channels)
    }
    average, marginal = [], []
    for channel in series.channels:
        own, spent = media.channels[channels[channel]], spend[:, channels[channel]]
        more = lift_of(own, spent * (1 + _MORE)) - lifts[channel]
        average.append((kpi * -np.expm1(-lifts[channel])).sum() / spent.sum())
        marginal.append((kpi * np.expm1(more)).sum() / (_MORE * spent.sum()))
    return Case(series, np.array(average), np.array(marginal))


def read_robyn(file: Path) -> MediaSeries:
    """Read Robyn's weekly sample: five channels, the competitor's sales, newsletter and events."""
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    controls = [
        [float(row["competitor_sales_B"]), float(row["newsletter"]), float(row["events"] != "na")]
        for row in rows
    ]
    return MediaSeries(
        channels=_ROBYN_SPEND,
        weeks=tuple(date.fromisoformat(row["DATE"]) for row in rows),
        spend=np.array([[float(row[each]) for each in _ROBYN_SPEND] for row in rows]),
        kpi=np.array([float(row["revenue"]) for row in rows]),
        control_names=("competitor_sales", "newsletter", "events"),
        controls=np.array(controls),
    )


def tabulate_cover(
    found: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]
) -> pl.DataFrame:
    """Return a row per channel and kind of return: truth, mean, bounds of 90 %."""
    rows = []
    for kind, drawn, true in zip(("average", "marginal"), found, truth, strict=True):
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        rows += [
            {
                "kind": kind,
                "channel": channel,
                "truth": float(true[channel]),
                "mean": float(drawn[:, channel].mean()),
                "low": float(low[channel]),
                "high": float(high[channel]),
            }
            for channel in range(drawn.shape[1])
        ]
    return pl.DataFrame(rows)


_SCALES = Scales(20 * _KPI_SD, _KPI_SD, np.full(3, _SPEND), np.zeros(0), np.zeros(0))


def _draw_spend(random: np.random.Generator) -> np.ndarray:
    """Return weekly spend with weeks off air, shape (T, 3)."""
    is_on_air = random.random((_WEEKS, 3)) >= 0.15
    return np.asarray(_SPEND * np.exp(random.normal(0, 0.5, (_WEEKS, 3))) * is_on_air)


def _make_series(spend: np.ndarray, kpi: np.ndarray) -> MediaSeries:
    first = date(2024, 1, 1)
    weeks = tuple(first + timedelta(days=7 * week) for week in range(_WEEKS))
    return MediaSeries(_CHANNELS, weeks, spend, kpi, (), np.zeros((_WEEKS, 0)))
