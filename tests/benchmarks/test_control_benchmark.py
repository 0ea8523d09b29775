"""The peer of the journeys' benchmark lives the same dynamics."""

import numpy as np

from benchmarks.performance.control import OneCustomer
from ml.simulate.journeys import BakeryJourneys
from ml.simulate.worlds import BAKERY


def test_a_customer_in_gymnasium_lives_the_bakerys_weeks():
    peer = OneCustomer(3)
    state, _ = peer.reset(seed=4)
    alone = BakeryJourneys(BAKERY, n_customers=1, burn_in_weeks=0)
    np.testing.assert_array_equal(state, alone.begin(4).state[0])
    for _ in range(3):
        seen, reward, ended, cut, _ = peer.step(0)
        came = alone.step(np.array([0]))
        np.testing.assert_array_equal(seen, came.then.state[0])
        assert reward == came.reward[0]
        assert not ended
        assert not cut
