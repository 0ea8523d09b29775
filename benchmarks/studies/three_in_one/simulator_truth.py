"""How probable the simulator itself holds a row, its latent traits integrated out.

Particles are consumers of other simulated worlds with the row's demographics: their latent traits
and counters before the row's window are draws from what the simulator holds possible. A row's
probability is the mean over them of the exact probability of the window's outcomes, where the
counters that the row shows follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.studies.three_in_one.features import AT_LEAST, LAGGED, N_LAGS, WITHIN, make_layout
from benchmarks.studies.three_in_one.windows import Windows, list_counters, read_counters
from ml.simulate.purchase_world import (
    PurchaseConfig,
    PurchaseHistory,
    PurchaseTraits,
    compute_purchase_truth,
    simulate_purchases,
)

_SEED_STEP = 1_000_003
_MOST = 400
_COUNTERS = len(WITHIN) + len(AT_LEAST)


@dataclass(frozen=True)
class Particles:
    """Consumers of one day.

    ``traits``; ``cell`` (n,); ``since`` and ``count`` (n, 2) before the window; ``propensity``
    (lags, n) of the sale on its days, the earliest first.
    """

    traits: PurchaseTraits
    cell: np.ndarray
    since: np.ndarray
    count: np.ndarray
    propensity: np.ndarray


def draw_particles(
    config: PurchaseConfig, days: Iterable[int], *, n_worlds: int = 4, n_customers: int = 4_096
) -> dict[int, Particles]:
    """Return particles for every day, of worlds with other seeds than the config's own."""
    days = sorted(set(days))
    found: dict[int, list[Particles]] = {day: [] for day in days}
    for number in range(1, n_worlds + 1):
        other = replace(
            config, seed=config.seed + number * _SEED_STEP, n_customers=n_customers, n_days=days[-1]
        )
        history = simulate_purchases(other)
        for day in days:
            first = day - N_LAGS
            since, count = read_counters(history, first, slice(None))
            found[day].append(
                Particles(
                    history.traits,
                    list_cells(history.traits),
                    since,
                    count,
                    history.sale_propensity[first:day],
                )
            )
    return {day: _join(parts) for day, parts in found.items()}


def list_cells(traits: PurchaseTraits) -> np.ndarray:
    """Return which demographic cell each consumer is of, as a row shows it, shape (n,)."""
    return (traits.age_decade // 10 * 10 + traits.income_quintile) * 2 + traits.loyalty


def measure_evidence(
    config: PurchaseConfig,
    windows: Windows,
    cell: np.ndarray,
    particles: dict[int, Particles],
) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's log-probability given its demographics and promotions, in the simulator.

    Parameters
    ----------
    config
        The world.
    windows
        n rows.
    cell : shape (n,)
        Of each row's consumer.
    particles
        Of every day that the rows have.

    Returns
    -------
    tuple
        Nats and the effective number of particles behind them, shape (n,); minus infinity where
        none of them could show the row.
    """
    found, effective = np.full(len(cell), -np.inf), np.zeros(len(cell))
    for day, kind in sorted(set(zip(windows.day.tolist(), cell.tolist(), strict=True))):
        rows = np.flatnonzero((windows.day == day) & (cell == kind))
        known = particles[day]
        members = np.flatnonzero(known.cell == kind)[:_MOST]
        if len(members):
            weight = _weigh(config, windows.take(rows), known, members)
            total = weight.sum(axis=1)
            with np.errstate(divide="ignore"):
                found[rows] = np.log(total / len(members))
            effective[rows] = total**2 / np.maximum((weight**2).sum(axis=1), 1e-300)
    return found, effective


def _weigh(
    config: PurchaseConfig, windows: Windows, known: Particles, members: np.ndarray
) -> np.ndarray:
    """Return the probability of every window under every particle, shape (rows, particles)."""
    n_rows, n = len(windows.day), len(members)
    happened = {  # the earliest day first, every particle beside every row: (lags, rows x n)
        name: np.repeat(windows.happened[:, place, ::-1].T, n, axis=1)
        for place, name in enumerate(LAGGED)
    }
    repeated = PurchaseTraits(
        **{
            name: np.tile(getattr(known.traits, name)[members], n_rows)
            for name in PurchaseTraits.__dataclass_fields__
        }
    )
    outcomes = ("visit", "purchase")
    since = {
        name: _follow(happened[name], np.tile(known.since[members, place], n_rows))
        for place, name in enumerate(outcomes)
    }
    dates = np.datetime64(config.first_date, "D") + windows.day[0] - np.arange(N_LAGS, 0, -1)
    month = dates.astype("datetime64[M]").astype(int) % 12 + 1
    season = np.repeat(np.isin(month, config.season_months)[:, None], n_rows * n, axis=1)
    price = config.list_price * (
        1
        - config.season_discount * season
        - config.campaign_discount * happened["campaign"]
        - np.array(config.coupon_discount)[repeated.loyalty.astype(int)] * happened["coupon"]
    )
    truth = compute_purchase_truth(
        config,
        PurchaseHistory(
            traits=repeated,
            push=happened["push"],
            coupon=happened["coupon"],
            campaign=happened["campaign"],
            sale1=np.zeros_like(season),
            sale2=season,
            price=price,
            sale_propensity=np.zeros(season.shape),
            visits=happened["visit"],
            purchases=happened["purchase"],
            days_since_visit=since["visit"],
            days_since_purchase=since["purchase"],
        ),
    )
    # Nobody sees whether a day had a sale: its probability is known.
    sale = np.tile(known.propensity[:, members], (1, n_rows))
    chances = {
        "visit": np.where(happened["push"], truth.visit[..., 1], truth.visit[..., 0]),
        "purchase": sale * truth.purchase[..., 1] + (1 - sale) * truth.purchase[..., 0],
    }
    weight = np.ones(n_rows * n)
    for place, name in enumerate(outcomes):
        chance = np.where(happened[name], chances[name], 1 - chances[name])
        shown = list_counters(
            windows.happened[:, None, place],
            known.since[None, members, place],
            known.count[None, members, place],
        )
        expected = windows.rows[:, None, _COUNTER_COLUMNS[place]].astype(bool)
        weight *= chance.prod(axis=0) * (shown == expected).all(axis=2).ravel()
    return weight.reshape(n_rows, n)


def _follow(happened: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Return the days since the last on each day of a window, shape (lags, n)."""
    found = [since]
    for day in happened[:-1]:
        found.append(np.where(day, 0, found[-1] + 1))
    return np.stack(found)


def _join(parts: list[Particles]) -> Particles:
    """Return the particles of several worlds as one."""
    traits = PurchaseTraits(
        **{
            name: np.concatenate([getattr(each.traits, name) for each in parts])
            for name in PurchaseTraits.__dataclass_fields__
        }
    )
    return Particles(
        traits,
        np.concatenate([each.cell for each in parts]),
        np.concatenate([each.since for each in parts]),
        np.concatenate([each.count for each in parts]),
        np.concatenate([each.propensity for each in parts], axis=1),
    )


def _find_counters() -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of visits' and purchases' counters: within, then at least."""
    names = make_layout(10).names
    columns = []
    for name in ("visit", "purchase"):
        units = [f"{name}_within_{n}d" for n in WITHIN]
        units += [f"{name}s_at_least_{n}" for n in AT_LEAST]
        columns.append(np.array([names.index(unit) for unit in units]))
    return columns[0], columns[1]


_COUNTER_COLUMNS = _find_counters()
