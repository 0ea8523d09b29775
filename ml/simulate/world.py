"""A world's days: decisions go in, the events they lead to come out."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import TypeVar

import numpy as np
import polars as pl

from ml.core.actions import ActionSet, read_actions
from ml.core.hashing import hash_uniform
from ml.core.policy import draw_actions
from ml.simulate.config import WorldConfig
from ml.simulate.dynamics import (
    N_COHORTS,
    Circumstances,
    Customers,
    Draws,
    Happened,
    Moved,
    close_day,
    draw_day,
    eligible_actions,
    is_due,
    live_day,
    open_customers,
)
from ml.simulate.media import MediaHistory, deliver_media, draw_media
from ml.simulate.population import (
    People,
    Population,
    describe_customers,
    describe_reach,
    draw_population,
)
from ml.simulate.world_tables import (
    EVENT_SCHEMA,
    at_time,
    write_contactability,
    write_customers,
    write_decisions,
    write_events,
    write_other_decisions,
    write_receipts,
)

Tables = dict[str, pl.DataFrame]
_Arrays = TypeVar("_Arrays", Customers, Happened, Moved)

BLOCK = 65_536
_THREADS = 2
_WEEKS_AHEAD = 520


@dataclass(frozen=True)
class WorldState:
    """Where the world stands before a day.

    ``customers`` are in population order; ``decision_ids``, shape (N,), name the decision behind
    each customer's offer; ``pending`` are events that nobody has delivered yet.
    """

    day: int
    customers: Customers
    decision_ids: pl.Series
    pending: pl.DataFrame

    def to_frame(self) -> pl.DataFrame:
        """Return customers and their decisions as one frame, to be kept."""
        return self.customers.to_frame().with_columns(self.decision_ids.alias("decision_id"))

    @classmethod
    def from_frame(cls, day: int, frame: pl.DataFrame, pending: pl.DataFrame) -> "WorldState":
        """Return the state that ``to_frame`` and ``pending`` were kept of."""
        customers = Customers.from_frame(frame.drop("decision_id"))
        return cls(day, customers, frame["decision_id"], pending)


class World:
    """One world: ``open_day`` makes it, ``step`` lives one day of it.

    A day is a function of the config, the state before it and the decisions taken that day;
    nothing else. Chance is drawn per block of customers, day and purpose, whatever is decided:
    two policies in one world meet the same luck, and the number of threads changes nothing.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.population: Population = draw_population(config)
        self.actions: ActionSet = read_actions(
            config.offers_frame(), surface=config.programme.surface
        )
        offers = config.ordered_offers
        self.channel_of = config.channel_of
        self._warm_start = np.array([each.warm_start_weight for each in offers])
        self._positions = {action: index for index, action in enumerate(self.actions.action_ids)}

    @property
    def n_customers(self) -> int:
        """Number of customers, N."""
        return self.population.n_customers

    @cached_property
    def media(self) -> MediaHistory | None:
        """The world's media, from before it began."""
        if self.config.media is None:
            return None
        return draw_media(
            self.config.media,
            seed=self.config.seed,
            n_weeks=_WEEKS_AHEAD,
            weekday=self.config.demand.weekday_on_visit,
        )

    def date_of(self, day: int) -> date:
        """Return the date of a day number."""
        return self.config.first_date + timedelta(days=day)

    def circumstances(self, day: int) -> Circumstances:
        """Return what is the same for everybody on a day, drifts included."""
        config, offers = self.config, self.config.ordered_offers
        price = 2.0 if config.has_drifted("costs", day) else 1.0
        force = np.ones(len(offers))
        if config.has_drifted("wear_out", day):
            total = [e.visit_strength + e.purchase_strength + e.ticket_strength for e in offers]
            force[int(np.argmax(total))] = 0.2
        shift = config.demand.weekday_on_visit[self.date_of(day).weekday()]
        if self.media is not None:
            shift += self.media.lift_on(day)
        if config.has_drifted("demand", day):
            shift += float(np.log(2))
        redemption = config.response.redemption_probability
        if config.has_drifted("redemptions", day):
            redemption = min(2 * redemption, 1.0)

        def per_offer(values: list[float], factor: np.ndarray | float) -> np.ndarray:
            return (np.array(values) * factor).astype(np.float32)

        return Circumstances(
            visit_shift=shift,
            visit_strength=per_offer([each.visit_strength for each in offers], force),
            purchase_strength=per_offer([each.purchase_strength for each in offers], force),
            ticket_strength=per_offer([each.ticket_strength for each in offers], force),
            face_value=np.array([each.face_value for each in offers]) * price,
            message_cost=np.array([each.message_cost for each in offers]) * price,
            redemption_probability=redemption,
            is_tastes_turned=config.has_drifted("tastes", day),
        )

    def open_day(self) -> tuple[WorldState, Tables]:
        """Live the burn-in under the targeting rule and return the first day's delivery.

        Returns
        -------
        tuple
            The state before day 0, and the contract tables to deliver for the first date, with
            the rule's log and the media history.
        """
        config, n = self.config, self.n_customers
        customers = open_customers(config, n, np.random.default_rng([config.seed, 2]))
        first_tier = customers.tier
        state = WorldState(
            day=-config.burn_in_days,
            customers=customers,
            decision_ids=pl.Series("decision_id", [None] * n, dtype=pl.String),
            pending=pl.DataFrame(schema=EVENT_SCHEMA),
        )
        deliveries: list[Tables] = []
        while state.day < 0:
            sends = self.target(state)
            state, tables = self.step(state, sends)
            deliveries.append({**tables, "assignments": pl.concat([tables["assignments"], sends])})
        present = np.flatnonzero(self.population.people.signup_day < 0)
        early = np.flatnonzero(self.population.people.signup_day < -config.burn_in_days)
        opened: Tables = {
            "customers": describe_customers(config, self.population, early, tier=first_tier[early]),
            "contactability": describe_reach(config, self.population, early),
        }
        tables = _join_tables([opened, *deliveries])
        known = tables["customers"]["customer_id"].n_unique()
        if known != len(present):
            raise AssertionError(f"{known} customers delivered, {len(present)} signed up")
        tables["actions"] = config.offers_frame()
        if self.media is not None:
            start = N_COHORTS * self.media.first_week
            tables |= deliver_media(self.media, config.first_date, from_day=start, until_day=0)
        return state, tables

    def due(self, state: WorldState) -> np.ndarray:
        """Return which customers are decided on in the state's day, shape (N,), bool."""
        return is_due(self.population.people, state.day)

    def logging_policy(self, people: People, customers: Customers) -> np.ndarray:
        """Return the warm-start experiment's propensities, shape (n, K), rows sum to 1.

        Each eligible action in proportion to its warm-start weight.
        """
        weights = eligible_actions(people, customers, self.channel_of) * self._warm_start
        return weights / weights.sum(axis=1, keepdims=True)

    def draw(self, policy: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Draw an action per row of a policy, shape (n,), int8."""
        return draw_actions(policy, uniforms).astype(np.int8)

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
        people = self.population.people
        rows = np.flatnonzero(self.due(state) & ~people.is_holdout)
        policy = self.logging_policy(people.take(rows), state.customers.take(rows))
        keys = self.population.customer_id[rows] + f":{self.date_of(state.day)}"
        taken = self.draw(policy, hash_uniform(keys, salt=f"warm-start-{self.config.seed}"))
        log = self.log_decisions(
            state, rows, taken, policy, arm="warm_start", policy_version="warm-start"
        ).with_columns(
            pl.lit("warm_start").alias("experiment"), pl.lit(True).alias("is_exploration")
        )
        if self.config.has_drifted("propensities", state.day):
            is_kept = pl.int_range(pl.len()) % 2 == 0
            log = log.with_columns(
                pl.when(is_kept).then(column) for column in ("propensity", "eligible_propensities")
            )
        return log

    def target(self, state: WorldState) -> pl.DataFrame:
        """Return what the targeting rule sent on the state's day, before the experiment.

        Confounded: it knows who sleeps, which no feature does. Sleepers with e-mail get the
        deepest e-mail coupon, customers of high preference with the app the push ad; nobody else
        is logged. Propensity 1 and no vector: the rule left nothing to chance.
        """
        people, config = self.population.people, self.config
        deepest = self._positions.get("email_coupon_5")
        nudge = self._positions.get("push_ad")
        if not config.has_targeting_rule or deepest is None or nudge is None:
            return self.decide_nothing(state)
        eligible = eligible_actions(people, state.customers, self.channel_of)
        is_sent = self.due(state) & ~people.is_holdout
        wakes = is_sent & state.customers.is_dormant & eligible[:, deepest]
        nudges = is_sent & ~wakes & (people.preference > 1) & eligible[:, nudge]
        rows = np.flatnonzero(wakes | nudges)
        taken = np.where(wakes[rows], deepest, nudge).astype(np.int8)
        policy = np.zeros((len(rows), self.actions.n_actions))
        policy[np.arange(len(rows)), taken] = 1.0
        log = self.log_decisions(
            state, rows, taken, policy, arm="targeting_rule", policy_version="targeting-rule"
        )
        return log.with_columns(
            pl.concat_list(pl.lit(self.actions.action_ids[0]), "action_id").alias(
                "eligible_actions"
            ),
            pl.lit(None, dtype=log.schema["eligible_propensities"]).alias("eligible_propensities"),
        )

    def log_decisions(
        self,
        state: WorldState,
        rows: np.ndarray,
        taken: np.ndarray,
        policy: np.ndarray,
        *,
        arm: str,
        policy_version: str,
    ) -> pl.DataFrame:
        """Return the contract's ``assignments`` of decisions taken on the state's day.

        Parameters
        ----------
        state
            Before the day.
        rows : shape (m,), indices
            Customers.
        taken : shape (m,), int
            Actions.
        policy : shape (m, K)
            Propensities; what is 0 is logged as not eligible.
        arm, policy_version
            Go into every row.

        Returns
        -------
        pl.DataFrame
            In order of ``rows``.
        """
        return write_decisions(
            self.config,
            self.actions,
            state.day,
            self.population.customer_id[rows],
            taken,
            policy,
            arm=arm,
            policy_version=policy_version,
        )

    def decide_nothing(self, state: WorldState) -> pl.DataFrame:
        """Return the ``assignments`` of a day on which nobody is decided on: no rows."""
        nobody = np.zeros(0, dtype=np.int8)
        policy = np.zeros((0, self.actions.n_actions))
        return self.log_decisions(state, nobody, nobody, policy, arm="none", policy_version="none")

    def step(self, state: WorldState, decisions: pl.DataFrame) -> tuple[WorldState, Tables]:
        """Live one day.

        Parameters
        ----------
        state
            Before the day.
        decisions
            Columns decision_id, customer_id, action_id: what was assigned for the day; at most
            one row per customer, and on open channels.

        Returns
        -------
        tuple
            The state before the next day, and the tables to deliver for it: new customers and
            tiers, opt-outs, receipts, the other programme's assignments, media, and the events
            that became available.
        """
        day, n = state.day, self.n_customers
        assigned = np.full(n, -1, dtype=np.int8)
        decision_ids = state.decision_ids
        decided = decisions["customer_id"].cast(pl.Int64).to_numpy()
        if len(decided):
            assigned[decided] = self.actions.index_of(decisions["action_id"])
        before, chance, happened, after, moved = self._live(state, assigned)
        arrived = happened.realised > 0
        if len(decided):
            reached = np.flatnonzero(arrived[decided])
            decision_ids = decision_ids.clone().scatter(
                decided[reached], decisions["decision_id"][reached]
            )
        config, population = self.config, self.population
        events = write_events(config, population, day, happened, chance, decision_ids)
        pool = pl.concat([state.pending, events])
        is_out = pool["available_at"] < at_time(config, day + 1)
        tables = {
            "customers": write_customers(config, population, day, before, after, moved),
            "contactability": write_contactability(
                config, population, day, before, happened, moved
            ),
            "assignments": write_other_decisions(config, population, day, moved),
            "deliveries": write_receipts(
                config, self.actions, day, decisions, assigned, happened.realised
            ),
            "events": pool.filter(is_out).sort("available_at", "customer_id", "type"),
        }
        if self.media is not None:
            tables |= deliver_media(
                self.media, self.config.first_date, from_day=day, until_day=day + 1
            )
        if self.config.has_drifted("costs", day + 1) and not self.config.has_drifted("costs", day):
            tables["actions"] = self.config.offers_frame(day + 1)
        return WorldState(day + 1, after, decision_ids, pool.filter(~is_out)), tables

    def _live(
        self, state: WorldState, assigned: np.ndarray
    ) -> tuple[Customers, dict[str, np.ndarray], Happened, Customers, Moved]:
        """Live the day block by block; return state, the events' chance and happenings of all."""
        day, today, people = state.day, self.circumstances(state.day), self.population.people

        def live_block(block: int) -> tuple[Draws, Happened, Customers, Customers, Moved]:
            rows = slice(block * BLOCK, min((block + 1) * BLOCK, self.n_customers))
            key = [self.config.seed, 3, block, day + 10_000]
            draws = draw_day(np.random.default_rng(key), rows.stop - rows.start)
            mine = people.take(rows)
            lived, happened = live_day(
                self.config,
                mine,
                state.customers.take(rows),
                draws,
                today,
                day=day,
                assigned=assigned[rows],
            )
            after, moved = close_day(self.config, mine, lived, draws, day=day)
            return draws, happened, lived, after, moved

        n_blocks = -(-self.n_customers // BLOCK)
        if n_blocks == 1:
            parts = [live_block(0)]
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                parts = list(pool.map(live_block, range(n_blocks)))
        all_draws, happened, lived, after, moved = zip(*parts, strict=True)
        chance = {
            name: np.concatenate([each.uniform[name] for each in all_draws])
            for name in ("browses", "about", "second", "late")
        }
        return (
            _join_arrays(lived),
            chance,
            _join_arrays(happened),
            _join_arrays(after),
            _join_arrays(moved),
        )


def _join_arrays(parts: tuple[_Arrays, ...]) -> _Arrays:
    """Return blocks of one dataclass of arrays as one."""
    if len(parts) == 1:
        return parts[0]
    kind = type(parts[0])
    return kind(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in kind.__dataclass_fields__
        }
    )


def _join_tables(deliveries: list[Tables]) -> Tables:
    """Return several nights' deliveries as one."""
    names = sorted({name for tables in deliveries for name in tables})
    return {
        name: pl.concat([tables[name] for tables in deliveries if name in tables]) for name in names
    }
