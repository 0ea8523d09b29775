import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.compliance import estimate_complier_effect
from ml.ope.intervals import estimate_mean


def _draw(random, n=4_000, reach=0.6, effect=2.0):
    customer = np.repeat(np.arange(n // 2), 2)
    context = random.normal(size=n)
    chance = 1 / (1 + np.exp(-context))
    action = (random.random(n) < chance).astype(int)
    # Who is reached spends more anyway: comparing the reached with the others would be wrong.
    is_reachable = random.random(n) < reach
    received = (action == 1) & is_reachable
    outcome = context + 3 * is_reachable + effect * received + random.normal(size=n)
    propensity = np.where(action == 1, chance, 1 - chance)
    return outcome, received, action, propensity, customer


def _estimate(outcome, received, action, propensity, customer):
    return estimate_complier_effect(
        outcome,
        received,
        action=action,
        propensity=propensity,
        customer=customer,
        chosen=1,
        against=0,
    )


def test_the_interval_holds_the_effect_on_those_reached():
    random = np.random.default_rng(1)
    drawn = [_estimate(*_draw(random)) for _ in range(200)]
    assert np.mean([each.value for each in drawn]) == pytest.approx(2.0, abs=0.05)
    assert 0.91 <= np.mean([each.low <= 2.0 <= each.high for each in drawn]) <= 0.99


def test_with_full_reach_it_is_the_effect_of_assignment():
    outcome, received, action, propensity, customer = _draw(np.random.default_rng(2), reach=1.0)
    estimate = _estimate(outcome, received, action, propensity, customer)
    means = [
        (outcome / propensity)[action == each].sum() / (1 / propensity)[action == each].sum()
        for each in (0, 1)
    ]
    assert estimate.value == pytest.approx(means[1] - means[0], rel=1e-9)
    assert estimate.n_customers == estimate_mean(outcome, customer).n_customers


def test_an_offer_that_reaches_hardly_anybody_is_refused():
    with pytest.raises(SupportError, match="hardly moves"):
        _estimate(*_draw(np.random.default_rng(3), reach=0.005))
