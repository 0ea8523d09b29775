"""The bakery as an environment: all customers decided on once a week, all at once.

The dynamics are the world's own (``dynamics.py``); what an agent sees is what a company would:
attributes, recency and frequency, exposure and discounts that still weigh, tier, opt-outs.
"""

from dataclasses import dataclass, replace

import numpy as np

from ml.core.journeys import Outcome, Situation
from ml.simulate.config import CHANNELS, TIERS, WorldConfig
from ml.simulate.dynamics import (
    N_COHORTS,
    Customers,
    Happened,
    close_day,
    draw_day,
    eligible_actions,
    live_day,
    open_customers,
)
from ml.simulate.world import World

FEATURES = (
    "age",
    "income",
    "has_app",
    *(f"is_{tier}" for tier in TIERS),
    "weeks_since_visit",
    "weeks_since_purchase",
    "visits",
    "purchases",
    "spend",
    *(f"exposure_{channel}" for channel in CHANNELS),
    "discounts",
    "redeemed",
    "open_coupon",
    "weeks_since_offer",
    "visit_rate",
    "purchase_rate",
    "offer_rate",
    *(f"is_closed_{channel}" for channel in CHANNELS),
)
_KEPT_WEEKLY = 0.75
_MOST_WEEKS = 26.0
_PRIOR_WEEKS = 4
_BEFORE_ALL = -10_000


@dataclass
class _Seen:
    """What was observed of n customers; sums are weekly and fade, a quarter of them a week.

    ``total_...`` don't fade; ``open_coupon`` is the face value of an offer that may be redeemed.
    """

    since_visit: np.ndarray
    since_purchase: np.ndarray
    since_offer: np.ndarray
    open_coupon: np.ndarray
    total_visits: np.ndarray
    total_purchases: np.ndarray
    total_offers: np.ndarray
    visits: np.ndarray
    purchases: np.ndarray
    spend: np.ndarray
    exposure: np.ndarray
    discounts: np.ndarray
    redeemed: np.ndarray


@dataclass(frozen=True)
class WeekFacts:
    """What a week brought, each shape (n,).

    Purchases and their spend, offers that arrived, channels opted out of, the tier before and
    after.
    """

    purchases: np.ndarray
    spend: np.ndarray
    is_sent: np.ndarray
    opted_out: np.ndarray
    tier: np.ndarray
    next_tier: np.ndarray


class BakeryJourneys:
    """The bakery's customers, a step a week; the reward is net margin of the week, currency.

    Net margin: margin x spend less cost, which is redeemed face values and messages, whatever offer
    they are of. Journeys don't end; ``n_steps`` weeks are one. Customers, their latent traits too,
    are the world's, drawn from its seed; ``begin``'s seed draws their chance. Everybody signed up
    before.
    """

    def __init__(
        self, config: WorldConfig, *, n_customers: int, n_steps: int = 26, burn_in_weeks: int = 6
    ) -> None:
        self.world = World(replace(config, n_customers=n_customers, joining_share=0.0))
        self.n_steps, self.burn_in_weeks = n_steps, burn_in_weeks
        self.n_actions, self.n_features = self.world.actions.n_actions, len(FEATURES)
        population = self.world.population
        self._people = replace(
            population.people,
            cohort=np.zeros_like(population.people.cohort),
            signup_day=np.full_like(population.people.signup_day, _BEFORE_ALL),
        )
        age, income = (population.attributes[name].to_numpy() for name in ("age", "income"))
        self._fixed = np.column_stack(
            [(age - 49) / 17.9, np.log(income) / 0.5, self._people.has_app]
        ).astype(np.float32)

    @property
    def n_customers(self) -> int:
        """Number of customers, n."""
        return self._people.n_customers

    def begin(self, seed: int) -> Situation:
        """Open everybody, live the weeks of the burn-in without offers, and begin."""
        n = self.n_customers
        self._key = [self.world.config.seed, 71, seed]
        random = np.random.default_rng(self._key)
        self._customers: Customers = open_customers(self.world.config, n, random)
        self._seen = _Seen(
            since_visit=np.full(n, _MOST_WEEKS),
            since_purchase=np.full(n, _MOST_WEEKS),
            since_offer=np.full(n, _MOST_WEEKS),
            open_coupon=np.zeros(n),
            total_visits=np.zeros(n),
            total_purchases=np.zeros(n),
            total_offers=np.zeros(n),
            visits=np.zeros(n),
            purchases=np.zeros(n),
            spend=np.zeros(n),
            exposure=np.zeros((n, len(CHANNELS))),
            discounts=np.zeros(n),
            redeemed=np.zeros(n),
        )
        self._week = 0
        nothing = np.zeros(n, dtype=np.int8)
        for _ in range(self.burn_in_weeks):
            self.step(nothing)
        return self._situation()

    def step(self, action: np.ndarray) -> Outcome:
        """Send today, live seven days."""
        config, world = self.world.config, self.world
        n = self.n_customers
        first = N_COHORTS * self._week
        tier = self._customers.tier
        cost, spend = np.zeros(n), np.zeros(n)
        visits, purchases, redeemed = np.zeros(n), np.zeros(n), np.zeros(n)
        opted_out, arrived = np.full(n, -1), np.zeros(n, dtype=np.int8)
        for offset in range(N_COHORTS):
            day = first + offset
            today = world.circumstances(day)
            draws = draw_day(np.random.default_rng([*self._key, day]), n)
            assigned = action.astype(np.int8) if offset == 0 else np.full(n, -1, dtype=np.int8)
            lived, happened = live_day(
                config, self._people, self._customers, draws, today, day=day, assigned=assigned
            )
            self._customers, _ = close_day(config, self._people, lived, draws, day=day)
            if offset == 0:
                opted_out, arrived = happened.opted_out, np.maximum(happened.realised, 0)
                cost += today.message_cost[arrived]
            cost += happened.redeemed
            spend += happened.spend
            visits += happened.visits
            purchases += happened.buys
            redeemed += _count(happened)
        self._remember(arrived, visits, purchases, spend, redeemed)
        self._week += 1
        self.facts = WeekFacts(purchases, spend, arrived > 0, opted_out, tier, self._customers.tier)
        net = config.programme.margin * spend - cost
        return Outcome(net, cost, self._situation(), np.zeros(n, dtype=bool))

    def _remember(
        self,
        arrived: np.ndarray,
        visits: np.ndarray,
        purchases: np.ndarray,
        spend: np.ndarray,
        redeemed: np.ndarray,
    ) -> None:
        """Let what was seen fade, and add the week."""
        seen, world = self._seen, self.world
        channel = world.channel_of[arrived]
        sent = channel[:, None] == np.arange(len(CHANNELS))
        face = np.array([each.face_value for each in world.config.ordered_offers])[arrived]
        for name, week in (
            ("visits", visits),
            ("purchases", purchases),
            ("spend", spend),
            ("exposure", sent),
            ("discounts", face),
            ("redeemed", redeemed),
        ):
            setattr(seen, name, _KEPT_WEEKLY * getattr(seen, name) + week)
        is_sent = arrived > 0
        for name, week in (("visits", visits), ("purchases", purchases), ("offers", is_sent)):
            setattr(seen, f"total_{name}", getattr(seen, f"total_{name}") + week)
        for name, happened in (
            ("since_visit", visits > 0),
            ("since_purchase", purchases > 0),
            ("since_offer", is_sent),
        ):
            waited = np.minimum(getattr(seen, name) + 1, _MOST_WEEKS)
            setattr(seen, name, np.where(happened, 0.0, waited))
        customers, response = self._customers, world.config.response
        faces = np.array([each.face_value for each in world.config.ordered_offers])
        is_open = (customers.offer_age < response.validity_days) & ~customers.is_redeemed
        seen.open_coupon = np.where(is_open, faces[customers.offer], 0.0)

    def _situation(self) -> Situation:
        """Return what a company knows, and whom it may reach."""
        seen, customers = self._seen, self._customers
        closed = (customers.closed[:, None] >> np.arange(len(CHANNELS))) & 1
        lived = max(self._week, 1)
        state = np.column_stack(
            [
                self._fixed,
                np.eye(len(TIERS))[customers.tier],
                seen.since_visit,
                seen.since_purchase,
                seen.visits,
                seen.purchases,
                np.log1p(seen.spend),
                seen.exposure,
                seen.discounts,
                seen.redeemed,
                seen.open_coupon,
                seen.since_offer,
                *(
                    total / (lived + _PRIOR_WEEKS)
                    for total in (seen.total_visits, seen.total_purchases, seen.total_offers)
                ),
                closed,
            ]
        ).astype(np.float32)
        return Situation(state, eligible_actions(self._people, customers, self.world.channel_of))


def _count(happened: Happened) -> np.ndarray:
    return np.asarray(happened.redeems, dtype=float)
