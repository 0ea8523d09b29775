"""Policy trees: what they ask, what their leaves say, and that they are read as written."""

import numpy as np
import polars as pl
import pytest

from ml.core.errors import ModelError, SupportError
from ml.interactors.policy_tree import OptionScores, TreeSettings, grow_tree, read_tree, write_tree

SETTINGS = TreeSettings(max_depth=2, least_decisions=400)


def make_log(seed, n=12_000):
    """Old customers lose by a coupon; the young gain, by the dear one if they also read recipes."""
    random = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n // 2), 2)
    age = random.uniform(18, 80, n // 2)[cluster]
    reads = (random.random(n // 2) < 0.4)[cluster].astype(float)
    noise = random.normal(size=(n, 2))
    cheap = np.where(age > 50, -0.5, 1.0)
    dear = np.where(age > 50, -0.5, np.where(reads > 0, 3.5, 0.5))
    able = random.random(n) < 0.9
    propensity = np.where(able[:, None], [0.4, 0.3, 0.3], [0.6, 0.4, 0.0])
    option = (random.random(n)[:, None] > propensity.cumsum(axis=1)).sum(axis=1)
    effect = np.column_stack([np.zeros(n), cheap, dear])
    cost = np.array([0.0, 0.2, 1.0])[option]
    value = effect[np.arange(n), option] + 0.5 * reads + noise[:, 0]
    scores = OptionScores(("no offer", "cheap", "dear"), option, propensity, value, cost, cluster)
    return scores, np.column_stack([np.log1p(age), reads, noise[:, 1]]), effect, cluster % 3 > 0


def grow(seed, settings=SETTINGS):
    scores, interactors, effect, is_growing = make_log(seed)
    tree, leaves = grow_tree(
        scores,
        interactors,
        ("age", "read:recipes", "noise"),
        is_growing=is_growing,
        is_log=np.array([True, False, False]),
        settings=settings,
    )
    return tree, leaves, interactors, effect, is_growing


def test_a_tree_finds_who_gains_and_its_intervals_cover_what_was_planted():
    covered = []
    for seed in range(12):
        tree, leaves, interactors, effect, is_growing = grow(seed)
        assert tree.names[tree.feature[0]] == "age"
        assert "read:recipes" in {tree.names[each] for each in tree.feature if each >= 0}
        found = tree.find_leaves(interactors)
        best = (tree.value_effect - tree.cost_effect)[found].argmax(axis=1)
        ideal = (effect - [0.0, 0.2, 1.0]).argmax(axis=1)
        assert (best == ideal).mean() > 0.93
        for row in leaves.filter(pl.col("value_low") < pl.col("value_high")).iter_rows(named=True):
            own = (found == row["leaf"]) & ~is_growing
            true = effect[own, ["no offer", "cheap", "dear"].index(row["option"])].mean()
            covered.append(row["value_low"] <= true <= row["value_high"])
    assert 0.9 <= np.mean(covered) <= 0.995
    first = tree.explain(int(tree.left[0]))
    assert first.startswith("age <= ")
    assert 45 < float(first.split()[-1]) < 55


def test_a_tree_is_read_as_it_was_written_and_refuses_another_layout():
    tree, _, interactors, _, _ = grow(1)
    text = write_tree(tree)
    again = read_tree(text)
    np.testing.assert_array_equal(again.find_leaves(interactors), tree.find_leaves(interactors))
    np.testing.assert_array_equal(again.value_effect, tree.value_effect)
    assert again.explain(1) == tree.explain(1)
    with pytest.raises(ModelError, match="another layout: grow it anew"):
        read_tree(text.replace('"layout": 1', '"layout": 7'))


def test_too_few_decisions_are_refused():
    with pytest.raises(SupportError, match="needs 9,000 in a leaf"):
        grow(1, TreeSettings(least_decisions=9_000))


def test_who_could_not_get_an_offer_says_nothing_of_where_to_split():
    random = np.random.default_rng(5)
    n = 8_000
    x, other = random.random((2, n))
    propensity = np.where((x > 0.5)[:, None], [0.5, 0.5], [1.0, 0.0])
    option = (random.random(n) < propensity[:, 1]).astype(int)
    value = option * (1.0 + 0.6 * (other > 0.3)) + random.normal(size=n)
    scores = OptionScores(
        ("no offer", "coupon"), option, propensity, value, np.zeros(n), np.arange(n)
    )
    tree, leaves = grow_tree(
        scores,
        np.column_stack([x, other]),
        ("x", "other"),
        is_growing=np.arange(n) % 2 > 0,
        settings=TreeSettings(max_depth=1, least_decisions=300),
    )
    assert tree.names[tree.feature[0]] == "other"
    assert tree.threshold[0] == pytest.approx(0.3, abs=0.1)
    # Asked of those who could not get it, a leaf says that it doesn't know.
    tree, leaves = grow_tree(
        scores.take(x < 0.5),
        np.column_stack([x, other])[x < 0.5],
        ("x", "other"),
        is_growing=np.arange(n)[x < 0.5] % 2 > 0,
        settings=TreeSettings(max_depth=1, least_decisions=300),
    )
    unknown = leaves.filter(option="coupon")
    assert unknown["value_effect"].null_count() == unknown.height > 0
    assert (tree.value_effect[:, 0] == 0).all()
    assert np.isnan(tree.value_effect[:, 1]).all()
    np.testing.assert_array_equal(read_tree(write_tree(tree)).value_effect, tree.value_effect)
