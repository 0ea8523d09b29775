import numpy as np
import pytest

from ml.core.errors import BudgetError
from ml.core.policy import draw_actions, explore


def test_exploration_keeps_the_floor_and_the_sum():
    eligible = np.array([[True, True, True], [True, False, True]])
    target = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    policy = explore(target, eligible, floor=0.02)
    assert policy == pytest.approx(np.array([[0.02, 0.96, 0.02], [0.98, 0.0, 0.02]]))


def test_a_floor_that_fills_everything_is_refused():
    with pytest.raises(BudgetError, match="propensity_floor"):
        explore(np.array([[1.0, 0.0]]), np.ones((1, 2), dtype=bool), floor=0.6)


def test_draws_follow_the_probabilities():
    probabilities = np.tile([0.5, 0.0, 0.3, 0.2], (200_000, 1))
    drawn = draw_actions(probabilities, np.random.default_rng(1).random(200_000))
    shares = np.bincount(drawn, minlength=4) / 200_000
    assert shares[1] == 0
    assert shares == pytest.approx([0.5, 0.0, 0.3, 0.2], abs=0.005)


def test_a_draw_at_the_edge_never_takes_an_impossible_action():
    probabilities = np.array([[0.7, 0.3 - 1e-17, 0.0], [1.0, 0.0, 0.0]])
    assert draw_actions(probabilities, np.full(2, 1 - 2**-53)).tolist() == [1, 0]
    assert draw_actions(probabilities, np.zeros(2)).tolist() == [0, 0]
