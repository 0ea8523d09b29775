"""The pacer: run-off from young and old nights, tonight's budget, and periods lived by it."""

from dataclasses import replace

import numpy as np
import pytest

from ml.allocation.pacing import (
    HALF_LIFE_DAYS,
    MOST_BIAS,
    Liability,
    RunOff,
    estimate_run_off,
    pace_night,
)
from ml.core.errors import BudgetError

AGES = 28
DELAY = np.where(np.arange(AGES) < 10, 0.75 ** np.arange(AGES), 0.0)
DELAY = DELAY / DELAY.sum()
FACE = 3.5


def _draw(random, promised, *, bias=1.0, delay=DELAY):
    """Return what was paid of promised nights by today, Poisson redemptions of one size."""
    n_nights = len(promised)
    mean = promised[:, None] * bias * delay / FACE
    paid = random.poisson(mean) * FACE
    seen = np.arange(AGES) < (n_nights - np.arange(n_nights))[:, None]
    return Liability(promised[:, None], (paid * seen)[:, :, None], np.array([FACE]))


def test_run_off_is_the_mean_cumulative_function_by_hand():
    # Two nights, two ages; the younger night has reached age 0 alone.
    paid = np.array([[[6.0], [3.0]], [[2.0], [0.0]]])
    liability = Liability(np.array([[10.0], [10.0]]), paid, np.array([1e-9]))
    run_off = estimate_run_off(liability, prior_days=2)
    # Age 0: 8 of 20; age 1: 3 of 10.
    assert run_off.paid_by[:, 0] == pytest.approx([0.4 / 0.7, 1.0])
    # By calendar day 6 and 5 came, 10 f(0) and 10 f(0) + 10 f(1) were due.
    recent = 0.5 ** (1 / HALF_LIFE_DAYS)
    bias = (recent * 6 + 5) / (recent * 10 * 0.4 / 0.7 + 10)
    assert run_off.bias == pytest.approx([bias])


def test_run_off_and_bias_recover_the_truth_from_matured_and_young_nights():
    random = np.random.default_rng(5)
    liability = _draw(random, np.full(60, 4_000.0), bias=1.3)
    run_off = estimate_run_off(liability, prior_days=7)
    assert run_off.paid_by[:, 0] == pytest.approx(np.cumsum(DELAY), abs=0.01)
    assert run_off.bias == pytest.approx([1.3], abs=0.05)
    within, after = run_off.forecast(liability, 10)
    ages = np.arange(60, 0, -1)
    owed = np.array([DELAY[age : age + 10].sum() for age in ages]) * 4_000 * 1.3
    assert within.sum() == pytest.approx(owed.sum(), rel=0.05)
    assert after.sum() == pytest.approx(0, abs=0.01 * owed.sum())


def test_nothing_known_leans_on_the_prior():
    empty = Liability(np.zeros((3, 1)), np.zeros((3, AGES, 1)), np.array([FACE]))
    run_off = estimate_run_off(empty, prior_days=7)
    assert run_off.paid_by[:7, 0] == pytest.approx(np.arange(1, 8) / 7)
    assert run_off.bias == pytest.approx([1.0])


def test_a_night_gets_its_share_of_what_is_left():
    sure = RunOff(np.ones((1, 1)), np.ones(1))
    nothing = Liability(np.zeros((0, 1)), np.zeros((0, 1, 1)), np.array([FACE]))
    keywords = {"target": 300.0, "realised": 100.0, "nights_left": 4, "mix": np.array([0.5, 0.5])}
    pace = pace_night(nothing, sure, **keywords, most=1_000)
    assert pace.budget == pytest.approx(50)
    assert pace.steering == "steered"
    weighted = pace_night(nothing, sure, **keywords, most=1_000, weights=np.array([2, 1, 1, 1]))
    assert weighted.budget == pytest.approx(80)
    # Half of what is promised is paid after the period: more may be promised.
    slow = pace_night(nothing, replace(sure, bias=np.array([0.0])), **keywords, most=1_000)
    assert slow.budget == pytest.approx(100)
    assert pace_night(nothing, sure, **keywords, most=30).steering == "capped"
    over = pace_night(nothing, sure, **{**keywords, "realised": 301.0}, most=1_000)
    assert (over.budget, over.steering) == (0.0, "stopped")


def test_what_cannot_be_paced_is_refused():
    nothing = Liability(np.zeros((1, 1)), np.zeros((1, 1, 1)), np.array([FACE]))
    run_off = estimate_run_off(nothing, prior_days=7)
    with pytest.raises(BudgetError, match="0 nights left"):
        pace_night(
            nothing,
            run_off,
            target=1,
            realised=0,
            nights_left=0,
            mix=np.array([0.0, 1.0]),
            most=1,
        )
    with pytest.raises(BudgetError, match="negative"):
        estimate_run_off(replace(nothing, paid=-np.ones((1, 1, 1))), prior_days=7)
    with pytest.raises(BudgetError, match="finite"):
        estimate_run_off(replace(nothing, promised=np.full((1, 1), np.nan)), prior_days=7)


def _live(seed, *, shock_at=None, n_nights=30, warm_up=20):
    """Live a period of about 10,000 redemptions; return its spending over its budget, less 1."""
    random = np.random.default_rng(seed)
    bias, target = random.uniform(0.85, 1.15), n_nights * 340 * FACE
    usual = target / n_nights
    promised, paid = np.zeros((warm_up + n_nights, 1)), np.zeros((warm_up + n_nights, AGES, 1))
    spent = 0.0
    for night in range(warm_up + n_nights):
        budget = 0.9 * usual
        if night >= warm_up:
            liability = Liability(promised[:night], paid[:night], np.array([FACE]))
            pace = pace_night(
                liability,
                estimate_run_off(liability, prior_days=7),
                target=target,
                realised=spent,
                nights_left=warm_up + n_nights - night,
                mix=np.array([0.05, 0.95]),
                most=2 * usual,
            )
            budget = max(pace.budget, 0.12 * usual)
            spent += 0.05 * budget
        promised[night] = 0.95 * budget
        is_shocked = shock_at is not None and night >= warm_up + shock_at
        for earlier in range(max(0, night - AGES + 1), night + 1):
            age = night - earlier
            mean = promised[earlier, 0] * bias * DELAY[age] * (2 if is_shocked else 1)
            paid[earlier, age, 0] = random.poisson(mean / FACE) * FACE
            spent += paid[earlier, age, 0] * (night >= warm_up)
    return spent / target - 1


@pytest.mark.parametrize("shock_at", [None, 4, 13])
def test_a_period_pays_its_budget_though_redemptions_double(shock_at):
    missed = np.array([_live(seed, shock_at=shock_at) for seed in range(12)])
    assert np.abs(missed).max() < 0.03
    assert missed.max() < 0.01


def test_the_bias_is_bounded_so_that_nothing_winds_up():
    promised = np.full(40, 1_000.0)
    liability = _draw(np.random.default_rng(1), promised, bias=10.0)
    assert estimate_run_off(liability, prior_days=7).bias == pytest.approx([MOST_BIAS])
