"""The truth against brute force: the same week lived again and again under every action."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from oracles.world import carry_over as slow_carry_over

from benchmarks.studies.nightly_loop.marts import LoopMarts
from ml.core.errors import ContractError
from ml.simulate.config import MEDIA, Drift, WorldConfig
from ml.simulate.dynamics import draw_day, live_day
from ml.simulate.media import carry_over, draw_media, lift_of, saturate
from ml.simulate.truth import compute_truth, simulate_truth
from ml.simulate.world import World

CONFIG = WorldConfig(n_customers=8_000)


@pytest.fixture(scope="module")
def world():
    return World(CONFIG)


@pytest.fixture(scope="module")
def state(world):
    """A morning after three weeks of experiment: coupons are held, messages weigh."""
    state, _ = world.open_day()
    for _ in range(21):
        state, _ = world.step(state, world.randomise(state))
    return state


def _live_week(world, state, rows, action, *, seed):
    """Return margin and cost of one week under an action, per customer, shape (2, m)."""
    people, customers = world.population.people.take(rows), state.customers.take(rows)
    margin, cost = np.zeros(len(rows)), np.zeros(len(rows))
    for offset in range(7):
        today = world.circumstances(state.day + offset)
        draws = draw_day(np.random.default_rng([99, seed, offset]), len(rows))
        assigned = np.full(len(rows), action if offset == 0 else -1, dtype=np.int8)
        customers, happened = live_day(
            world.config,
            people,
            customers,
            draws,
            today,
            day=state.day + offset,
            assigned=assigned,
        )
        if offset == 0:
            is_new = happened.realised > 0
            cost += today.message_cost[np.maximum(happened.realised, 0)]
        margin += world.config.programme.margin * happened.spend
        cost += np.where(is_new, happened.redeemed, 0)
    return np.stack([margin, cost])


@pytest.mark.parametrize("drifts", [(), (Drift(kind="costs", day=24), Drift(kind="tastes", day=0))])
def test_truth_equals_a_brute_force_re_simulation_of_all_arms(state, drifts):
    world = World(replace(CONFIG, drifts=drifts))
    truth = compute_truth(world, state)
    assert truth.value.dtype == truth.cost.dtype == np.float32
    n_replicates = 40
    lives = np.array(
        [
            [
                _live_week(world, state, truth.rows, action, seed=seed).sum(axis=1)
                for action in range(10)
            ]
            for seed in range(n_replicates)
        ]
    )  # (R, K, 2)
    for k, exact in enumerate((truth.value, truth.cost)):
        totals = exact.astype(float).sum(axis=0)
        error = lives[:, :, k].std(axis=0, ddof=1) / np.sqrt(n_replicates)
        assert (np.abs(lives[:, :, k].mean(axis=0) - totals) <= 3.7 * error + 1e-6).all()
    # With common random numbers the effects are far sharper than the levels.
    effects = lives[:, 1:, 0] - lives[:, :1, 0]
    error = effects.std(axis=0, ddof=1) / np.sqrt(n_replicates)
    expected = truth.value_effect.astype(float).sum(axis=0)[1:]
    assert (np.abs(effects.mean(axis=0) - expected) <= 3.7 * error).all()
    assert (error < lives[:, 1:, 0].std(axis=0, ddof=1) / np.sqrt(n_replicates)).all()


def test_the_experiments_log_holds_the_mean_effects():
    """Inverse propensities on five weeks of logs against the truth of the same decisions."""
    world = World(WorldConfig())
    marts = LoopMarts(world.config, world.population.customer_id, n_days=60)
    state, tables = world.open_day()
    marts.absorb(tables, 0)
    awaiting, rows = {}, []
    for _ in range(35):
        decisions = world.randomise(state)
        people = decisions["customer_id"].cast(pl.Int64).to_numpy()
        awaiting[state.day] = decisions, compute_truth(world, state, people)
        state, tables = world.step(state, decisions)
        tables["assignments"] = pl.concat([tables["assignments"], decisions])
        marts.absorb(tables, state.day)
        if state.day - 8 in awaiting:
            logged, truth = awaiting.pop(state.day - 8)
            outcome = marts.build_outcomes(logged, state.day - 8)
            taken = world.actions.index_of(logged["action_id"])
            own = np.arange(len(taken)), taken
            rows.append(
                np.column_stack(
                    [taken, outcome["value"] - truth.value[own], outcome["cost"] - truth.cost[own]]
                )
            )
    rows = np.concatenate(rows)
    for action in range(10):
        for column in (1, 2):
            residual = rows[rows[:, 0] == action, column]
            error = residual.std(ddof=1) / np.sqrt(len(residual))
            # Late events (1 %) fall out of the horizon: at most that share of the mean.
            assert abs(residual.mean()) <= 3.5 * error + 0.01


def test_longer_horizons_agree_with_the_exact_week(world, state):
    exact = compute_truth(world, state)
    long = simulate_truth(
        world, state, continuation="no_offers", horizon_days=7, n_replicates=40, seed=1
    )
    assert (long.rows == exact.rows).all()
    net = (exact.value_effect - exact.cost).astype(float).mean(axis=0)
    assert (np.abs(long.mean_effect - net) <= 3.7 * long.mean_effect_error + 1e-6).all()
    z = (long.value - exact.value) / np.maximum(long.value_error, 1e-9)
    informed = long.value_error > 0.2
    assert abs(z[informed].mean()) < 0.25


def test_what_follows_a_decision_matters_and_is_named(world, state):
    kept, logged = (
        simulate_truth(
            world, state, continuation=name, horizon_days=21, n_replicates=4, n_decisions=600
        )
        for name in ("no_offers", "logging_policy")
    )
    assert len(kept.rows) == 600
    assert (kept.rows == logged.rows).all()
    assert logged.cost[:, 0].mean() > 0.2 > kept.cost[:, 0].mean()
    # A coupon lives longer than a week: its cost grows with the horizon.
    assert kept.cost[:, 3].mean() > compute_truth(world, state, kept.rows).cost[:, 3].mean()
    with pytest.raises(ContractError, match="n_replicates >= 2"):
        simulate_truth(world, state, continuation="no_offers", n_replicates=1)


def test_carry_over_and_saturation():
    spend = np.random.default_rng(1).gamma(2, 100, 60)
    for kept in (0.0, 0.35, 0.8):
        assert carry_over(spend, kept=kept) == pytest.approx(slow_carry_over(spend, kept))
    assert carry_over(np.full(200, 7.0), kept=0.6)[-1] == pytest.approx(7.0)
    assert saturate(np.array([50.0]), half=50.0, slope=1.7) == pytest.approx([0.5])
    assert (np.diff(saturate(np.arange(1.0, 50), half=20, slope=1.3)) > 0).all()


def test_the_kpi_recovers_the_planted_media():
    """Weekly log KPI on the true saturated stocks: lifts and noise within three errors."""
    weekday = WorldConfig().demand.weekday_on_visit
    history = draw_media(MEDIA, seed=5, n_weeks=20, weekday=weekday)
    weeks = len(history.lift)
    stocks = np.column_stack(
        [lift_of(each, history.spend[:, i]) / each.lift for i, each in enumerate(MEDIA.channels)]
    )
    daily = np.log(history.walk_in).reshape(weeks, 7)
    noise = daily - daily.mean(axis=1, keepdims=True) - np.array(weekday) + np.mean(weekday)
    spread = noise.std(ddof=0) * np.sqrt(7 / 6)
    assert abs(spread - MEDIA.walk_in_log_sd) <= 3 * MEDIA.walk_in_log_sd / np.sqrt(2 * 6 * weeks)
    design = np.column_stack([np.ones(weeks), stocks])
    solved, residual, *_ = np.linalg.lstsq(design, daily.mean(axis=1), rcond=None)
    variance = residual[0] / (weeks - 4) * np.linalg.inv(design.T @ design)
    planted = [each.lift for each in MEDIA.channels]
    assert (np.abs(solved[1:] - planted) <= 3 * np.sqrt(np.diag(variance)[1:])).all()
    assert history.lift[: MEDIA.history_weeks].mean() == pytest.approx(0, abs=1e-12)


def test_more_weeks_leave_the_past_as_it_was():
    weekday = WorldConfig().demand.weekday_on_visit
    short = draw_media(MEDIA, seed=5, n_weeks=2, weekday=weekday)
    long = draw_media(MEDIA, seed=5, n_weeks=30, weekday=weekday)
    assert (long.spend[: len(short.spend)] == short.spend).all()
    assert (long.walk_in[: len(short.walk_in)] == short.walk_in).all()
