"""One day of n customers: who visits, buys, redeems, opts out; equations in docs/worlds.md.

Everything that chance decides comes in as uniform or normal draws, one per customer and purpose,
so two arms that share their draws differ by their actions alone.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl

from ml.simulate.config import CHANNELS, TIERS, WorldConfig
from ml.simulate.population import People

N_COHORTS = 7
_UNIFORMS = (
    "fails",
    "opts_out",
    "visits",
    "buys",
    "is_large",
    "redeems",
    "browses",
    "about",
    "second",
    "late",
    "falls_dormant",
    "moves_tier",
    "returns",
    "other_offer",
)


@dataclass(frozen=True)
class Customers:
    """Where n customers stand before a day; every array has shape (n,).

    Attributes
    ----------
    is_dormant : bool
        Latent; moves on the customer's decision day.
    tier : int8
        Index into TIERS.
    bought : int8
        Purchases since the last decision day.
    fatigue : float32
        Messages that still weigh.
    was_messaged : bool
        Since the last decision day.
    has_other_offer : bool
        The other programme's offer is on.
    closed : int8
        Bit c is set where channel c was opted out of.
    offer : int8
        Index of the newest offer that arrived, 0 for none.
    offer_age : int8
        Days since it arrived, 0 on its day.
    is_redeemed : bool
        Its coupon is spent.
    """

    is_dormant: np.ndarray
    tier: np.ndarray
    bought: np.ndarray
    fatigue: np.ndarray
    was_messaged: np.ndarray
    has_other_offer: np.ndarray
    closed: np.ndarray
    offer: np.ndarray
    offer_age: np.ndarray
    is_redeemed: np.ndarray

    def take(self, rows: slice | np.ndarray) -> "Customers":
        """Return some of them."""
        return Customers(*(getattr(self, each.name)[rows] for each in fields(self)))

    def to_frame(self) -> pl.DataFrame:
        """Return them as a frame, to be kept."""
        return pl.DataFrame({each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "Customers":
        """Return what ``to_frame`` made a frame of."""
        return cls(*(frame[each.name].to_numpy() for each in fields(cls)))


@dataclass(frozen=True)
class Draws:
    """A day's chance for n customers: ``uniform[purpose]`` and ``ticket``, each shape (n,)."""

    uniform: dict[str, np.ndarray]
    ticket: np.ndarray


@dataclass(frozen=True)
class Circumstances:
    """What is the same for everybody on a day.

    ``visit_shift`` in log-odds (weekday and media); strengths, face values and ``message_cost``
    of shape (K,); ``redemption_probability`` of a coupon at a purchase; ``is_tastes_turned`` after
    the drift of tastes.
    """

    visit_shift: float
    visit_strength: np.ndarray
    purchase_strength: np.ndarray
    ticket_strength: np.ndarray
    face_value: np.ndarray
    message_cost: np.ndarray
    redemption_probability: float
    is_tastes_turned: bool


@dataclass(frozen=True)
class Happened:
    """What a day brought, each array of shape (n,).

    ``realised`` is the action that arrived, -1 where nothing was decided; ``spend`` and
    ``redeemed`` in currency; ``opted_out`` the channel's index, -1 for none.
    """

    realised: np.ndarray
    opted_out: np.ndarray
    visits: np.ndarray
    buys: np.ndarray
    redeems: np.ndarray
    spend: np.ndarray
    redeemed: np.ndarray


@dataclass(frozen=True)
class Moved:
    """What the evening brought, each of shape (n,): for those who are decided on tomorrow."""

    moves_tier: np.ndarray
    returns: np.ndarray
    is_offered_other: np.ndarray


def open_customers(config: WorldConfig, n: int, random: np.random.Generator) -> Customers:
    """Return n customers at the beginning: asleep or not, in their first tier, no offers."""
    life = config.lifecycle
    bounds = np.cumsum(life.tier_shares) / np.sum(life.tier_shares)
    return Customers(
        is_dormant=random.random(n) < life.dormant_share,
        tier=np.searchsorted(bounds, random.random(n), side="right")
        .clip(0, len(TIERS) - 1)
        .astype(np.int8),
        bought=np.zeros(n, dtype=np.int8),
        fatigue=np.zeros(n, dtype=np.float32),
        was_messaged=np.zeros(n, dtype=bool),
        has_other_offer=np.zeros(n, dtype=bool),
        closed=np.zeros(n, dtype=np.int8),
        offer=np.zeros(n, dtype=np.int8),
        offer_age=np.zeros(n, dtype=np.int8),
        is_redeemed=np.zeros(n, dtype=bool),
    )


def is_due(people: People, day: int) -> np.ndarray:
    """Return who is decided on in a day: their cohort, from the day after sign-up; (n,), bool."""
    return (people.cohort == day % N_COHORTS) & (people.signup_day < day)


def draw_day(random: np.random.Generator, n: int) -> Draws:
    """Draw a day's chance, always the same number of draws."""
    uniform = {name: random.random(n, dtype=np.float32) for name in _UNIFORMS}
    return Draws(uniform, random.standard_normal(n, dtype=np.float32))


def chances_of(
    config: WorldConfig,
    people: People,
    customers: Customers,
    today: Circumstances,
    *,
    offer: np.ndarray,
    offer_age: np.ndarray,
    is_active: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probability of a visit, of a purchase at a visit, and the ticket's log-mean.

    Parameters
    ----------
    config, people, customers, today
        Who, where they stand, which day.
    offer, offer_age : shape (n,), int
        The offer that may act, and its age in days.
    is_active : shape (n,), bool
        Whether it acts: it is valid, and its coupon unspent.

    Returns
    -------
    tuple
        Three arrays of shape (n,), float32.
    """
    demand, response = config.demand, config.response
    is_coupon = today.face_value[offer] > 0
    ad, coupon = people.ad_response, people.coupon_response
    if today.is_tastes_turned:
        ad, coupon = _turn(ad, config), _turn(coupon, config)
    power = np.where(is_coupon, coupon, ad) * is_active
    power = power * np.exp(np.float32(-1 / response.attention_days) * offer_age)
    power = power / (1 + np.float32(response.fatigue_on_response) * customers.fatigue)
    power = power * np.where(customers.is_dormant, np.float32(response.dormant_factor), 1)
    visit = np.where(
        customers.is_dormant,
        np.float32(demand.dormant_visit_log_odds),
        np.float32(demand.visit_log_odds),
    )
    if config.other_programme is not None:
        other = config.other_programme
        power = power * (1 + np.float32(other.on_response) * customers.has_other_offer)
        visit = visit + np.float32(other.on_visit) * customers.has_other_offer
    visit = visit + np.float32(demand.preference_on_visit) * people.preference
    visit = visit + np.array(demand.tier_on_visit, dtype=np.float32)[customers.tier]
    visit = visit + np.float32(today.visit_shift)
    visit = visit - np.float32(response.fatigue_on_visit) * customers.fatigue
    visit = visit + today.visit_strength[offer] * power
    purchase = np.float32(demand.purchase_log_odds) + today.purchase_strength[offer] * power
    purchase = purchase + np.float32(demand.preference_on_purchase) * people.preference
    ticket = np.float32(demand.ticket_log_mean) + today.ticket_strength[offer] * power
    ticket = ticket + np.float32(demand.preference_on_ticket) * people.preference
    return 1 / (1 + np.exp(-visit)), 1 / (1 + np.exp(-purchase)), ticket


def mean_ticket(config: WorldConfig, log_mean: np.ndarray) -> np.ndarray:
    """Return the expected ticket, currency, for log-means of any shape."""
    demand = config.demand
    large = 1 + demand.large_order_share * (demand.large_order_factor - 1)
    return large * np.exp(log_mean + demand.ticket_log_sd**2 / 2)


def live_day(
    config: WorldConfig,
    people: People,
    customers: Customers,
    draws: Draws,
    today: Circumstances,
    *,
    day: int,
    assigned: np.ndarray,
) -> tuple[Customers, Happened]:
    """Live one day.

    Parameters
    ----------
    config, people, customers
        Who, and where they stand before the day.
    draws
        The day's chance.
    today
        The day's circumstances.
    day
        Counted from the world's first date.
    assigned : shape (n,), int
        The action decided today, -1 where none was.

    Returns
    -------
    tuple
        Where they stand after the day, before the evening, and what happened.
    """
    chance, response = draws.uniform, config.response
    arrives = (assigned > 0) & (chance["fails"] >= response.delivery_failure)
    realised = np.where(arrives, assigned, np.minimum(assigned, 0)).astype(np.int8)
    opted_out = _opt_out(config, people, customers, realised, chance["opts_out"])
    closed = np.where(
        opted_out >= 0, customers.closed | (1 << np.maximum(opted_out, 0)), customers.closed
    ).astype(np.int8)
    offer = np.where(arrives, realised, customers.offer)
    age = np.where(arrives, 0, customers.offer_age)
    spent = customers.is_redeemed & ~arrives
    is_active = (offer > 0) & (age < response.validity_days) & ~spent
    visit, purchase, ticket_mean = chances_of(
        config, people, customers, today, offer=offer, offer_age=age, is_active=is_active
    )
    visits = (people.signup_day < day) & (chance["visits"] < visit)
    buys = visits & (chance["buys"] < purchase)
    factor = np.where(
        chance["is_large"] < config.demand.large_order_share, config.demand.large_order_factor, 1.0
    )
    ticket = factor * np.exp(
        ticket_mean.astype(np.float64) + config.demand.ticket_log_sd * draws.ticket
    )
    spend = np.where(buys, np.maximum(np.round(ticket, 2), 0.01), 0.0)
    redeems = buys & is_active & (today.face_value[offer] > 0)
    redeems &= chance["redeems"] < today.redemption_probability
    after = replace(
        customers,
        bought=(customers.bought + buys).astype(np.int8),
        was_messaged=customers.was_messaged | arrives,
        closed=closed,
        offer=offer,
        offer_age=np.minimum(age + 1, 100).astype(np.int8),
        is_redeemed=spent | redeems,
    )
    redeemed = np.where(redeems, today.face_value[offer], 0.0)
    return after, Happened(realised, opted_out, visits, buys, redeems, spend, redeemed)


def close_day(
    config: WorldConfig, people: People, customers: Customers, draws: Draws, *, day: int
) -> tuple[Customers, Moved]:
    """Live the evening: customers who are decided on tomorrow change tier, doze off, and so on.

    Parameters
    ----------
    config, people, customers
        Who, and where they stand after the day.
    draws
        The day's chance.
    day
        The day that ends.

    Returns
    -------
    tuple
        Where they stand before tomorrow, and what moved.
    """
    chance, life, response = draws.uniform, config.lifecycle, config.response
    due = is_due(people, day + 1)
    has_bought = customers.bought > 0
    up = 1 - (1 - np.array(life.tier_up)[customers.tier]) ** customers.bought
    down = np.where(has_bought, 0.0, np.array(life.tier_down)[customers.tier])
    step = (chance["moves_tier"] < up).astype(np.int8) - (chance["moves_tier"] < down)
    moves_tier = due & (step != 0)
    dozes = customers.is_dormant | (chance["falls_dormant"] < life.falls_dormant)
    returns = due & (customers.closed != 0) & (chance["returns"] < response.return_probability)
    is_offered = np.zeros(people.n_customers, dtype=bool)
    if config.other_programme is not None:
        is_offered = due & people.has_app & (chance["other_offer"] < config.other_programme.share)
    fatigue = customers.fatigue * response.fatigue_kept_weekly + np.where(
        customers.was_messaged, people.annoyance, 0
    )
    after = replace(
        customers,
        is_dormant=np.where(due, ~has_bought & dozes, customers.is_dormant),
        tier=np.where(moves_tier, customers.tier + step, customers.tier).astype(np.int8),
        bought=np.where(due, 0, customers.bought).astype(np.int8),
        fatigue=np.where(due, fatigue, customers.fatigue).astype(np.float32),
        was_messaged=customers.was_messaged & ~due,
        has_other_offer=np.where(due, is_offered, customers.has_other_offer),
        closed=np.where(returns, 0, customers.closed).astype(np.int8),
    )
    return after, Moved(moves_tier, returns, is_offered)


def eligible_actions(people: People, customers: Customers, channel_of: np.ndarray) -> np.ndarray:
    """Return which actions may reach each customer, shape (n, K), bool.

    Parameters
    ----------
    people, customers
        Channels open at sign-up, and opt-outs.
    channel_of : shape (K,), index into CHANNELS, -1 for control
        Of each action.

    Returns
    -------
    np.ndarray
        Control always.
    """
    is_open = people.reach & ((customers.closed[:, None] >> np.arange(len(CHANNELS))) & 1 == 0)
    return (channel_of < 0) | is_open[:, channel_of]


def _opt_out(
    config: WorldConfig,
    people: People,
    customers: Customers,
    realised: np.ndarray,
    uniforms: np.ndarray,
) -> np.ndarray:
    """Return the channel that a message made the customer leave, -1 for none."""
    response = config.response
    logit = response.opt_out_log_odds + response.opt_out_fatigue * customers.fatigue
    logit = logit + np.log(people.annoyance)
    leaves = (realised > 0) & (uniforms < 1 / (1 + np.exp(-logit)))
    return np.where(leaves, config.channel_of[np.maximum(realised, 0)], -1)


def _turn(response: np.ndarray, config: WorldConfig) -> np.ndarray:
    """Return responses mirrored at twice the designed mean, at least -0.2: the strong are weak."""
    return np.maximum(
        np.float32(2 * config.traits.responsiveness_mean) - response, np.float32(-0.2)
    )
