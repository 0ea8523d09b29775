"""What a decision is worth in truth: exactly until the next one, by simulation further on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ml.core.errors import ContractError
from ml.simulate.dynamics import (
    N_COHORTS,
    Circumstances,
    Customers,
    chances_of,
    close_day,
    draw_day,
    live_day,
    mean_ticket,
)
from ml.simulate.population import People
from ml.simulate.world import World, WorldState

Continuation = Literal["no_offers", "logging_policy"]


@dataclass(frozen=True)
class Truth:
    """Expected value and cost until the next decision, shape (m, K), float32, currency.

    Of the assigned action: failed deliveries are in it. ``rows`` are the customers, shape (m,).
    """

    rows: np.ndarray
    value: np.ndarray
    cost: np.ndarray

    @property
    def value_effect(self) -> np.ndarray:
        """Against no-offer, shape (m, K)."""
        return self.value - self.value[:, :1]

    @property
    def cost_effect(self) -> np.ndarray:
        """Against no-offer, whose cost is 0, shape (m, K)."""
        return self.cost


@dataclass(frozen=True)
class LongTruth:
    """Value and cost over a longer horizon, by simulation; shape (m, K), currency.

    ``value_error`` and ``cost_error`` are standard errors of the replicates' means;
    ``mean_effect`` and ``mean_effect_error``, shape (K,), are the net value effect's over the
    sample.
    """

    rows: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    value_error: np.ndarray
    cost_error: np.ndarray
    mean_effect: np.ndarray
    mean_effect_error: np.ndarray


def compute_truth(world: World, state: WorldState, rows: np.ndarray | None = None) -> Truth:
    """Compute the exact expected value and cost of every action, for decisions taken today.

    Within the seven days nothing that acts on purchases is drawn but whether a coupon was spent,
    so its probability u is carried forward: with the coupon unspent the day's purchase
    probability is q, with it spent q', and u falls by the factor 1 - rho q. Exact up to the
    rounding of tickets to cents.

    Parameters
    ----------
    world, state
        Before the day.
    rows : shape (m,), indices, optional
        Customers who are due; None: all of them. For others tiers and dormancy move within the
        week, and the truth is not exact.

    Returns
    -------
    Truth
        For every action, eligible or not.
    """
    config = world.config
    rows = np.flatnonzero(world.due(state)) if rows is None else rows
    people, customers = world.population.people.take(rows), state.customers.take(rows)
    week = [world.circumstances(state.day + offset) for offset in range(N_COHORTS)]
    n, k = len(rows), len(config.offers)
    value, cost = np.empty((n, k), np.float32), np.zeros((n, k), np.float32)
    for action in range(k):
        value[:, action], redeemed = _expect_week(world, people, customers, week, action)
        if action:
            cost[:, action] = week[0].message_cost[action] + redeemed
    arrives = 1 - config.response.delivery_failure
    value[:, 1:] = arrives * value[:, 1:] + (1 - arrives) * value[:, :1]
    cost[:, 1:] *= arrives
    return Truth(rows, value, cost)


def _expect_week(
    world: World,
    people: People,
    customers: Customers,
    week: list[Circumstances],
    action: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the week's expected margin, and redeemed face value of a new offer."""
    config, response = world.config, world.config.response
    n = people.n_customers
    offer = np.full(n, action, dtype=np.int8) if action else customers.offer
    unspent = np.ones(n) if action else (~customers.is_redeemed).astype(float)
    margin, redeemed = np.zeros(n), np.zeros(n)
    for offset, today in enumerate(week):
        age = np.full(n, offset, np.int8) if action else customers.offer_age + offset
        is_valid = (offer > 0) & (age < response.validity_days)
        buying, spending = [], []
        for is_active in (is_valid, np.zeros(n, dtype=bool)):
            visit, purchase, ticket = chances_of(
                config, people, customers, today, offer=offer, offer_age=age, is_active=is_active
            )
            buying.append((visit * purchase).astype(float))
            spending.append(buying[-1] * mean_ticket(config, ticket.astype(float)))
        margin += unspent * spending[0] + (1 - unspent) * spending[1]
        face = today.face_value[offer] * is_valid
        falls = np.where(face > 0, unspent * today.redemption_probability * buying[0], 0.0)
        redeemed += face * falls
        unspent = unspent - falls
    return config.programme.margin * margin, redeemed


def simulate_truth(
    world: World,
    state: WorldState,
    *,
    continuation: Continuation,
    horizon_days: int = 28,
    n_decisions: int = 20_000,
    n_replicates: int = 20,
    seed: int = 0,
) -> LongTruth:
    """Estimate value and cost of every action over a longer horizon, by simulation.

    Each sampled decision is lived under every action with the same chance (common random
    numbers), then goes on under a named policy: 'no_offers', or 'logging_policy', the warm-start
    experiment.

    Parameters
    ----------
    world, state
        Before the day of the decisions.
    continuation
        What decides after the first decision.
    horizon_days
        Days that count.
    n_decisions
        At most so many of the due customers, the first ones of a random order.
    n_replicates
        Lives per decision and action; at least 2.
    seed
        Of the sample and of the lives' chance, apart from the world's own.

    Returns
    -------
    LongTruth
        With standard errors.

    Raises
    ------
    ContractError
        If there are fewer than 2 replicates, or the continuation has no such name.
    """
    if n_replicates < 2 or continuation not in ("no_offers", "logging_policy"):
        raise ContractError(
            "simulate_truth needs n_replicates >= 2 and the continuation 'no_offers' or "
            f"'logging_policy', not {n_replicates} and '{continuation}'"
        )
    random = np.random.default_rng([world.config.seed, 60, seed, state.day + 10_000])
    due = np.flatnonzero(world.due(state))
    rows = np.sort(random.permutation(due)[:n_decisions])
    k = len(world.config.offers)
    outcomes = np.empty((n_replicates, 2, len(rows), k))
    for replicate in range(n_replicates):
        for action in range(k):
            outcomes[replicate, :, :, action] = _live_on(
                world,
                state,
                rows,
                action,
                continuation=continuation,
                horizon_days=horizon_days,
                key=[world.config.seed, 61, seed, replicate],
            )
    mean = outcomes.mean(axis=0)
    error = outcomes.std(axis=0, ddof=1) / np.sqrt(n_replicates)
    net = outcomes[:, 0] - outcomes[:, 1]  # (R, m, K)
    effect = (net - net[:, :, :1]).mean(axis=1)  # (R, K)
    return LongTruth(
        rows=rows,
        value=mean[0],
        cost=mean[1],
        value_error=error[0],
        cost_error=error[1],
        mean_effect=effect.mean(axis=0),
        mean_effect_error=effect.std(axis=0, ddof=1) / np.sqrt(n_replicates),
    )


def _live_on(
    world: World,
    state: WorldState,
    rows: np.ndarray,
    action: int,
    *,
    continuation: Continuation,
    horizon_days: int,
    key: list[int],
) -> np.ndarray:
    """Live the horizon once; return margin and cost, shape (2, m)."""
    config = world.config
    people, customers = world.population.people.take(rows), state.customers.take(rows)
    margin, cost = np.zeros(len(rows)), np.zeros(len(rows))
    is_own = np.zeros(len(rows), dtype=bool)
    for offset in range(horizon_days):
        day = state.day + offset
        today = world.circumstances(day)
        draws = draw_day(np.random.default_rng([*key, offset]), len(rows))
        assigned = np.full(len(rows), -1, dtype=np.int8)
        if offset == 0:
            assigned[:] = action
        elif offset % N_COHORTS == 0 and continuation == "logging_policy":
            uniforms = np.random.default_rng([*key, offset, 1]).random(len(rows))
            policy = world.logging_policy(people, customers)
            decided = world.draw(policy, uniforms)
            assigned = np.where(people.is_holdout, -1, decided).astype(np.int8)
        customers, happened = live_day(
            config, people, customers, draws, today, day=day, assigned=assigned
        )
        margin += config.programme.margin * happened.spend
        # An older offer's coupon belongs to its own decision until this one's replaces it.
        is_own = is_own | (happened.realised > 0)
        cost += np.where(is_own, happened.redeemed, 0.0)
        cost += today.message_cost[np.maximum(happened.realised, 0)]
        customers, _ = close_day(config, people, customers, draws, day=day)
    return np.stack([margin, cost])
