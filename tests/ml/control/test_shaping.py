"""Shaping by a potential changes no journey's rank."""

import numpy as np
from known_journey import Tiers

from ml.control.shaping import ShapedEnvironment
from ml.core.journeys import choose_evenly, live_journeys

DISCOUNT = 0.9


def test_a_journeys_shaped_rewards_are_its_own_less_the_potential_of_its_beginning():
    worth = np.array([0.0, 3.0, 5.0, 11.0])

    def potential(state):
        return state.reshape(len(state), -1, 4).sum(axis=1) @ worth

    plain = live_journeys(Tiers(200, n_steps=6, ends=True), choose_evenly, seed=4)
    shaped = live_journeys(
        ShapedEnvironment(Tiers(200, n_steps=6, ends=True), potential, DISCOUNT),
        choose_evenly,
        seed=4,
    )
    np.testing.assert_array_equal(plain.action, shaped.action)
    gone = DISCOUNT**plain.step
    own, other = (np.bincount(log.customer, weights=gone * log.reward) for log in (plain, shaped))
    first = plain.take(plain.step == 0)
    np.testing.assert_allclose(other, own - potential(first.state), atol=1e-9)
    assert np.abs(plain.reward - shaped.reward).max() > 1
