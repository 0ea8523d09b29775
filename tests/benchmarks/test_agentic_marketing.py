"""The document's reward, as it is written."""

import numpy as np
import pytest

from benchmarks.studies.agentic_marketing.reward import (
    BONUS,
    PaperReward,
    TicketReward,
    fit_uplift,
)
from ml.core.journeys import choose_evenly, live_journeys
from ml.simulate.loyalty import GOLD, Loyalty


@pytest.fixture(scope="module")
def uplift():
    return fit_uplift(live_journeys(TicketReward(Loyalty()), choose_evenly, seed=1))


def test_the_t_learner_finds_who_reacts(uplift):
    programme = Loyalty()
    state = programme.begin(8).state
    planted = programme.purchase_probability(np.full(500, 3)) - programme.purchase_probability(
        np.zeros(500, dtype=int)
    )
    assert np.corrcoef(planted, uplift.predict(state)[:, 3])[0, 1] > 0.5
    assert (uplift.predict(state)[:, 0] == 0).all()


def test_uplift_is_paid_on_top_of_the_ticket_and_gold_is_paid_for_staying(uplift):
    weight = np.array([0.5, 1.0, 1.5])
    paid = PaperReward(Loyalty(), uplift, weight)
    now = paid.begin(5)
    action = np.full(500, 6)
    added = uplift.predict(now.state)[:, 6]
    came = paid.step(action)
    facts = paid.inner.facts
    expected = facts.ticket + facts.buys * np.maximum(added, 0) * weight[1]
    expected += BONUS * (facts.next_tier > facts.tier)
    expected += BONUS * ((facts.tier == GOLD) & (facts.next_tier == GOLD))
    expected -= BONUS * (facts.next_tier < facts.tier)
    np.testing.assert_allclose(came.reward, expected)
    # The defect: who stays gold is paid the same whatever was sent, and messages cost nothing.
    stays = (facts.tier == GOLD) & (facts.next_tier == GOLD) & ~facts.buys
    assert set(came.reward[stays]) == {BONUS}
