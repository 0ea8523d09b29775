"""The search for interactors: what it finds, leaves and refuses."""

import numpy as np
import pytest
from scipy import sparse

from benchmarks.studies.tokens_to_policy.published_world import make_leaky
from ml.core.errors import ContractError, SupportError
from ml.interactors.published import regress_candidates, search_as_published
from ml.interactors.randomisation import Trial, adjust_outcome
from ml.interactors.search import (
    SearchSettings,
    count_active,
    measure_slopes,
    search_interactors,
)

FAST = SearchSettings(n_draws=199)


def test_two_planted_drivers_are_found_among_candidates_that_know_of_both():
    for seed in range(4):
        trial, candidates = make_leaky(seed, n=1_000, m=120)
        found = search_interactors(trial, candidates, settings=FAST)
        assert set(found.selected) == {0, 1}
        assert {step.kind for step in found.path if step.candidate in (0, 1)} == {"added"}
        assert found.path[-1].kind == "refused"
        assert found.tested.all()


def test_what_was_added_first_is_dropped_once_the_drivers_are_there():
    kinds = []
    for seed in range(6):
        trial, candidates = make_leaky(seed, n=1_000, m=120)
        # A candidate that loads on both out-ranks each at first.
        both = (candidates[:, 0] - candidates[:, 1]) / 3 + np.random.default_rng(seed).normal(
            0, 1.3, len(candidates)
        )
        found = search_interactors(trial, np.column_stack([candidates, both]), settings=FAST)
        kinds += [step.kind for step in found.path if step.candidate == candidates.shape[1]]
        assert set(found.selected) == {0, 1}
    assert "dropped" in kinds


def test_with_much_data_every_correlate_is_significant_and_the_declared_relevance_leaves_it_out():
    trial, candidates = make_leaky(1, n=12_000, m=40)
    relevant = search_interactors(trial, candidates, settings=FAST)
    anything = search_interactors(
        trial, candidates, settings=SearchSettings(n_draws=99, relevance=0.0)
    )
    assert set(relevant.selected) == {0, 1}
    assert set(anything.selected) > {0, 1}
    last = relevant.path[-1]
    assert last.p_value <= 0.05
    assert last.share < 0.2


def test_one_driver_and_its_copies():
    random = np.random.default_rng(6)
    n = 6_000
    driver = random.random(n) < 0.12
    copies = [
        np.where(random.random(n) < rho, driver, random.random(n) < 0.12) for rho in (0.6, 0.4)
    ]
    others = random.random((n, 20)) < 0.1
    candidates = np.column_stack([driver, *copies, others]).astype(float)
    offered = random.random(n) < 0.5
    outcome = 0.5 * driver + offered * (0.2 + 0.8 * driver) + random.normal(size=n)
    trial = Trial(outcome, offered, np.full(n, 0.5), np.arange(n))
    dense = search_interactors(trial, candidates, settings=FAST)
    assert dense.selected == (0,)
    by_sparse = search_interactors(trial, sparse.csr_array(candidates), settings=FAST)
    assert by_sparse.selected == dense.selected
    slopes, errors = measure_slopes(adjust_outcome(trial, candidates), candidates[:, [0]])
    assert slopes[0] == pytest.approx(0.8, abs=3 * errors[0])


def test_candidates_too_rare_to_compare_are_not_tested():
    trial, candidates = make_leaky(1, n=400, m=20)
    rare = np.zeros((400, 2))
    rare[:30, 0] = 1
    found = search_interactors(trial, np.hstack([candidates, rare]), settings=FAST)
    assert found.tested.tolist() == [True] * 20 + [False] * 2
    active = count_active(trial, rare)
    assert active[:, 0].sum() == 30
    assert active[0, 0] == trial.offered[:30].sum()
    with pytest.raises(SupportError, match="active for 50 customers with the offer"):
        search_interactors(trial, rare, settings=FAST)


def test_the_published_regression_is_ordinary_least_squares():
    trial, candidates = make_leaky(2, n=300, m=6)
    for selected in ([], [3]):
        statistic, p_value = regress_candidates(trial, candidates, selected)
        offered = trial.offered.astype(float)[:, None]
        column = candidates[:, [0]]
        base = np.column_stack([np.ones(300), candidates[:, selected]])
        design = np.hstack([base, offered * base, column, offered * column])
        found, rss, *_ = np.linalg.lstsq(design, trial.outcome, rcond=None)
        variance = rss[0] / (300 - design.shape[1]) * np.linalg.inv(design.T @ design)[-1, -1]
        assert statistic[0] == pytest.approx(found[-1] / variance**0.5)
        assert 0 < p_value[0] <= 1
    trial, candidates = make_leaky(2, n=1_000, m=60)
    assert {0, 1} <= set(search_as_published(trial, candidates))


def test_support_is_counted_in_customers_and_too_few_draws_are_refused():
    trial, candidates = make_leaky(1, n=600, m=4)
    together = Trial(trial.outcome, trial.offered, trial.propensity, np.arange(600) // 6)
    active = count_active(together, np.ones((600, 1)))
    assert (active <= 100).all()
    assert active[0, 0] == len(np.unique(together.cluster[together.offered]))
    few = SearchSettings(n_draws=39, alpha=0.02)
    with pytest.raises(ContractError, match="39 draws of the offers can't prove anything"):
        search_interactors(trial, candidates, settings=few)
