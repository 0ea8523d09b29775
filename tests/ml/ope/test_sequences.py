import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.sequences import bound_anytime

LOOKS = (300, 600, 1_200, 2_400, 4_800)


def test_the_interval_is_the_formula_of_the_paper():
    values = np.random.default_rng(1).normal(size=1_000)
    estimate = bound_anytime(values, np.arange(1_000), planned=2_000)
    squared = (2 * np.log(20) + np.log(2 * np.log(20) + 1)) / 2_000
    log = np.log(np.sqrt(1_000 * squared + 1) / 0.05)
    reach = values.std(ddof=1) * np.sqrt(2 * (1_000 * squared + 1) / (1_000**2 * squared) * log)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.value == pytest.approx(reach)
    assert estimate.value - estimate.low == pytest.approx(reach)
    assert (estimate.n_decisions, estimate.n_customers) == (1_000, 1_000)


def test_it_holds_at_all_looks_at_once_where_a_single_looks_interval_does_not():
    random = np.random.default_rng(2)
    missed = single = 0
    for _ in range(300):
        values = random.exponential(size=LOOKS[-1]) - 1
        looks = [bound_anytime(values[:n], np.arange(n)) for n in LOOKS]
        missed += any(not each.low <= 0 <= each.high for each in looks)
        single += any(abs(each.value) > 1.96 * each.standard_error for each in looks)
    assert missed / 300 <= 0.05
    assert single / 300 > 0.08


def test_two_values_are_needed():
    with pytest.raises(SupportError, match="at least two"):
        bound_anytime(np.ones(1), np.zeros(1))
