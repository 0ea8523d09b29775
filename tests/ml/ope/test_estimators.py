import numpy as np
import pytest
from oracles.ope import value_by_loop

from ml.core.errors import SupportError
from ml.ope.estimators import (
    contrast_actions,
    contribute_dr,
    contribute_ips,
    contribute_snips,
    effective_sample_size,
    estimate_mean,
    weigh,
)


def _log(seed, n=500, k=3):
    random = np.random.default_rng(seed)
    logging = random.dirichlet(np.ones(k) * 3, n)
    policy = random.dirichlet(np.ones(k), n)
    action = (random.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1)
    expected = random.normal(0, 1, (n, k))
    reward = expected[np.arange(n), action] + random.normal(0, 1, n)
    return logging, policy, action, expected, reward


def _contribute(estimator, reward, weight, action, policy, expected):
    if estimator == "ips":
        return contribute_ips(reward, weight)
    if estimator == "snips":
        return contribute_snips(reward, weight)
    return contribute_dr(reward, weight, action=action, policy=policy, expected_reward=expected)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_values_equal_the_loop(estimator):
    logging, policy, action, expected, reward = _log(1)
    propensity = logging[np.arange(len(action)), action]
    weight = weigh(policy, action, propensity)
    ours = _contribute(estimator, reward, weight, action, policy, expected).values.mean()
    loop = value_by_loop(estimator, reward, action, propensity, policy, expected)
    assert ours == pytest.approx(loop, rel=1e-12)


@pytest.mark.parametrize("estimator", ["ips", "snips"])
def test_the_logging_policy_is_worth_the_mean_reward(estimator):
    logging, _, action, expected, reward = _log(2)
    weight = weigh(logging, action, logging[np.arange(len(action)), action])
    values = _contribute(estimator, reward, weight, action, logging, expected).values
    assert values.mean() == pytest.approx(reward.mean(), rel=1e-12)


def test_dr_is_the_direct_method_where_residuals_are_zero():
    logging, policy, action, expected, _ = _log(3)
    reward = expected[np.arange(len(action)), action]
    weight = weigh(policy, action, logging[np.arange(len(action)), action])
    values = contribute_dr(
        reward, weight, action=action, policy=policy, expected_reward=expected
    ).values
    assert values == pytest.approx((policy * expected).sum(axis=1))


def test_impossible_propensities_and_missing_support_are_refused():
    with pytest.raises(SupportError, match="propensities"):
        weigh(np.ones((1, 1)), np.zeros(1, dtype=int), np.array([0.0]))
    with pytest.raises(SupportError, match="no decision"):
        contribute_snips(np.ones(3), np.zeros(3))
    with pytest.raises(SupportError, match="at least two"):
        estimate_mean(np.ones(3), np.zeros(3, dtype=int))


def test_clustering_matters_and_duplicates_add_no_information():
    values = np.random.default_rng(4).normal(0, 1, 400)
    single = estimate_mean(values, np.arange(400))
    repeated = estimate_mean(np.repeat(values, 5), np.repeat(np.arange(400), 5))
    assert repeated.value == pytest.approx(single.value)
    assert repeated.standard_error == pytest.approx(single.standard_error)
    assert single.standard_error == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)


def test_a_contrast_is_the_difference_of_means_and_needs_both_actions():
    reward, action = np.array([4.0, 2.0, 1.0, 7.0]), np.array([1, 1, 0, 2])
    even = contrast_actions(reward, action, np.full(4, 0.25), chosen=1, against=0)
    assert even.mean() == pytest.approx(3.0 - 1.0)
    skewed = contrast_actions(reward, action, np.array([0.5, 0.1, 0.2, 0.2]), chosen=1, against=2)
    assert skewed.mean() == pytest.approx((4 / 0.5 + 2 / 0.1) / (1 / 0.5 + 1 / 0.1) - 7.0)
    with pytest.raises(SupportError, match="would have taken"):
        contrast_actions(reward, action, np.full(4, 0.25), chosen=3, against=0)


def test_effective_sample_size_by_hand():
    assert effective_sample_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert effective_sample_size(np.zeros(3)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_clustered_intervals_cover(estimator):
    """2,000 fresh logs of 400 customers with four correlated decisions each; truth 0.5."""
    random = np.random.default_rng(5)
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
            expected = np.column_stack([0.8 * trait, 0.8 * trait])
            weight = weigh(policy, action, propensity)
            values.append(_contribute(estimator, reward, weight, action, policy, expected).values)
        estimate = estimate_mean(values[0] - values[1], customer)
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.94 <= hits / 2_000 <= 0.96
