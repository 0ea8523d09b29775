"""What is said of interactors: effects where they are active, stability, what is left."""

from dataclasses import replace

import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.interactors.randomisation import Trial
from ml.interactors.reading import (
    Residual,
    choose_words,
    find_residual,
    measure_groups,
    measure_stability,
    split_clusters,
)
from ml.interactors.search import SearchSettings


def make_trial(seed, *, n_clusters=1_500, per_cluster=4, hidden=0.0):
    """A driver of prevalence .2 that adds .8 to an effect of .3; what is hidden adds its own."""
    random = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n_clusters), per_cluster)
    driver = (random.random(n_clusters) < 0.2)[cluster]
    others = (random.random((n_clusters, 6)) < 0.2)[cluster]
    own = hidden * random.normal(size=n_clusters)[cluster]
    propensity = np.where(driver, 0.3, 0.6)
    offered = random.random(len(cluster)) < propensity
    outcome = random.normal(size=n_clusters)[cluster] + 0.5 * driver
    outcome = outcome + offered * (0.3 + 0.8 * driver + own) + random.normal(size=len(cluster))
    candidates = np.column_stack([driver, others]).astype(float)
    return Trial(outcome, offered, propensity, cluster), candidates


def test_effects_are_those_where_it_is_active_and_where_not_and_intervals_cover():
    covered = []
    for seed in range(60):
        trial, candidates = make_trial(seed, n_clusters=1_200, hidden=0.5)
        (row,) = measure_groups(trial, candidates[:, [0]] > 0, ["driver"]).iter_rows(named=True)
        covered += [
            row["active_low"] <= 1.1 <= row["active_high"],
            row["inactive_low"] <= 0.3 <= row["inactive_high"],
            row["difference_low"] <= 0.8 <= row["difference_high"],
        ]
        assert row["difference"] == pytest.approx(row["effect_active"] - row["effect_inactive"])
        active = candidates[:, 0] > 0
        assert row["n_offered"] == (active & trial.offered).sum()
        assert row["n_left"] == (active & ~trial.offered).sum()
    assert 0.91 <= np.mean(covered) <= 0.99


def test_customers_are_split_whole_and_halves_select_what_is_there():
    trial, candidates = make_trial(1, n_clusters=800)
    rows = split_clusters(trial, share=0.5, seed=3)
    assert not set(trial.cluster[rows]) & set(trial.cluster[~rows])
    assert 0.4 < rows.mean() < 0.6
    settings = SearchSettings(n_draws=99)
    done = []
    stability = measure_stability(
        trial, candidates, settings=settings, n_halves=12, progress=done.append
    )
    assert stability[0] > 0.7
    assert stability[1:].max() <= 0.4
    assert done == list(range(1, 13))
    rare = replace(settings, least_active=10_000)
    assert measure_stability(trial, candidates, settings=rare, n_halves=2).max() == 0


def test_what_is_hidden_is_seen_in_customers_decisions_and_what_is_selected_is_not():
    trial, candidates = make_trial(2, hidden=0.7)
    left = find_residual(trial, candidates[:, [0]], n_draws=199)
    assert left.p_value < 0.02
    assert left.spread == pytest.approx(0.7, rel=0.35)
    assert left.n_pairs == 1_500 * 6
    # The driver itself is left where nothing is selected.
    plain, candidates = make_trial(3, n_clusters=12_000)
    assert find_residual(plain, candidates[:, :0], n_draws=199).p_value < 0.05


def test_where_nothing_is_hidden_one_test_in_twenty_says_so():
    said = [
        find_residual(trial, candidates[:, [0]], n_draws=99, seed=seed).p_value <= 0.05
        for seed in range(100)
        for trial, candidates in [make_trial(100 + seed, n_clusters=200)]
    ]
    assert np.mean(said) <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5


def test_single_decisions_tell_nothing_of_what_is_left():
    trial, candidates = make_trial(4, per_cluster=1, n_clusters=300)
    with pytest.raises(SupportError, match="no customer has two decisions"):
        find_residual(trial, candidates[:, :1])


@pytest.mark.parametrize(
    ("is_randomised", "is_sufficient", "most_left", "words"),
    [
        (True, True, 0.3, "direct effect modifier"),
        (True, True, 0.5, "subgroup effect"),
        (True, True, None, "subgroup effect"),
        (True, False, 0.3, "subgroup effect"),
        (False, True, 0.3, "predictive modifier"),
    ],
)
def test_words_claim_no_more_than_was_declared_and_seen(
    is_randomised, is_sufficient, most_left, words
):
    residual = None if most_left is None else Residual(0.1, most_left, 0.4, 10)
    found = choose_words(
        is_randomised=is_randomised, is_sufficient=is_sufficient, residual=residual, explained=0.8
    )
    assert found == words


def test_too_few_customers_to_see_what_is_hidden_are_no_proof_that_nothing_is():
    words = []
    for seed in range(60):
        trial, candidates = make_trial(seed, n_clusters=150, per_cluster=2, hidden=1.0)
        residual = find_residual(trial, candidates[:, [0]], n_draws=99, seed=seed)
        words.append(
            choose_words(is_randomised=True, is_sufficient=True, residual=residual, explained=0.32)
        )
    # One bound in twenty is too low.
    assert words.count("direct effect modifier") / len(words) <= 0.05 + 2 * 0.028
    trial, candidates = make_trial(3, n_clusters=60_000, per_cluster=2)
    residual = find_residual(trial, candidates[:, [0]], n_draws=99)
    assert residual.spread <= residual.spread_high < 0.32 / 2


def test_groups_of_few_customers_get_no_interval():
    trial, _ = make_trial(5, n_clusters=1_000)
    few = (trial.cluster < 60)[:, None]
    nobody = np.zeros_like(few)
    found = measure_groups(trial, np.hstack([few, nobody]), ["few", "nobody"])
    assert found["difference"].to_list() == [None, None]
    assert found["n_offered"].to_list() == [int((few[:, 0] & trial.offered).sum()), 0]
