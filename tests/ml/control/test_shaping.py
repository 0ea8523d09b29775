"""Shaping by a potential changes no journey's rank."""

import numpy as np
import pytest
from known_journey import Tiers

from ml.control.shaping import ShapedEnvironment, fit_potential, shape_log
from ml.core.journeys import choose_evenly, live_journeys

DISCOUNT = 0.9


def _worth(state):
    """Return a tier's worth, whatever the step."""
    return state.reshape(len(state), -1, 4).sum(axis=1) @ np.array([0.0, 3.0, 5.0, 11.0])


@pytest.fixture(scope="module")
def journeys():
    """The same journeys, plain and with shaped rewards."""
    return tuple(
        live_journeys(each, choose_evenly, seed=4)
        for each in (
            Tiers(200, n_steps=6, ends=True),
            ShapedEnvironment(Tiers(200, n_steps=6, ends=True), _worth, DISCOUNT),
        )
    )


def test_a_journeys_shaped_rewards_are_its_own_less_the_potential_of_its_beginning(journeys):
    plain, shaped = journeys
    np.testing.assert_array_equal(plain.action, shaped.action)
    gone = DISCOUNT**plain.step
    own, other = (np.bincount(log.customer, weights=gone * log.reward) for log in (plain, shaped))
    first = plain.take(plain.step == 0)
    np.testing.assert_allclose(other, own - _worth(first.state), atol=1e-9)
    assert np.abs(plain.reward - shaped.reward).max() > 1


def test_a_shaped_log_is_what_a_shaped_environment_logs(journeys):
    plain, shaped = journeys
    again = shape_log(plain, _worth, discount=DISCOUNT)
    np.testing.assert_allclose(again.reward, shaped.reward, atol=1e-9)


def test_the_fitted_potential_is_what_the_logs_own_journeys_are_worth():
    log = live_journeys(Tiers(4_000, n_steps=60), choose_evenly, seed=4)
    potential = fit_potential(log, discount=DISCOUNT, price=0.5)
    # Each customer's discounted rewards over 60 steps, by the tier that they began in.
    gone = DISCOUNT**log.step * (log.reward - 0.5 * log.cost)
    worth = np.bincount(log.customer, weights=gone)
    first = log.take(log.step == 0).state.argmax(axis=1)
    true = np.array([worth[first == tier].mean() for tier in range(4)])
    np.testing.assert_allclose(potential(np.eye(4, dtype=np.float32)), true, rtol=0.03)
    # What is left to learn varies less than what was there.
    left = shape_log(log, potential, discount=DISCOUNT).reward
    assert left.std() < np.std(log.reward + DISCOUNT * potential(log.next_state))
