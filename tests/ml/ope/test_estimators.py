import numpy as np
import pytest
from oracles.ope import value_by_loop

from ml.core.errors import SupportError
from ml.ope.estimators import (
    ESTIMATORS,
    contrast_actions,
    effective_sample_size,
    find_estimator,
    weigh,
    weigh_decisions,
)


def make_log(seed, n=500, k=3):
    """Return logging probabilities, a policy, actions, expected rewards and rewards."""
    random = np.random.default_rng(seed)
    logging = random.dirichlet(np.ones(k) * 3, n)
    policy = random.dirichlet(np.ones(k), n)
    action = (random.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1)
    expected = random.normal(0, 1, (n, k))
    reward = expected[np.arange(n), action] + random.normal(0, 1, n)
    return logging, policy, action, expected, reward


def _weigh(logging, policy, action, expected, reward):
    return weigh_decisions(
        reward,
        policy=policy,
        action=action,
        propensity=logging[np.arange(len(action)), action],
        expected_reward=expected,
    )


@pytest.mark.parametrize("limit", [np.inf, 1.5])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_values_equal_the_loop(name, limit):
    logging, policy, action, expected, reward = make_log(1)
    decisions = _weigh(logging, policy, action, expected, reward)
    propensity = logging[np.arange(len(action)), action]
    loop = value_by_loop(name, reward, action, propensity, policy, expected, limit)
    assert ESTIMATORS[name].contribute(decisions, limit).mean() == pytest.approx(loop, rel=1e-12)


@pytest.mark.parametrize("name", [name for name, each in ESTIMATORS.items() if each.is_limited])
def test_an_infinite_limit_changes_nothing(name):
    decisions = _weigh(*make_log(2))
    free = {"clipped_ips": "ips", "switch_dr": "dr", "dros": "dr"}[name]
    limited = ESTIMATORS[name].contribute(decisions, np.inf)
    assert limited == pytest.approx(ESTIMATORS[free].contribute(decisions, np.inf), rel=1e-12)
    assert ESTIMATORS[name].contribute(decisions, 0.5) != pytest.approx(limited)


@pytest.mark.parametrize("name", [name for name, each in ESTIMATORS.items() if each.is_unbiased])
def test_the_unbiased_are_unbiased_whatever_the_model(name):
    """Mean over 400 logs within three standard errors of the truth, with a wrong model."""
    random = np.random.default_rng(3)
    errors = []
    for _ in range(400):
        n = 400
        context = random.normal(size=n)
        logging = np.column_stack([0.3 + 0.4 * (context > 0), 0.7 - 0.4 * (context > 0)])
        policy = np.column_stack([0.5 + 0.3 * (context > 0), 0.5 - 0.3 * (context > 0)])
        means = np.column_stack([context, 1 + 0 * context])
        action = (random.random(n) > logging[:, 0]).astype(int)
        reward = means[np.arange(n), action] + random.normal(size=n)
        decisions = _weigh(logging, policy, action, np.full((n, 2), 0.7), reward)
        truth = (policy * means).sum(axis=1).mean()
        errors.append(ESTIMATORS[name].contribute(decisions, np.inf).mean() - truth)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors))


@pytest.mark.parametrize("name", ["ips", "snips"])
def test_the_logging_policy_is_worth_the_mean_reward(name):
    logging, _, action, expected, reward = make_log(2)
    values = ESTIMATORS[name].contribute(_weigh(logging, logging, action, expected, reward), np.inf)
    assert values.mean() == pytest.approx(reward.mean(), rel=1e-12)


def test_dr_is_the_direct_method_where_residuals_are_zero():
    logging, policy, action, expected, _ = make_log(3)
    reward = expected[np.arange(len(action)), action]
    decisions = _weigh(logging, policy, action, expected, reward)
    assert find_estimator("dr").contribute(decisions, np.inf) == pytest.approx(
        (policy * expected).sum(axis=1)
    )


def test_without_a_model_dr_is_ips():
    logging, policy, action, _, reward = make_log(4)
    decisions = weigh_decisions(
        reward, policy=policy, action=action, propensity=logging[np.arange(len(action)), action]
    )
    ips, dr = (find_estimator(name).contribute(decisions, np.inf) for name in ("ips", "dr"))
    assert (ips == dr).all()


def test_impossible_propensities_missing_support_and_unknown_names_are_refused():
    with pytest.raises(SupportError, match="propensities"):
        weigh(np.ones((1, 1)), np.zeros(1, dtype=int), np.array([0.0]))
    logging, policy, action, expected, reward = make_log(5)
    decisions = _weigh(logging, 0 * policy, action, expected, reward)
    with pytest.raises(SupportError, match="no decision"):
        find_estimator("snips").contribute(decisions, np.inf)
    with pytest.raises(SupportError, match="no estimator 'magic'"):
        find_estimator("magic")


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
