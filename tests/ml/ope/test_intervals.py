import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.bootstrap import bootstrap_mean
from ml.ope.estimators import find_estimator, weigh_decisions
from ml.ope.intervals import bound_by_bernstein, bound_by_likelihood, estimate_mean

INTERVALS = {
    "t": estimate_mean,
    "bootstrap": lambda values, customer, **kwargs: bootstrap_mean(
        values, customer, seed=1, **kwargs
    ),
    "likelihood": bound_by_likelihood,
    "bernstein": lambda values, customer, **kwargs: bound_by_bernstein(
        values, customer, lowest=-50.0, highest=50.0, **kwargs
    ),
}


@pytest.mark.parametrize("name", INTERVALS)
def test_duplicates_add_no_information(name):
    values = np.random.default_rng(4).normal(0, 1, 400)
    single = INTERVALS[name](values, np.arange(400))
    repeated = INTERVALS[name](np.repeat(values, 5), np.repeat(np.arange(400), 5))
    assert repeated.value == pytest.approx(values.mean())
    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high), rel=1e-6)
    assert repeated.standard_error == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)
    assert (repeated.n_decisions, repeated.n_customers) == (2_000, 400)


@pytest.mark.parametrize("name", INTERVALS)
def test_a_higher_level_is_wider_and_one_customer_too_few(name):
    values = np.random.default_rng(5).exponential(size=300)
    wide = INTERVALS[name](values, np.arange(300), level=0.999)
    usual = INTERVALS[name](values, np.arange(300))
    assert wide.low < usual.low < usual.value < usual.high < wide.high
    with pytest.raises(SupportError, match="at least two"):
        INTERVALS[name](values, np.zeros(300, dtype=int))


def test_constant_contributions_have_no_width():
    for name in ("t", "bootstrap", "likelihood"):
        each = INTERVALS[name](np.full(50, 2.5), np.arange(50))
        assert (each.low, each.value, each.high) == pytest.approx((2.5, 2.5, 2.5))


def test_the_likelihood_ratio_is_that_of_a_slow_maximum():
    """At each end the weights that maximise the likelihood have the critical ratio."""
    from scipy import optimize, stats

    values = np.random.default_rng(6).exponential(size=25)
    found = bound_by_likelihood(values, np.arange(25))
    critical = stats.f.ppf(0.95, 1, 24)
    for end in (found.low, found.high):
        best = optimize.minimize(
            lambda weights: -np.log(25 * weights).sum(),
            np.full(25, 1 / 25),
            bounds=[(1e-9, 1)] * 25,
            constraints=[
                {"type": "eq", "fun": lambda weights: weights.sum() - 1},
                {"type": "eq", "fun": lambda weights, end=end: weights @ values - end},
            ],
            options={"maxiter": 1_000, "ftol": 1e-12},
        )
        assert 2 * best.fun == pytest.approx(critical, rel=1e-3)


def test_the_likelihood_follows_skewness_and_stays_in_range():
    values = np.zeros(200)
    values[:6] = 100.0
    skewed = bound_by_likelihood(values, np.arange(200))
    assert skewed.low > 0
    assert skewed.high - skewed.value > 1.2 * (skewed.value - skewed.low)
    assert estimate_mean(values, np.arange(200)).low < skewed.low


def test_bernstein_is_wider_and_refuses_what_lies_outside_its_bounds():
    values = np.random.default_rng(7).random(500)
    bounded = bound_by_bernstein(values, np.arange(500), lowest=0.0, highest=1.0)
    usual = estimate_mean(values, np.arange(500))
    assert bounded.low < usual.low
    assert bounded.high > usual.high
    with pytest.raises(SupportError, match="outside of the bounds"):
        bound_by_bernstein(values, np.arange(500), lowest=0.0, highest=0.5)


def test_blocks_of_customers_are_as_wide_as_customers():
    values = np.random.default_rng(8).normal(size=20_000)
    customer = np.repeat(np.arange(10_000), 2)
    blocks = bootstrap_mean(values, customer, seed=1)
    assert blocks.high - blocks.low == pytest.approx(
        estimate_mean(values, customer).high - estimate_mean(values, customer).low, rel=0.12
    )
    assert blocks == bootstrap_mean(values, customer, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t", "bootstrap", "likelihood"])
@pytest.mark.parametrize("estimator", ["ips", "snips", "dr", "sndr"])
def test_clustered_intervals_cover(estimator, name):
    """2,000 fresh logs of 400 customers with four correlated decisions each; truth 0.5."""
    random = np.random.default_rng(5)
    contribute = find_estimator(estimator).contribute
    hits = 0
    for _ in range(2_000):
        customer = np.repeat(np.arange(400), 4)
        trait = np.repeat(random.normal(0, 1, 400), 4)
        propensity_one = np.where(trait > 0, 0.3, 0.6)
        action = (random.random(1_600) < propensity_one).astype(int)
        reward = trait + 0.5 * action + random.normal(0, 1, 1_600)
        propensity = np.where(action == 1, propensity_one, 1 - propensity_one)
        values = []
        for target in (1, 0):
            policy = np.zeros((1_600, 2))
            policy[:, target] = 1
            decisions = weigh_decisions(
                reward,
                policy=policy,
                action=action,
                propensity=propensity,
                expected_reward=np.column_stack([0.8 * trait, 0.8 * trait]),
            )
            values.append(contribute(decisions, np.inf))
        few = {"n_resamples": 400} if name == "bootstrap" else {}
        estimate = INTERVALS[name](values[0] - values[1], customer, **few)
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.94 <= hits / 2_000 <= 0.96
