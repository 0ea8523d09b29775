"""The study's parts, each worked out in a process of its own and kept."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.studies.media_mix.cases import (
    N_HARMONICS,
    Case,
    draw_confounded_case,
    draw_prior_case,
    make_bakery_case,
    read_robyn,
    tabulate_cover,
)
from ml.media_mix.fitting import (
    MediaMix,
    MediaMixSettings,
    fit_designs,
    fit_media_mix,
    update_media_mix,
)
from ml.media_mix.reading import compute_returns, predict_kpi, read_returns
from ml.media_mix.series import MediaSeries

_AHEAD = 26
_YEAR = 52
_STEP = 4


def cover_prior(seeds: Sequence[int], *, n_draws: int) -> pl.DataFrame:
    """Fit series drawn from the prior, two chains each; return truths and intervals."""
    cases = [draw_prior_case(seed) for seed in seeds]
    settings = MediaMixSettings(
        n_chains=2, n_warmup=n_draws, n_draws=n_draws, n_harmonics=N_HARMONICS
    )
    fits = fit_designs([design for design, _, _ in cases], settings)
    parts = []
    for seed, (design, *truth), (draws, found) in zip(seeds, cases, fits, strict=True):
        table = tabulate_cover(compute_returns(design, draws), (truth[0], truth[1]))
        parts.append(
            table.with_columns(
                pl.lit(seed).alias("seed"),
                pl.lit(found.largest_r_hat).alias("r_hat"),
                pl.lit(found.divergent_share).alias("divergent"),
            )
        )
    return pl.concat(parts)


def compare_lift_tests(seeds: Sequence[int], *, n_draws: int) -> pl.DataFrame:
    """Fit confounded series with and without lift tests."""
    settings = MediaMixSettings(
        n_chains=2, n_warmup=n_draws, n_draws=n_draws, n_harmonics=N_HARMONICS
    )
    parts = []
    for seed in seeds:
        case = draw_confounded_case(seed)
        for fit, tests in (("without", ()), ("with", case.tests)):
            mix = fit_media_mix(case.series, tests=tests, settings=settings)
            parts.append(
                _tabulate(mix, case).with_columns(
                    pl.lit(seed).alias("seed"), pl.lit(fit).alias("fit")
                )
            )
    return pl.concat(parts)


def fit_bakery(*, n_draws: int) -> pl.DataFrame:
    """Fit the bakery's bought media: diagnostics, CPU seconds, returns beside the truth."""
    case = make_bakery_case()
    return _fit(case.series, case, n_draws=n_draws)


def fit_robyn(file: Path, *, n_draws: int) -> pl.DataFrame:
    """Fit Robyn's weekly sample, whose truth nobody knows."""
    return _fit(read_robyn(file), None, n_draws=n_draws)


def compare_updates(*, n_draws: int, n_steps: int) -> pl.DataFrame:
    """Take the posterior of the bakery's first weeks for prior, four weeks at a time.

    Beside a full refit at the end; errors of the mean returns against the truth, and widths.
    """
    case = make_bakery_case()
    settings = MediaMixSettings(n_chains=2, n_warmup=n_draws, n_draws=n_draws)
    known = case.series.n_weeks - _STEP * n_steps
    first = fit_media_mix(case.series.first(known), settings=settings)
    contenders = {"full refit": fit_media_mix(case.series, settings=settings)}
    for weight in (1.0, 0.92):
        mix = first
        for step in range(1, n_steps + 1):
            weeks = case.series.first(known + _STEP * step)
            mix = update_media_mix(mix, weeks, weight=weight)
        contenders[f"updated, weight {weight:g}"] = mix
    contenders["not updated"] = replace(first, series=case.series)
    return pl.concat(
        [
            _tabulate(mix, case).with_columns(pl.lit(name).alias("fit"))
            for name, mix in contenders.items()
        ]
    )


def _fit(series: MediaSeries, case: Case | None, *, n_draws: int) -> pl.DataFrame:
    settings = MediaMixSettings(n_warmup=n_draws, n_draws=n_draws)
    started = time.process_time()
    mix = fit_media_mix(series, settings=settings)
    seconds = time.process_time() - started
    found = mix.diagnostics
    before = fit_media_mix(series.first(series.n_weeks - _AHEAD), settings=settings)
    drawn = predict_kpi(before, series)[:, -_AHEAD:]
    later = series.kpi[-_AHEAD:]
    last_year = series.kpi[-_AHEAD - _YEAR : -_YEAR]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    figures = {
        "cpu_seconds": seconds,
        "r_hat": found.largest_r_hat,
        "effective_draws": found.least_ess,
        "divergent": found.divergent_share,
        "error_ahead": float(np.abs(drawn.mean(axis=0) / later - 1).mean()),
        "error_of_last_year": float(np.abs(last_year / later - 1).mean()),
        "error_of_mean": float(np.abs(series.kpi[:-_AHEAD].mean() / later - 1).mean()),
        "within_90_ahead": float(((low <= later) & (later <= high)).mean()),
    }
    rows = pl.DataFrame({"figure": list(figures), "value": list(figures.values())})
    if case is None:
        return rows
    covered = _tabulate(mix, case)
    return pl.concat(
        [
            rows,
            covered.unpivot(
                ["truth", "mean", "low", "high"],
                index=["kind", "channel"],
                variable_name="what",
                value_name="value",
            ).select(pl.format("{} {} {}", "kind", "channel", "what").alias("figure"), "value"),
        ]
    )


def _tabulate(mix: MediaMix, case: Case) -> pl.DataFrame:
    """Return a fit's returns beside the truth, channels by name."""
    returns = read_returns(mix)
    table = tabulate_cover((returns.average, returns.marginal), (case.average, case.marginal))
    names = dict(enumerate(mix.series.channels))
    return table.with_columns(pl.col("channel").replace_strict(names))
