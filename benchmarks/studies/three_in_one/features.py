"""The Purchase World's consumer-days as the published 72 visible units."""

from datetime import timedelta

import numpy as np

from ml.simulate.purchase_world import PurchaseConfig, PurchaseHistory
from ml.world_model.visible import Group, Layout

N_LAGS = 4
LAGGED = ("visit", "purchase", "coupon", "campaign", "push")
COUNTED = ("visit", "purchase")
WITHIN, AT_LEAST = (7, 14, 30), (5, 10, 30)
_MONTHS, _WEEKDAYS = 12, 7


def make_layout(n_stores: int, n_lags: int = N_LAGS) -> Layout:
    """Return the layout: 39 units of one-hots, then loyalty, states and lags as flags."""
    return Layout(
        (
            Group("store", "one_hot", tuple(map(str, range(n_stores)))),
            Group("age_decade", "one_hot", ("20", "30", "40", "50", "60")),
            Group("income_quintile", "one_hot", ("1", "2", "3", "4", "5")),
            Group("month", "one_hot", tuple(str(month + 1) for month in range(_MONTHS))),
            Group("weekday", "one_hot", tuple(map(str, range(_WEEKDAYS)))),
            Group("loyalty", "flag"),
            *(Group(f"{name}_within_{n}d", "flag") for name in COUNTED for n in WITHIN),
            *(Group(f"{name}s_at_least_{n}", "flag") for name in COUNTED for n in AT_LEAST),
            *(
                Group(f"{name}_lag_{lag}", "flag")
                for name in LAGGED
                for lag in range(1, n_lags + 1)
            ),
        )
    )


def list_visible(
    config: PurchaseConfig, history: PurchaseHistory, n_lags: int = N_LAGS
) -> np.ndarray:
    """Return every consumer-day's visible units as of the morning, before its actions.

    Parameters
    ----------
    config, history
        The world.
    n_lags
        Days of outcomes and actions that are seen one by one.

    Returns
    -------
    np.ndarray
        Shape (n_days, n, V), uint8; V as of ``make_layout``.
    """
    traits = history.traits
    n_days, n = history.visits.shape
    days = np.arange(n_days)
    dates = [config.first_date + timedelta(days=int(day)) for day in days]
    month = np.array([date.month - 1 for date in dates])
    weekday = np.array([date.weekday() for date in dates])
    parts = [
        _repeat(np.eye(len(config.store_shares))[traits.store], n_days),
        _repeat(np.eye(5)[traits.age_decade // 10 - 2], n_days),
        _repeat(np.eye(5)[traits.income_quintile - 1], n_days),
        np.repeat(np.eye(_MONTHS)[month][:, None], n, axis=1),
        np.repeat(np.eye(_WEEKDAYS)[weekday][:, None], n, axis=1),
        _repeat(traits.loyalty[:, None], n_days),
    ]
    recent = (history.days_since_visit, history.days_since_purchase)
    parts += [np.stack([since < limit for limit in WITHIN], axis=2) for since in recent]
    for happened in (history.visits, history.purchases):
        before = np.cumsum(happened, axis=0, dtype=np.int32) - happened
        parts.append(np.stack([before >= limit for limit in AT_LEAST], axis=2))
    lagged = (history.visits, history.purchases, history.coupon, history.campaign, history.push)
    parts += [
        np.stack([_lag(happened, lag) for lag in range(1, n_lags + 1)], axis=2)
        for happened in lagged
        if n_lags
    ]
    return np.concatenate([part.astype(np.uint8) for part in parts], axis=2)


def _repeat(rows: np.ndarray, n_days: int) -> np.ndarray:
    return np.repeat(rows[None], n_days, axis=0)


def _lag(happened: np.ndarray, lag: int) -> np.ndarray:
    """Return what happened so many days before; nothing before the first."""
    lagged = np.zeros_like(happened)
    lagged[lag:] = happened[:-lag]
    return lagged
