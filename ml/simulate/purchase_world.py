"""Purchase World: a published simulation of visits and purchases, and two mended variants.

docs/worlds.md states the equations.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

import numpy as np
from scipy.special import expit

Sale = Literal["published", "identified", "hidden"]

NEVER = 999
# One stream of chance per purpose and day, drawn in full whatever is decided.
_POPULATION, _PUSH, _COUPON, _CAMPAIGN, _SALE, _VISIT, _PURCHASE = range(1, 8)
_NODES, _GRID = 512, np.linspace(-20.0, 20.0, 8_001)


@dataclass(frozen=True, kw_only=True)
class PurchaseConfig:
    """A Purchase World; days count from ``first_date``, prices are in currency.

    ``sale`` says who gets the sale: 'published' everybody on Sundays, so that no day has both;
    'identified' each consumer at random, by day of the week and binned demographics; 'hidden' by
    the latent base preference. ``discount`` is the sale's share of the list price. The pairs are
    (base, loyal). ``version`` changes with any number that changes what the world does.
    """

    sale: Sale = "published"
    discount: float = 0.05
    version: int = 1
    seed: int = 42
    n_customers: int = 1024
    n_days: int = 365
    first_date: date = date(2025, 1, 1)
    list_price: float = 100.0
    store_shares: tuple[float, ...] = (0.20, 0.15, 0.13, 0.12, 0.10, 0.08, 0.07, 0.06, 0.05, 0.04)
    loyalty_share: float = 0.3
    push_probability: float = 0.25
    coupon_probability: tuple[float, float] = (0.12, 0.18)
    coupon_discount: tuple[float, float] = (0.025, 0.01)
    season_months: tuple[int, ...] = (3, 6, 9, 12)
    season_discount: float = 0.03
    campaign_probability: float = 0.15
    campaign_days: int = 3
    most_campaigns: int = 3
    campaign_discount: float = 0.05
    noise_scale: float = 0.10

    @property
    def name(self) -> str:
        """Return the world's name: purchase_world, the sale, and the discount if not 5 %."""
        base = "as_published" if self.sale == "published" else self.sale
        percent = round(100 * self.discount, 6)
        return f"purchase_world_{base}" + ("" if percent == 5 else f"_{percent:g}")


_SALES: tuple[Sale, ...] = ("published", "identified", "hidden")
PURCHASE_WORLDS: dict[str, PurchaseConfig] = {
    config.name: config
    for sale in _SALES
    for config in (PurchaseConfig(sale=sale), PurchaseConfig(sale=sale, discount=0.25))
}


@dataclass(frozen=True)
class PurchaseTraits:
    """n consumers; every array has shape (n,).

    ``age`` in years, 20 to 69; ``income`` in currency; ``loyalty`` bool; ``store`` 0 to 9, the
    home store, for good; ``age_decade`` 20 to 60; ``income_quintile`` 1 to 5 among the world's
    consumers. Latent: ``alpha`` price sensitivity, ``beta`` base preference, ``gamma`` promotion
    responsiveness.
    """

    age: np.ndarray
    income: np.ndarray
    loyalty: np.ndarray
    store: np.ndarray
    age_decade: np.ndarray
    income_quintile: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray


@dataclass(frozen=True)
class PurchaseHistory:
    """What happened; every array has shape (n_days, n) and is bool unless stated.

    ``campaign`` is the home store's, ``sale2`` the season's sale. ``price`` is what a purchase
    costs that consumer that day, currency; ``sale_propensity`` the exact probability of
    ``sale1``, 0 or 1 as published. ``days_since_visit`` and ``days_since_purchase``, int16, count
    the days since the last, before the day and without it: 0 the day after; NEVER at the start.
    """

    traits: PurchaseTraits
    push: np.ndarray
    coupon: np.ndarray
    campaign: np.ndarray
    sale1: np.ndarray
    sale2: np.ndarray
    price: np.ndarray
    sale_propensity: np.ndarray
    visits: np.ndarray
    purchases: np.ndarray
    days_since_visit: np.ndarray
    days_since_purchase: np.ndarray


@dataclass(frozen=True)
class PurchaseTruth:
    """True probabilities of a day, float32, shape (n_days, n, 2); the history is as it was.

    ``visit[..., a]`` with push = a, ``purchase[..., a]`` with sale1 = a, all else as it was.
    """

    visit: np.ndarray
    purchase: np.ndarray

    @property
    def push_effect(self) -> np.ndarray:
        """Of push on a visit that day, shape (n_days, n), a difference of probabilities."""
        return self.visit[..., 1] - self.visit[..., 0]

    @property
    def sale_effect(self) -> np.ndarray:
        """Of the sale on a purchase that day, shape (n_days, n)."""
        return self.purchase[..., 1] - self.purchase[..., 0]


def simulate_purchases(config: PurchaseConfig) -> PurchaseHistory:
    """Simulate a world: consumers, promotions and prices first, then the outcomes day by day.

    The published store probabilities are read as each consumer's home store, drawn once. Chance
    has its own stream per purpose and day, so that worlds that differ only in ``sale`` or
    ``discount`` share consumers and luck.

    Parameters
    ----------
    config
        The world.

    Returns
    -------
    PurchaseHistory
        The same for the same config, always.
    """
    traits = _draw_traits(config)
    shape = (config.n_days, config.n_customers)
    weekday, month = _read_calendar(config)
    loyal = traits.loyalty.astype(int)
    push = _draw_uniforms(config, _PUSH) < config.push_probability
    coupon = _draw_uniforms(config, _COUPON) < np.array(config.coupon_probability)[loyal]
    campaign = _draw_campaigns(config)[:, traits.store]
    propensity = _set_sale_propensity(config, traits, weekday)
    sale1 = _draw_uniforms(config, _SALE) < propensity
    sale2 = np.repeat(np.isin(month, config.season_months)[:, None], shape[1], axis=1)
    price = config.list_price - config.list_price * (
        config.discount * sale1
        + config.season_discount * sale2
        + config.campaign_discount * campaign
        + np.array(config.coupon_discount)[loyal] * coupon
    )
    history = PurchaseHistory(
        traits=traits,
        push=push,
        coupon=coupon,
        campaign=campaign,
        sale1=sale1,
        sale2=sale2,
        price=price,
        sale_propensity=propensity,
        visits=np.zeros(shape, dtype=bool),
        purchases=np.zeros(shape, dtype=bool),
        days_since_visit=np.full(shape, NEVER, dtype=np.int16),
        days_since_purchase=np.full(shape, NEVER, dtype=np.int16),
    )
    for day in range(config.n_days):
        history.visits[day], history.purchases[day] = live_day(config, history, day)
        for happens, since in (
            (history.visits, history.days_since_visit),
            (history.purchases, history.days_since_purchase),
        ):
            # A day after the last has no row, and the slice is then empty.
            since[day + 1 : day + 2] = np.where(happens[day], 0, since[day] + 1)
    return history


def live_day(
    config: PurchaseConfig,
    history: PurchaseHistory,
    day: int,
    *,
    push: np.ndarray | bool | None = None,
    sale1: np.ndarray | bool | None = None,
    replicate: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Live one day: P = sigmoid(U + 0.10 Gumbel), visit and purchase drawn independently.

    A replicate has the same chance whatever push and sale1 are; number 0 is the history's.

    Parameters
    ----------
    config, history
        The world; of the day itself, the promotions and the days since.
    day
        From 0.
    push, sale1 : shape (n,), bool, or one for all
        Instead of what was; None: as it was.
    replicate
        Which chance.

    Returns
    -------
    tuple
        Visits and purchases, shape (n,), bool.
    """
    visit = _visit_utility(history, day, push=history.push[day] if push is None else push)
    on_sale = history.sale1[day] if sale1 is None else sale1
    purchase = _purchase_utility(config, history, day, sale1=on_sale)
    return (
        _draw_outcome(config, visit, key=[_VISIT, day, replicate]),
        _draw_outcome(config, purchase, key=[_PURCHASE, day, replicate]),
    )


def compute_purchase_truth(config: PurchaseConfig, history: PurchaseHistory) -> PurchaseTruth:
    """Compute the true probabilities of visits and purchases under both arms.

    The Gumbel noise G is integrated out, E sigmoid(U + s G) = int_0^1 sigmoid(U - s log(-log u))
    du, by Gauss-Legendre on 512 nodes, tabulated over U in [-20, 20] and interpolated: exact to
    1e-6.

    Parameters
    ----------
    config, history
        The world.

    Returns
    -------
    PurchaseTruth
        Of the day's outcome alone; later days are not in it.
    """
    every_day = slice(None)
    visit = [_visit_utility(history, every_day, push=arm) for arm in (False, True)]
    purchase = [_purchase_utility(config, history, every_day, sale1=arm) for arm in (False, True)]
    table = _tabulate_probability(config.noise_scale)
    return PurchaseTruth(
        visit=np.interp(np.stack(visit, axis=-1), _GRID, table).astype(np.float32),
        purchase=np.interp(np.stack(purchase, axis=-1), _GRID, table).astype(np.float32),
    )


def _draw_traits(config: PurchaseConfig) -> PurchaseTraits:
    """Draw consumers; income and age enter the latent traits standardised."""
    n = config.n_customers
    random = np.random.default_rng([config.seed, _POPULATION])
    store = random.choice(len(config.store_shares), size=n, p=config.store_shares)
    age = random.integers(20, 70, n)
    income = random.lognormal(6.0, 0.5, n)
    loyalty = random.random(n) < config.loyalty_share
    age_z, income_z = _standardise(age), _standardise(income)
    return PurchaseTraits(
        age=age,
        income=income,
        loyalty=loyalty,
        store=store,
        age_decade=age // 10 * 10,
        income_quintile=1 + np.digitize(income, np.quantile(income, [0.2, 0.4, 0.6, 0.8])),
        alpha=2.0 + random.normal(0, 0.3, n) - 0.6 * income_z - 0.4 * age_z,
        beta=random.normal(0, 0.3, n) + 0.5 * income_z + 0.4 * age_z + 0.5 * loyalty,
        gamma=1.0 + random.normal(0, 0.15, n) + 0.6 * loyalty,
    )


def _standardise(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and standard deviation 1 among the world's consumers."""
    return (values - values.mean()) / values.std(ddof=1)


def _read_calendar(config: PurchaseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return day of the week (Monday 0) and month (January 1), each of shape (n_days,)."""
    days = np.arange(config.n_days)
    month = (np.datetime64(config.first_date, "D") + days).astype("datetime64[M]")
    return (config.first_date.weekday() + days) % 7, month.astype(int) % 12 + 1


def _draw_uniforms(config: PurchaseConfig, purpose: int) -> np.ndarray:
    """Return uniforms of a purpose, shape (n_days, n)."""
    streams = (np.random.default_rng([config.seed, purpose, day]) for day in range(config.n_days))
    return np.stack([stream.random(config.n_customers) for stream in streams])


def _draw_campaigns(config: PurchaseConfig) -> np.ndarray:
    """Return which stores have a campaign, shape (n_days, stores), bool."""
    campaigns = np.zeros((config.n_days, len(config.store_shares)), dtype=bool)
    for day in range(config.n_days):
        random = np.random.default_rng([config.seed, _CAMPAIGN, day])
        free = np.flatnonzero(~campaigns[day])
        has_room = campaigns[day].sum() < config.most_campaigns
        if random.random() < config.campaign_probability and has_room and len(free):
            campaigns[day : day + config.campaign_days, random.choice(free)] = True
    return campaigns


def _set_sale_propensity(
    config: PurchaseConfig, traits: PurchaseTraits, weekday: np.ndarray
) -> np.ndarray:
    """Return the exact probability of sale1, shape (n_days, n)."""
    is_saturday, is_sunday = (weekday == 5)[:, None], (weekday == 6)[:, None]  # (n_days, 1)
    if config.sale == "published":
        return np.repeat(is_sunday.astype(float), config.n_customers, axis=1)
    if config.sale == "identified":
        leaning = 0.2 * (traits.age_decade / 10 - 4) + 0.4 * (traits.income_quintile - 3)  # (n,)
    else:
        leaning = 0.7 * np.clip(_standardise(traits.beta), -2, 2)  # (n,)
    return expit(-0.8 + 0.4 * is_saturday + 1.2 * is_sunday + leaning)


def _visit_utility(
    history: PurchaseHistory, day: int | slice, *, push: np.ndarray | bool
) -> np.ndarray:
    """Return the log-odds of a visit without noise, shape (n,) or (n_days, n)."""
    traits = history.traits
    promotion = 1.2 * history.campaign[day] + 0.8 * history.coupon[day] + 0.6 * push
    recency = 1 - np.minimum(history.days_since_visit[day], 30) / 30
    return -0.3 + traits.beta + traits.gamma * promotion + 0.1 * traits.loyalty - 0.3 * recency


def _purchase_utility(
    config: PurchaseConfig, history: PurchaseHistory, day: int | slice, *, sale1: np.ndarray | bool
) -> np.ndarray:
    """Return the log-odds of a purchase without noise, shape (n,) or (n_days, n)."""
    traits = history.traits
    without_sale = history.price[day] / config.list_price + config.discount * history.sale1[day]
    change = without_sale - config.discount * sale1 - 1  # of the price, a share
    recency = 1 - np.minimum(history.days_since_purchase[day], 60) / 60
    return -1.0 + traits.beta - traits.alpha * change + 0.30 * traits.loyalty - 0.8 * recency


def _draw_outcome(config: PurchaseConfig, utility: np.ndarray, *, key: list[int]) -> np.ndarray:
    """Return what happens, shape (n,), bool."""
    random = np.random.default_rng([config.seed, *key])
    noise = config.noise_scale * random.gumbel(0.0, 1.0, len(utility))
    return random.random(len(utility)) < expit(utility + noise)


@cache
def _tabulate_probability(noise_scale: float) -> np.ndarray:
    """Return E sigmoid(U + noise_scale x Gumbel) for every U of the grid."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    gumbel = -np.log(-np.log((1 + nodes) / 2))
    return expit(_GRID[:, None] + noise_scale * gumbel) @ (weights / 2)
