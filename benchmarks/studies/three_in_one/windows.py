"""What a row shows of the days before it, and what it would show had those days been otherwise."""

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.studies.three_in_one.features import (
    AT_LEAST,
    COUNTED,
    LAGGED,
    N_LAGS,
    WITHIN,
    make_layout,
)
from ml.simulate.purchase_world import PurchaseHistory


@dataclass(frozen=True)
class Windows:
    """Some rows' last days; n rows.

    ``rows`` (n, V) visible units as they were; ``day``, ``customer`` (n,) whose morning;
    ``happened`` (n, kinds, lags) what the lags show, kinds in the order of ``LAGGED``; ``since``
    and ``count`` (n, 2) of visits and purchases before those days: days since the last, and how
    many.
    """

    rows: np.ndarray
    day: np.ndarray
    customer: np.ndarray
    happened: np.ndarray
    since: np.ndarray
    count: np.ndarray

    def take(self, chosen: np.ndarray) -> "Windows":
        """Return some of the rows."""
        return Windows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def with_lags(self, kind: str, lags: tuple[int, ...], value: bool) -> "Windows":
        """Return rows whose lags of one kind are set, and every unit that follows from them."""
        happened = self.happened.copy()
        for lag in lags:
            happened[:, LAGGED.index(kind), lag - 1] = value
        rows = self.rows.copy()
        place = {name: i for i, name in enumerate(make_layout(_N_STORES).names)}
        for index, name in enumerate(LAGGED):
            for lag in range(1, N_LAGS + 1):
                rows[:, place[f"{name}_lag_{lag}"]] = happened[:, index, lag - 1]
        for index, name in enumerate(COUNTED):
            flags = list_counters(happened[:, index], self.since[:, index], self.count[:, index])
            for column, unit in enumerate(_name_counters(name)):
                rows[:, place[unit]] = flags[:, column]
        return replace(self, rows=rows, happened=happened)


_N_STORES = 10


def open_windows(
    history: PurchaseHistory, visible: np.ndarray, day: np.ndarray, customer: np.ndarray
) -> Windows:
    """Return the windows of some mornings.

    Parameters
    ----------
    history
        What happened.
    visible : shape (n_days, n, V)
        All rows.
    day, customer : shape (rows,)
        Which; days have at least as many before them as a row has lags.

    Returns
    -------
    Windows
        Of these rows.
    """
    lagged = (history.visits, history.purchases, history.coupon, history.campaign, history.push)
    happened = np.stack(
        [
            np.stack([each[day - lag, customer] for lag in range(1, N_LAGS + 1)], axis=1)
            for each in lagged
        ],
        axis=1,
    )
    since, count = read_counters(history, day - N_LAGS, customer)
    return Windows(visible[day, customer], day, customer, happened, since, count)


def read_counters(
    history: PurchaseHistory, day: np.ndarray | int, customer: np.ndarray | slice
) -> tuple[np.ndarray, np.ndarray]:
    """Return days since the last visit and purchase before a day, and how many, shape (n, 2)."""
    since = (history.days_since_visit, history.days_since_purchase)
    before = [
        np.cumsum(each, axis=0, dtype=np.int32) - each
        for each in (history.visits, history.purchases)
    ]
    return (
        np.stack([each[day, customer].astype(np.int32) for each in since], axis=-1),
        np.stack([each[day, customer] for each in before], axis=-1),
    )


def list_counters(happened: np.ndarray, since: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the counters' flags after a window: within 7, 14, 30 days, then at least 5, 10, 30.

    Parameters
    ----------
    happened : shape (..., lags)
        In the window, the latest day first.
    since, count : shape (...)
        Before it.

    Returns
    -------
    np.ndarray
        Shape (..., 6), bool.
    """
    latest = np.where(happened.any(axis=-1), happened.argmax(axis=-1), since + N_LAGS)
    total = count + happened.sum(axis=-1)
    return np.stack(
        [*(latest < limit for limit in WITHIN), *(total >= limit for limit in AT_LEAST)], axis=-1
    )


def _name_counters(name: str) -> list[str]:
    return [*(f"{name}_within_{n}d" for n in WITHIN), *(f"{name}s_at_least_{n}" for n in AT_LEAST)]
