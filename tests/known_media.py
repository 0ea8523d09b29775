"""A media series of known effects."""

from datetime import date, timedelta

import numpy as np
from oracles.media_response import add_up

from ml.media_mix.fitting import MediaMixSettings
from ml.media_mix.series import LiftTest, MediaSeries

TRUTH = {
    "radio": {"kept": 0.5, "half": 1.0, "slope": 1.2, "beta": 4_000.0},
    "search": {"kept": 0.2, "half": 0.8, "slope": 1.0, "beta": 2_000.0},
}
N_WEEKS = 110
UNIT = 500.0
SHORT = MediaMixSettings(n_chains=2, n_warmup=250, n_draws=250, n_harmonics=1)


def make_known_media(seed=3):
    """Two channels over 110 weeks, noise of 150 a week; what each added, and a lift test."""
    random = np.random.default_rng(seed)
    spend = UNIT * np.exp(random.normal(0, 0.6, (N_WEEKS, 2))) * (random.random((N_WEEKS, 2)) > 0.2)
    added = np.column_stack(
        [add_up(spend[:, c] / UNIT, **each) for c, each in enumerate(TRUTH.values())]
    )
    kpi = 10_000 + added.sum(axis=1) + random.normal(0, 150, N_WEEKS)
    weeks = tuple(date(2024, 1, 1) + timedelta(days=7 * week) for week in range(N_WEEKS))
    series = MediaSeries(tuple(TRUTH), weeks, spend, kpi, (), np.zeros((N_WEEKS, 0)))
    tested = (np.arange(N_WEEKS) >= 40) & (np.arange(N_WEEKS) < 46)
    without = spend[:, 1] * ~tested / UNIT
    lift = float(np.sum(added[:, 1] - add_up(without, **TRUTH["search"])))
    return series, added, LiftTest("search", tested, tested, 1.0, lift, 0.05 * lift)
