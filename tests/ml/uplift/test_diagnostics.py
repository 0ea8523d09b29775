"""Diagnostics against slow, obvious second ways, and their intervals by simulation."""

import numpy as np
import pytest
from econml.validate import DRTester

from ml.uplift.diagnostics import (
    check_efficiency,
    fit_best_linear_predictor,
    group_effects,
    measure_calibration_error,
    rank_average,
)
from ml.uplift.isotonic import compare_with_line, cross_calibrate
from ml.uplift.selection import Judged, calibrate_across


def _draw(seed, *, n_customers=400, per_customer=3, slope=1.0, noise=2.0):
    """Decisions of a customer share noise; the pseudo-outcome is slope times the prediction."""
    random = np.random.default_rng(seed)
    customer = np.repeat(np.arange(n_customers), per_customer)
    n = len(customer)
    effect = random.normal(size=n_customers)[customer] + 0.5 * random.normal(size=n)
    shared = random.normal(size=n_customers)[customer]
    pseudo = 1 + slope * effect + noise * (shared + random.normal(size=n)) / np.sqrt(2)
    return pseudo, effect, customer


def test_the_slope_is_that_of_least_squares():
    pseudo, effect, customer = _draw(1)
    slope = fit_best_linear_predictor(pseudo, effect, customer)
    assert slope.value == pytest.approx(np.polyfit(effect, pseudo, 1)[0])
    assert slope.low < slope.value < slope.high
    assert np.isnan(fit_best_linear_predictor(pseudo, np.ones(len(pseudo)), customer).value)


def test_bins_hold_everybody_once_in_order():
    pseudo, effect, customer = _draw(2)
    bins = group_effects(pseudo, effect, customer)
    assert bins["n_rows"].sum() == len(pseudo)
    assert bins["predicted"].is_sorted()
    lowest = effect <= np.quantile(effect, 0.2)
    assert bins["realised"][0] == pytest.approx(pseudo[lowest].mean())


def test_calibration_error_is_debiased():
    exact = [measure_calibration_error(*_draw(seed)) for seed in range(40)]
    off = []
    for seed in range(40):
        pseudo, effect, customer = _draw(seed)
        off.append(measure_calibration_error(pseudo, effect + 0.5, customer))
    # Calibrated predictions have an error of 1 + effect against effect: a gap of 1.
    assert np.mean(exact) == pytest.approx(1.0, abs=0.05)
    assert np.mean(off) == pytest.approx(0.5, abs=0.07)


def _average_ranks_slowly(pseudo, effect):
    order = sorted(range(len(pseudo)), key=lambda row: -effect[row])
    mean = sum(pseudo) / len(pseudo)
    toc = [
        sum(pseudo[row] for row in order[:count]) / count - mean
        for count in range(1, len(order) + 1)
    ]
    shares = [(count + 1) / len(order) for count in range(len(order))]
    autoc = sum(toc) / len(toc)
    return autoc, sum(a * b for a, b in zip(shares, toc, strict=True)) / len(toc)


def test_autoc_and_qini_by_loops():
    pseudo, effect, customer = _draw(3, n_customers=40)
    autoc, qini = rank_average(pseudo, effect, customer, seed=1)
    slow_autoc, slow_qini = _average_ranks_slowly(pseudo, effect)
    assert autoc.value == pytest.approx(slow_autoc)
    assert qini.value == pytest.approx(slow_qini)


@pytest.mark.parametrize("n_replications", [150, pytest.param(2_000, marks=pytest.mark.slow)])
def test_intervals_cover(n_replications):
    """BLP slope, the middle bins' effects, AUTOC and Qini: near 95 % with clustered decisions."""
    large = _draw(10_000, n_customers=100_000)
    true_autoc, true_qini = (each.value for each in rank_average(*large, seed=1))
    edges = np.quantile(large[1], [0.2, 0.4, 0.6, 0.8])
    true_bins = [1 + large[1][np.digitize(large[1], edges) == number].mean() for number in range(5)]
    covered = np.zeros(8)
    for seed in range(n_replications):
        pseudo, effect, customer = _draw(seed)
        slope = fit_best_linear_predictor(pseudo, effect, customer)
        bins = group_effects(pseudo, effect, customer)
        autoc, qini = rank_average(pseudo, effect, customer, seed=seed)
        covered += [
            slope.low <= 1 <= slope.high,
            *(
                low <= truth <= high
                for low, truth, high in zip(bins["low"], true_bins, bins["high"], strict=True)
            ),
            autoc.low <= true_autoc <= autoc.high,
            qini.low <= true_qini <= qini.high,
        ]
    coverage = covered / n_replications
    error = np.sqrt(0.95 * 0.05 / n_replications)
    assert coverage.min() >= 0.92 - 2 * error, coverage
    assert abs(coverage.mean() - 0.95) <= 0.01 + 2 * error, coverage


def _draw_efficiency(seed, *, is_reversed=False, n=4_000):
    random = np.random.default_rng(seed)
    customer = np.arange(n)
    value_effect = random.uniform(0.5, 2, n)
    cost_effect = np.full(n, 0.5)
    truth = 2.5 - value_effect if is_reversed else value_effect
    value = truth + 2 * random.normal(size=n)
    cost = 0.5 + 0.3 * random.normal(size=n)
    return value, cost, value_effect, cost_effect, customer


def test_efficiency_fails_where_the_dear_are_cheap():
    table, failure = check_efficiency(*_draw_efficiency(1))
    assert failure == ""
    assert table["predicted"].is_sorted()
    assert table["cost_per_value"][0] < table["cost_per_value"][9]
    assert "cheaper" in check_efficiency(*_draw_efficiency(1, is_reversed=True))[1]


def test_efficiency_that_does_not_differ_seldom_fails():
    failures = 0
    for seed in range(200):
        value, cost, value_effect, cost_effect, customer = _draw_efficiency(seed)
        random = np.random.default_rng(seed)
        failures += bool(
            check_efficiency(random.permutation(value), cost, value_effect, cost_effect, customer)[
                1
            ]
        )
    # Two tests at 5 % and 2.5 %.
    assert failures / 200 <= 0.075 + 2 * np.sqrt(0.075 * 0.925 / 200)


def _make_judged(effect, pseudo, customer):
    n = len(effect)
    return Judged(
        pseudo=np.column_stack([np.zeros(n), pseudo]),
        possible=np.ones((n, 2), dtype=bool),
        fold=customer % 4,
        customer=customer,
        lifecycle=np.full(n, "all"),
        families=("none", "coupon"),
    )


def test_a_curve_beats_the_line_only_where_effects_are_curved():
    """A step is bent for a line; where the line is right, the curve has only noise to add."""
    for is_step, better in ((True, "curve"), (False, "line")):
        pseudo, effect, customer = _draw(5, n_customers=3_000, slope=0.0 if is_step else 1.0)
        if is_step:
            pseudo = pseudo + 6.0 * (effect > 1.5)
        judged = _make_judged(effect, pseudo, customer)
        tau = np.column_stack([np.zeros(len(effect)), effect])
        (row,) = compare_with_line(tau, calibrate_across(tau, judged), judged)
        is_curve_better = row["risk_difference"] < -2 * row["standard_error"]
        assert is_curve_better == (better == "curve"), row


@pytest.mark.parametrize("n_levels", [1, 2, 10])
def test_a_curve_makes_nothing_of_ties(n_levels):
    """Equal predictions have one value: with a constant one, curve and line are the same."""
    pseudo, effect, customer = _draw(8, n_customers=4_000, noise=5.0)
    levels = np.round(effect * n_levels) / n_levels if n_levels > 1 else np.zeros(len(effect))
    judged = _make_judged(levels, pseudo, customer)
    tau = np.column_stack([np.zeros(len(levels)), levels])
    (row,) = compare_with_line(tau, calibrate_across(tau, judged), judged)
    assert abs(row["risk_difference"]) <= max(4 * row["standard_error"], 1e-6), row


def test_the_curve_of_a_fold_is_shaped_by_others():
    pseudo, effect, customer = _draw(6)
    judged = _make_judged(effect, pseudo, customer)
    tau = np.column_stack([np.zeros(len(effect)), effect])
    changed = judged.with_pseudo(np.where((judged.fold == 0)[:, None], 50.0, judged.pseudo))
    own = judged.fold == 0
    assert (cross_calibrate(tau, judged)[own] == cross_calibrate(tau, changed)[own]).all()
    assert (cross_calibrate(tau, judged)[~own] != cross_calibrate(tau, changed)[~own]).any()


def test_the_slope_agrees_with_econml():
    """DRTester's own formulas on the same pseudo-outcomes, rows independent."""
    pseudo, effect, customer = _draw(7, n_customers=4_000, per_customer=1)
    tester = DRTester(model_regression=None, model_propensity=None, cate=None)
    tester.treatments, tester.n_treat = np.array([0, 1]), 1
    tester.dr_val_, tester.cate_preds_val_ = pseudo[:, None], effect[:, None]
    tester.cate_preds_train_, tester.dr_train_ = effect[:, None], pseudo[:, None]
    tester.fit_on_train, tester.ate_val = False, pseudo.mean(keepdims=True)
    theirs = tester.evaluate_blp()
    ours = fit_best_linear_predictor(pseudo, effect, customer)
    assert ours.value == pytest.approx(float(theirs.params[0]), rel=1e-6)
    width = 2 * 1.96 * float(theirs.errs[0])
    assert ours.high - ours.low == pytest.approx(width, rel=0.05)
