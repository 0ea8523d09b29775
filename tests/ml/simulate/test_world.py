from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ml.simulate.config import WorldConfig
from ml.simulate.world import World

CONFIG = WorldConfig(n_customers=3_000)


@pytest.fixture(scope="module")
def world():
    return World(CONFIG)


@pytest.fixture(scope="module")
def opened(world):
    return world.open_day()


def test_same_seed_same_world_and_another_seed_another(opened):
    state, tables = World(CONFIG).open_day()
    assert tables["events"].equals(opened[1]["events"])
    assert state.customers.equals(opened[0].customers)
    other = World(replace(CONFIG, seed=8)).open_day()[1]
    assert not other["events"].equals(opened[1]["events"])


def test_assignments_follow_their_propensities(world, opened):
    state, _ = opened
    decisions = []
    for _ in range(14):
        today = world.randomise(state)
        decisions.append(today)
        state, _ = world.step(state, today)
    rows = pl.concat(decisions)
    vectors = rows.explode("eligible_actions", "eligible_propensities")
    expected = vectors.group_by("eligible_actions").agg(pl.col("eligible_propensities").sum())
    seen = dict(rows["action_id"].value_counts().iter_rows())
    names = expected["eligible_actions"].to_list()
    chi = stats.chisquare([seen[name] for name in names], expected["eligible_propensities"])
    assert chi.pvalue > 0.001
    assert rows["eligible_propensities"].list.sum().to_list() == pytest.approx([1] * rows.height)


def test_everything_is_delivered_once_and_in_time(world, opened):
    state, tables = opened
    first = tables["events"]
    state, tables = world.step(state, world.randomise(state))
    midnight = pl.lit(world.date_of(state.day)).cast(pl.Datetime("us", "UTC"))
    assert tables["events"].select((pl.col("available_at") < midnight).all()).item()
    assert (first["available_at"] >= first["occurred_at"]).all()
    assert state.pending.select((pl.col("available_at") >= midnight).all()).item()


@pytest.mark.parametrize("action", [0, 2])
def test_truth_equals_a_brute_force_re_simulation(world, opened, action):
    """Everybody due gets one action; 40 replays of the week; value and cost within 3.5 errors."""
    state, _ = opened
    due = np.flatnonzero(world.due(state))
    value, cost = world.true_outcomes(state)
    day = world.date_of(state.day)
    names = world.actions.action_ids
    decisions = pl.DataFrame(
        {
            "decision_id": [f"{day}:{row}" for row in due],
            "customer_id": world.population.customer_id[due],
            "action_id": [names[action]] * len(due),
        }
    )
    totals = []
    for seed in range(40):
        # Another seed for the days, the same people: only chance differs.
        replay = World(CONFIG)
        replay.config = replace(CONFIG, seed=1_000 + seed)
        now, spend, paid = state, 0.0, 0.0
        # Dormancy moves at the start of the due day; hold it as the truth's draw had it.
        dormant, _ = world._move_lifecycles(
            state,
            np.random.default_rng([CONFIG.seed, 3, state.day + 10_000]).random(
                world.population.n_customers
            ),
        )
        now = replace(
            state,
            customers=state.customers.with_columns(
                is_dormant=pl.Series(dormant), has_bought=pl.Series(~dormant)
            ),
        )
        replay.config = replace(replay.config, falls_dormant=0.0)
        for offset in range(7):
            now, tables = replay.step(now, decisions if offset == 0 else decisions.head(0))
            events = pl.concat([tables["events"], now.pending]).unique()
            mine = events.filter(
                pl.col("customer_id").is_in(decisions["customer_id"].implode())
                & (pl.col("occurred_at").dt.date() == world.date_of(state.day + offset))
            )
            spend += mine.filter(pl.col("type") == "purchase")["amount"].sum()
            paid += mine.filter(pl.col("type") == "redemption")["amount"].sum()
            if offset == 0:
                reached = tables["deliveries"].filter(pl.col("realised_action_id") != "no_offer")
                paid += world.actions.message_costs[action] * reached.height
        totals.append((CONFIG.programme.margin * spend, paid))
    totals = np.array(totals)
    error = totals.std(axis=0, ddof=1) / np.sqrt(len(totals))
    truth = np.array([value[due, action].sum(), cost[due, action].sum()])
    assert (np.abs(totals.mean(axis=0) - truth) <= 3.5 * error + 1e-9).all()
