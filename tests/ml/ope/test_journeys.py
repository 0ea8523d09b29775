"""Offline values of journeys against a programme's exact ones."""

from dataclasses import replace

import numpy as np
import pytest
from known_journey import Tiers
from oracles.tiers import N_TIERS, evaluate, expect, iterate_values
from scipy.stats import spearmanr

from ml.core.errors import SupportError
from ml.core.journeys import Situation, choose_evenly, choose_on_log, live_journeys
from ml.ope.fitted import fit_values, grow_trees, list_kinds
from ml.ope.trajectories import value_by_weights

DISCOUNT = 0.9
STATES = np.eye(N_TIERS, dtype=np.float32)


def fit(log, policy, **settings):
    return fit_values(grow_trees(log, **settings), choose_on_log(log, policy), discount=DISCOUNT)


def weigh(log, policy, values=None):
    return value_by_weights(log, choose_on_log(log, policy), discount=DISCOUNT, values=values)


def always(actions):
    """Take a tier's action."""
    table = np.eye(3)[np.asarray(actions)]
    return lambda now: table[now.state.argmax(axis=1)]


def mixed(actions, share):
    """Take a tier's action, or any with a share."""
    table = (1 - share) * np.eye(3)[np.asarray(actions)] + share / 3
    return lambda now: table[now.state.argmax(axis=1) % N_TIERS]


def expect_journeys(policy, n_steps):
    """Return the mean value of journeys of some steps that begin evenly, exactly."""
    reward, moves = expect()
    tier, value = np.full(N_TIERS, 1 / N_TIERS), 0.0
    for step in range(n_steps):
        value += DISCOUNT**step * tier @ (policy * reward).sum(axis=1)
        tier = tier @ np.einsum("sa,sat->st", policy, moves)
    return value


@pytest.fixture(scope="module")
def log():
    return live_journeys(Tiers(2_000, n_steps=12), choose_evenly, seed=5)


def test_fitted_values_are_the_exact_ones_and_rank_policies(log):
    policies = [np.array(each) for each in np.ndindex(3, 3, 3, 3)][::9]
    exact, found = [], []
    for actions in policies:
        fitted = fit(log, always(actions))
        values = fitted.value(STATES)
        exact.append(evaluate(actions, DISCOUNT).mean())
        found.append(values[np.arange(N_TIERS), actions].mean())
        assert fitted.left < 0.5
    assert len(policies) >= 8
    assert spearmanr(exact, found).statistic > 0.9
    assert np.abs(np.array(found) / exact - 1).max() < 0.08


def test_trees_of_each_kind_of_action_tell_small_differences_apart(log):
    """Halved effects between actions: one forest averages over them, one for each doesn't."""
    mixed_log = replace(log, reward=log.reward + np.array([0.0, 0.3, -0.3])[log.action])
    gaps = []
    for kinds in (None, np.arange(3)):
        trees = grow_trees(mixed_log, kinds=kinds, described=np.zeros((3, 1)))
        value = [
            fit_values(trees, choose_on_log(mixed_log, always([a] * 4)), discount=DISCOUNT)
            for a in range(3)
        ]
        gaps.append(np.ptp([each.value(STATES).mean() for each in value]))
    # What trees aren't told they can't know; a kind of its own tells it.
    assert gaps[0] < 0.5 * gaps[1]


def test_kinds_are_no_offer_messages_and_coupons_by_face_value():
    assert list_kinds(np.array([0.0, 0.0, 2.0, 5.0, 2.0])).tolist() == [0, 1, 2, 3, 2]
    assert list_kinds(np.array([0.0, 3.0])).tolist() == [0, 1]


def test_a_kind_that_the_log_lacks_leaves_other_policies_valued(log):
    held = log.take(log.action < 2)
    kinds = np.arange(3)
    fitted = fit_values(
        grow_trees(held, kinds=kinds), choose_on_log(held, always([1, 1, 0, 0])), discount=DISCOUNT
    )
    assert np.isfinite(fitted.value(STATES)).all()
    with pytest.raises(SupportError, match=r"takes actions \[2\]"):
        fit_values(
            grow_trees(held, kinds=kinds), choose_on_log(held, always([2] * 4)), discount=DISCOUNT
        )
    with pytest.raises(SupportError, match="holds no step"):
        grow_trees(log.take(log.action < 0))


def test_an_action_that_the_log_lacks_is_refused(log):
    held = log.take(log.action < 2)
    with pytest.raises(SupportError, match=r"takes actions \[2\]"):
        fit(held, always([2, 2, 2, 2]))
    fit(held, always([1, 1, 0, 0]))


@pytest.fixture(scope="module")
def ended():
    """A policy of journeys of three decisions, its exact value, and fitted values of it."""
    policy = mixed(iterate_values(DISCOUNT)[1], 0.6)
    table = policy(Situation(STATES, np.ones((N_TIERS, 3), dtype=bool)))
    training = live_journeys(Tiers(3_000, n_steps=3, ends=True), choose_evenly, seed=77)
    fitted = fit(training, policy)
    return policy, expect_journeys(table, 3), fitted


@pytest.mark.parametrize("is_robust", [False, True])
def test_weights_value_short_journeys_without_bias_and_with_honest_intervals(ended, is_robust):
    policy, truth, fitted = ended
    errors, covered = [], []
    for seed in range(100):
        short = live_journeys(Tiers(800, n_steps=3, ends=True), choose_evenly, seed=seed)
        found = weigh(short, policy, fitted if is_robust else None)
        errors.append((found.estimate.value - truth) / found.estimate.standard_error)
        covered.append(found.estimate.low <= truth <= found.estimate.high)
    assert np.mean(covered) >= 0.9
    assert abs(np.mean(errors)) < 0.3


def test_doubly_robust_values_vary_less_and_forgive_wrong_values(ended):
    policy, truth, fitted = ended
    short = live_journeys(Tiers(4_000, n_steps=3, ends=True), choose_evenly, seed=1)
    weighted = weigh(short, policy)
    robust = weigh(short, policy, values=fitted)
    assert robust.estimate.standard_error < weighted.estimate.standard_error
    assert robust.effective == weighted.effective
    wrong = replace(fitted, means=0.3 * fitted.means)
    still = weigh(short, policy, values=wrong)
    assert abs(still.estimate.value - truth) < 3 * still.estimate.standard_error


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_journeys_that_end_early_count_as_they_are(share):
    policy, leaving = mixed([2, 1, 1, 0], share), 0.4
    table = policy(Situation(STATES, np.ones((N_TIERS, 3), dtype=bool)))
    reward, moves = expect()
    tier, truth = np.full(N_TIERS, 1 / N_TIERS), 0.0
    for step in range(3):
        truth += (DISCOUNT * (1 - leaving)) ** step * tier @ (table * reward).sum(axis=1)
        tier = tier @ np.einsum("sa,sat->st", table, moves)
    errors = []
    for seed in range(40):
        short = live_journeys(
            Tiers(1_500, n_steps=3, ends=True, leaving=leaving), choose_evenly, seed=seed
        )
        found = weigh(short, policy)
        errors.append((found.estimate.value - truth) / found.estimate.standard_error)
    assert abs(np.mean(errors)) < 0.5


def test_an_action_that_only_the_beginning_would_take_is_refused_too():
    log = live_journeys(Tiers(400, n_steps=3, ends=True), choose_evenly, seed=2)

    def begin_deep(now):
        is_first = now.state[:, :N_TIERS].sum(axis=1) > 0
        return np.eye(3)[np.where(is_first, 2, 0)]

    fit(log, begin_deep)
    with pytest.raises(SupportError, match=r"takes actions \[2\]"):
        fit(log.take(log.action < 2), begin_deep)


def test_long_journeys_are_refused_by_their_effective_size(log):
    with pytest.raises(SupportError, match="12 decisions leave"):
        weigh(log, always([2, 1, 1, 0]))
