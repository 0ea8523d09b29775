import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.estimators import WeightedDecisions, find_estimator
from ml.ope.tuning import choose_by_validation, propose_limits, tune_by_slope


def make_decisions(seed, *, n=4_000, gap=0.0, tail=1.5):
    """A log with heavy weights; the model errs by ``gap`` where weights are large."""
    random = np.random.default_rng(seed)
    weight = random.lognormal(-(tail**2) / 2, tail, n)
    taken = np.zeros(n)
    reward = gap * (weight > 5) + random.normal(size=n)
    return WeightedDecisions(reward, weight, taken, taken)


def test_limits_fall_from_none():
    weight = np.linspace(0.0, 10.0, 101)
    for name in ("clipped_ips", "switch_dr", "dros"):
        limits = propose_limits(weight, estimator=name)
        assert np.isinf(limits[0])
        assert (np.diff(limits[1:]) < 0).all()
    with pytest.raises(SupportError, match="no decision"):
        propose_limits(np.zeros(5), estimator="dros")


@pytest.mark.parametrize("name", ["clipped_ips", "switch_dr", "dros"])
def test_slope_limits_where_nothing_is_lost_and_hardly_where_much_would_be(name):
    customer = np.arange(4_000)
    harmless, harmful = (
        tune_by_slope(make_decisions(1, gap=gap), customer, estimator=name) for gap in (0.0, 40.0)
    )
    free = find_estimator(name).contribute(make_decisions(1), np.inf)
    assert harmless.estimate.standard_error < 0.5 * free.std() / np.sqrt(4_000)
    assert harmless.limit < harmful.limit
    truth = 40.0 * make_decisions(2, n=2_000_000, gap=1.0).weight
    truth = (truth * (make_decisions(2, n=2_000_000).weight > 5)).mean()
    assert harmful.estimate.value > 0.5 * truth


def test_slope_by_hand():
    """Of three limits the middle one agrees with the first, the last with neither."""
    decisions = make_decisions(3, gap=40.0)
    limits = [np.inf, 50.0, 0.1]
    chosen = tune_by_slope(decisions, np.arange(4_000), estimator="clipped_ips", limits=limits)
    assert chosen.limit == 50.0


def test_only_limits_are_tuned():
    with pytest.raises(SupportError, match="nothing to tune"):
        tune_by_slope(make_decisions(1), np.arange(4_000), estimator="dr")


def test_validation_prefers_the_unbiased_where_the_model_errs():
    decisions = make_decisions(4, gap=40.0, tail=1.0)
    chosen = choose_by_validation(decisions, np.arange(4_000), seed=1)
    assert find_estimator(chosen.estimator).is_unbiased or chosen.limit > 5
    again = choose_by_validation(decisions, np.arange(4_000), seed=1)
    assert again == chosen


def test_validation_errs_less_than_dr_where_weights_are_heavy_and_the_model_right():
    errors = {"dr": [], "chosen": []}
    for seed in range(20):
        decisions = make_decisions(100 + seed, tail=2.0)
        chosen = choose_by_validation(decisions, np.arange(4_000), seed=seed)
        errors["chosen"].append(chosen.estimate.value)
        errors["dr"].append(find_estimator("dr").contribute(decisions, np.inf).mean())
    chosen, free = (np.sqrt(np.mean(np.square(errors[name]))) for name in ("chosen", "dr"))
    assert chosen < 0.8 * free
