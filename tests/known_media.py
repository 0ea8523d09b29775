"""A media series of known effects."""

from datetime import date, timedelta

import numpy as np
from oracles.media_response import add_up

from ml.media_mix.fitting import Diagnostics, MediaMix, MediaMixSettings
from ml.media_mix.model import choose_scales
from ml.media_mix.series import LiftTest, MediaSeries

TRUTH = {
    "radio": {"kept": 0.5, "half": 1.0, "slope": 1.2, "beta": 4_000.0},
    "search": {"kept": 0.2, "half": 0.8, "slope": 1.0, "beta": 2_000.0},
}
N_WEEKS = 110
UNIT = 500.0
SHORT = MediaMixSettings(n_chains=2, n_warmup=250, n_draws=250, n_harmonics=1)


def make_known_media(seed=3, *, n_weeks=N_WEEKS):
    """Two channels over the first of 140 weeks, noise of 150; what each added, and a lift test."""
    random = np.random.default_rng(seed)
    n = 140
    spend = UNIT * np.exp(random.normal(0, 0.6, (n, 2))) * (random.random((n, 2)) > 0.2)
    added = np.column_stack(
        [add_up(spend[:, c] / UNIT, **each) for c, each in enumerate(TRUTH.values())]
    )
    kpi = 10_000 + added.sum(axis=1) + random.normal(0, 150, n)
    weeks = tuple(date(2024, 1, 1) + timedelta(days=7 * week) for week in range(n))
    series = MediaSeries(tuple(TRUTH), weeks, spend, kpi, (), np.zeros((n, 0))).first(n_weeks)
    tested = (np.arange(n_weeks) >= 40) & (np.arange(n_weeks) < 46)
    without = series.spend[:, 1] * ~tested / UNIT
    lift = float(np.sum(added[:n_weeks, 1] - add_up(without, **TRUTH["search"])))
    return series, added[:n_weeks], LiftTest("search", tested, tested, 1.0, lift, 0.05 * lift)


def spread_truth(series, *, n=200, width=0.1, seed=5):
    """Return a media mix whose draws of response lie around the truth, without a fit."""
    random, scales = np.random.default_rng(seed), choose_scales(series, preset=SHORT.preset)
    truth = {name: np.array([each[name] for each in TRUTH.values()]) for name in TRUTH["radio"]}
    truth["half"] = truth["half"] * UNIT / scales.spend
    truth["beta"] = truth["beta"] / scales.kpi_sd
    draws = {
        name: value * np.exp(width * random.normal(size=(n, len(value))))
        for name, value in truth.items()
    }
    return MediaMix(series, scales, SHORT, (), draws, Diagnostics(1.0, n, 0.0, 0.9))
