"""A world's days: decisions go in, the events they lead to come out, truths beside them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from ml.core.actions import ActionSet, read_actions
from ml.core.hashing import hash_text, hash_uniform
from ml.core.policy import draw_actions
from ml.simulate.config import WorldConfig
from ml.simulate.customers import Population, deliver_customers, draw_population

Tables = dict[str, pl.DataFrame]

_EVENT_SCHEMA: dict[str, pl.DataType] = {
    "customer_id": pl.String(),
    "occurred_at": pl.Datetime("us", "UTC"),
    "available_at": pl.Datetime("us", "UTC"),
    "type": pl.String(),
    "amount": pl.Float64(),
    "decision_id": pl.String(),
}


@dataclass(frozen=True)
class WorldState:
    """Where the world stands before a day.

    ``customers`` has one row per customer in population order: is_dormant, has_bought (since the
    last decision day), offer (index), offer_days_left, is_redeemed, decision_id. ``pending`` are
    events that nobody has delivered yet.
    """

    day: int
    customers: pl.DataFrame
    pending: pl.DataFrame


class World:
    """One world: ``open_day`` makes it, ``step`` lives one day of it.

    A day is a function of the config, the state before it and the decisions taken that day;
    nothing else. Same config and decisions, same bytes.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.population: Population = draw_population(config)
        self.actions: ActionSet = read_actions(config.offers_frame())
        by_id = {offer.action_id: offer for offer in config.offers}
        ordered = [by_id[action] for action in self.actions.action_ids]
        self._strength = np.array([offer.strength for offer in ordered])
        self._warm_start = np.array([offer.warm_start_weight for offer in ordered])
        reach = dict(zip(("email", "push", "text"), self.population.reach.T, strict=True))
        self.eligible = np.column_stack(
            [
                np.ones(self.population.n_customers, dtype=bool) if not channel else reach[channel]
                for channel in self.actions.channels
            ]
        )
        programme = config.programme
        ids = self.population.customer_id
        self._cohort = hash_text(ids, salt="cohort") % programme.n_cohorts
        self._is_holdout = hash_uniform(ids, salt="holdout") < programme.holdout_share

    def date_of(self, day: int) -> date:
        """Return the date of a day number."""
        return self.config.first_date + timedelta(days=day)

    def open_day(self) -> tuple[WorldState, Tables]:
        """Live the burn-in without offers and return the first day's delivery.

        Returns
        -------
        tuple
            The state before day 0, and the contract tables to deliver for the first date.
        """
        n = self.population.n_customers
        random = np.random.default_rng([self.config.seed, 2])
        customers = pl.DataFrame(
            {
                "is_dormant": random.random(n) < 0.45,
                "has_bought": np.zeros(n, dtype=bool),
                "offer": np.zeros(n, dtype=np.int64),
                "offer_days_left": np.zeros(n, dtype=np.int64),
                "is_redeemed": np.zeros(n, dtype=bool),
                "decision_id": pl.Series([None] * n, dtype=pl.String),
            }
        )
        state = WorldState(-self.config.burn_in_days, customers, pl.DataFrame(schema=_EVENT_SCHEMA))
        no_decisions = self.randomise(state).head(0)
        deliveries: list[Tables] = []
        while state.day < 0:
            state, tables = self.step(state, no_decisions)
            deliveries.append(tables)
        events = pl.concat([tables["events"] for tables in deliveries])
        present = np.flatnonzero(self.population.signup_day < 0)
        tables = deliver_customers(self.config, self.population, present)
        return state, {**tables, "actions": self.config.offers_frame(), "events": events}

    def due(self, state: WorldState) -> np.ndarray:
        """Return which customers are decided on in the state's day, shape (N,), bool."""
        signed_up = self.population.signup_day < state.day
        return (self._cohort == state.day % self.config.programme.n_cohorts) & signed_up

    def randomise(self, state: WorldState) -> pl.DataFrame:
        """Return the warm-start experiment's decisions for the state's day.

        Each due customer outside the holdout gets one eligible action at random, with
        probabilities proportional to the offers' warm-start weights, logged exactly.

        Parameters
        ----------
        state
            Before the day.

        Returns
        -------
        pl.DataFrame
            The contract's ``assignments``.
        """
        rows = np.flatnonzero(self.due(state) & ~self._is_holdout)
        weights = self.eligible[rows] * self._warm_start
        propensities = weights / weights.sum(axis=1, keepdims=True)
        day = self.date_of(state.day)
        ids = self.population.customer_id[rows]
        uniforms = hash_uniform(ids + f":{day}", salt=f"warm-start-{self.config.seed}")
        taken = draw_actions(propensities, uniforms)
        wide = pl.DataFrame(
            {
                "customer_id": ids,
                "taken": taken,
                "propensity": propensities[np.arange(len(rows)), taken],
            }
        )
        names = np.array(self.actions.action_ids)
        return wide.select(
            (pl.lit(f"{day}:") + pl.col("customer_id")).alias("decision_id"),
            "customer_id",
            pl.lit(_decided_at(day)).alias("decided_at"),
            pl.lit("lifecycle").alias("surface"),
            pl.Series(
                "eligible_actions",
                [names[row].tolist() for row in self.eligible[rows]],
                dtype=pl.List(pl.String),
            ),
            pl.Series("action_id", names[taken]),
            "propensity",
            pl.Series(
                "eligible_propensities",
                [p[e].tolist() for p, e in zip(propensities, self.eligible[rows], strict=True)],
                dtype=pl.List(pl.Float64),
            ),
            pl.lit("warm-start").alias("policy_version"),
            pl.lit("warm_start").alias("arm"),
            pl.lit("warm-start-1").alias("experiment"),
            pl.lit(True).alias("is_exploration"),
        )

    def step(self, state: WorldState, decisions: pl.DataFrame) -> tuple[WorldState, Tables]:
        """Live one day.

        Parameters
        ----------
        state
            Before the day.
        decisions
            The day's decisions: decision_id, customer_id, action_id.

        Returns
        -------
        tuple
            The state after the day, and the contract tables that are delivered before the next
            decision: customers, contactability, deliveries, events.
        """
        day = state.day
        random = np.random.default_rng([self.config.seed, 3, day + 10_000])
        n = self.population.n_customers
        dormant, bought = self._move_lifecycles(state, random.random(n))
        table = state.customers
        offer = table["offer"].to_numpy().copy()
        days_left = table["offer_days_left"].to_numpy().copy()
        redeemed = table["is_redeemed"].to_numpy().copy()
        decision_ids = table["decision_id"]
        fails = random.random(n) < self.config.delivery_failure
        receipts = pl.DataFrame(
            schema={
                "decision_id": pl.String,
                "status": pl.String,
                "realised_action_id": pl.String,
                "delivered_at": pl.Datetime("us", "UTC"),
            }
        )
        if decisions.height:
            rows = decisions["customer_id"].cast(pl.Int64).to_numpy()
            assigned = self.actions.index_of(decisions["action_id"])
            realised = np.where(fails[rows], 0, assigned)
            offer[rows], days_left[rows], redeemed[rows] = realised, 7, False
            decision_ids = decision_ids.scatter(rows, decisions["decision_id"])
            receipts = pl.DataFrame(
                {
                    "decision_id": decisions["decision_id"],
                    "status": np.where(realised == assigned, "delivered", "failed"),
                    "realised_action_id": np.array(self.actions.action_ids)[realised],
                }
            ).with_columns(pl.lit(_decided_at(self.date_of(day), hour=2)).alias("delivered_at"))
        active_offer = np.where(days_left > 0, offer, 0)
        probability = self.purchase_probability(dormant, active_offer)
        present = self.population.signup_day < day
        buys = present & (random.random(n) < probability)
        ticket = np.exp(
            self.config.ticket_log_mean
            + 0.2 * self.population.preference
            + self.config.ticket_log_sd * random.normal(0, 1, n)
        ).round(2)
        redeems = (
            buys
            & ~redeemed
            & (self.actions.face_values[active_offer] > 0)
            & (random.random(n) < self.config.redemption_probability)
        )
        visits = buys | (present & (random.random(n) < self._visit_probability(dormant)))
        events = self._write_events(
            day, visits, buys, redeems, ticket, active_offer, decision_ids, random
        )
        pool = pl.concat([state.pending, events])
        next_midnight = _midnight(self.date_of(day + 1))
        is_out = pool["available_at"] < next_midnight
        after = WorldState(
            day=day + 1,
            customers=pl.DataFrame(
                {
                    "is_dormant": dormant,
                    "has_bought": bought | buys,
                    "offer": offer,
                    "offer_days_left": np.maximum(days_left - 1, 0),
                    "is_redeemed": redeemed | redeems,
                    "decision_id": decision_ids,
                }
            ),
            pending=pool.filter(~is_out),
        )
        joined = np.flatnonzero(self.population.signup_day == day)
        arrivals = deliver_customers(self.config, self.population, joined)
        return after, {
            **arrivals,
            "deliveries": receipts,
            "events": pool.filter(is_out).sort("available_at", "customer_id", "type"),
        }

    def purchase_probability(self, is_dormant: np.ndarray, offer: np.ndarray) -> np.ndarray:
        """Return the daily probability of a purchase.

        logit p = base(dormant) + scale preference + responsiveness strength(offer) m, with m =
        1.4 for dormant customers and 1 for others.

        Parameters
        ----------
        is_dormant : shape (N,), bool
            Which customers sleep.
        offer : shape (N,), int
            Index of each customer's active offer.

        Returns
        -------
        np.ndarray
            Shape (N,).
        """
        config, population = self.config, self.population
        base = np.where(is_dormant, config.dormant_log_odds, config.active_log_odds)
        push = population.responsiveness * self._strength[offer] * np.where(is_dormant, 1.4, 1.0)
        return 1 / (1 + np.exp(-(base + config.preference_scale * population.preference + push)))

    def true_outcomes(self, state: WorldState) -> tuple[np.ndarray, np.ndarray]:
        """Return the expected value and cost until the next decision, for every action.

        Exact for a decision taken on the state's day: within the horizon the daily purchase
        probability is constant. Assigned, not realised, action: failed deliveries are in it.

        Parameters
        ----------
        state
            Before the day.

        Returns
        -------
        tuple
            Value and cost, each of shape (N, K), currency.
        """
        config, population = self.config, self.population
        n, k = population.n_customers, self.actions.n_actions
        random = np.random.default_rng([config.seed, 3, state.day + 10_000])
        dormant, _ = self._move_lifecycles(state, random.random(n))
        mean_ticket = np.exp(
            config.ticket_log_mean + 0.2 * population.preference + config.ticket_log_sd**2 / 2
        )
        value, cost = np.empty((n, k)), np.empty((n, k))
        for action in range(k):
            p = self.purchase_probability(dormant, np.full(n, action))
            value[:, action] = config.programme.margin * mean_ticket * 7 * p
            redeemed = 1 - (1 - p * config.redemption_probability) ** 7
            cost[:, action] = (
                self.actions.message_costs[action] + self.actions.face_values[action] * redeemed
            )
        arrives = 1 - config.delivery_failure
        value = arrives * value + (1 - arrives) * value[:, :1]
        return value, arrives * cost

    def _move_lifecycles(
        self, state: WorldState, uniforms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Update dormancy of the customers whose decision day it is."""
        dormant = state.customers["is_dormant"].to_numpy()
        bought = state.customers["has_bought"].to_numpy()
        due = self._cohort == state.day % self.config.programme.n_cohorts
        moved = np.where(bought, False, dormant | (uniforms < self.config.falls_dormant))
        return np.where(due, moved, dormant), np.where(due, False, bought)

    def _visit_probability(self, is_dormant: np.ndarray) -> np.ndarray:
        """Return the daily probability of a visit without a purchase."""
        logit = self.config.visit_log_odds - 1.8 * is_dormant + 0.5 * self.population.preference
        return np.asarray(1 / (1 + np.exp(-logit)))

    def _write_events(
        self,
        day: int,
        visits: np.ndarray,
        buys: np.ndarray,
        redeems: np.ndarray,
        ticket: np.ndarray,
        offer: np.ndarray,
        decision_ids: pl.Series,
        random: np.random.Generator,
    ) -> pl.DataFrame:
        """Return the day's events with both clocks."""
        n = self.population.n_customers
        seconds = random.integers(2 * 3600, 86_000, n)
        is_late = random.random(n) < self.config.late_share
        delay = np.where(
            is_late, random.integers(86_400, 3 * 86_400, n), random.integers(1, 300, n)
        )
        midnight = np.datetime64(_midnight(self.date_of(day)).replace(tzinfo=None), "us")
        occurred = midnight + seconds * np.timedelta64(1_000_000, "us")
        available = occurred + delay * np.timedelta64(1_000_000, "us")
        face = self.actions.face_values[offer]
        parts = []
        for kind, happens, amount in (
            ("visit", visits, None),
            ("purchase", buys, ticket),
            ("redemption", redeems, face),
        ):
            rows = np.flatnonzero(happens)
            parts.append(
                pl.DataFrame(
                    {
                        "customer_id": self.population.customer_id[rows],
                        "occurred_at": occurred[rows],
                        "available_at": available[rows],
                        "type": [kind] * len(rows),
                        "amount": None if amount is None else amount[rows],
                        "decision_id": decision_ids[rows] if kind == "redemption" else None,
                    },
                    schema_overrides={"amount": pl.Float64, "decision_id": pl.String},
                )
            )
        utc = pl.col("occurred_at", "available_at").dt.replace_time_zone("UTC")
        return (
            pl.concat(parts)
            .with_columns(utc)
            .select(pl.col(name).cast(dtype) for name, dtype in _EVENT_SCHEMA.items())
        )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


def _decided_at(day: date, *, hour: int = 1) -> datetime:
    return _midnight(day) + timedelta(hours=hour, minutes=30)
