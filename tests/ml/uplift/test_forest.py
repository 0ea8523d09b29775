"""Leaf masks against LightGBM's own predictions, to the last bit."""

import lightgbm as lgb
import numpy as np
import pytest

from ml.core.errors import ContractError
from ml.uplift.forest import Forest, score_forests

DESCRIPTORS = np.array([[0.0, 0, 0], [2, 1, 0], [5, 1, 0], [0, 0, 1]])


def _make_rows(seed, n=3_000, unknown=0.1):
    random = np.random.default_rng(seed)
    context = random.normal(size=(n, 6))
    context[:, 3] = random.integers(0, 4, n)
    context[random.random((n, 6)) < unknown] = np.nan
    context[:, 0] = random.normal(size=n)
    action = random.integers(0, 4, n)
    effect = np.where(action > 0, 1 + np.nan_to_num(context[:, 1]) * (action == 2), 0)
    target = context[:, 0] + np.nan_to_num(context[:, 3]) + effect + random.normal(size=n)
    return context, action, target


def _fit(context, action, target, **params):
    fixed = {"num_threads": 1, "verbosity": -1, "num_leaves": 12, "extra_trees": True, "seed": 3}
    columns = np.column_stack([context, DESCRIPTORS[action]])
    return lgb.train({**fixed, **params}, lgb.Dataset(columns, label=target), 40)


def _predict(booster, context, raw=True):
    n = len(context)
    return np.column_stack(
        [
            booster.predict(
                np.column_stack([context, np.tile(each, (n, 1))]), num_threads=1, raw_score=raw
            )
            for each in DESCRIPTORS
        ]
    )


@pytest.mark.parametrize("params", [{}, {"num_leaves": 64, "min_data_in_leaf": 5}, {"max_bin": 15}])
def test_scores_equal_lightgbm_to_the_last_bit(params):
    booster = _fit(*_make_rows(1), **params)
    # Columns without unknown values in the fit, and values on the very thresholds.
    fresh = _make_rows(2, unknown=0.3)[0]
    fresh[:5, 0] = np.nan
    text = booster.model_to_string()
    forest = Forest(text, 6)
    for tree in forest.trees[:5]:
        for column, threshold in zip(tree.feature, tree.threshold, strict=True):
            if column < 6:
                fresh = np.vstack([fresh, fresh[0]])
                fresh[-1, column] = threshold
    (scores,) = score_forests([forest], fresh, DESCRIPTORS)
    assert (scores == _predict(booster, fresh)).all()


def test_forests_of_several_fits_are_scored_in_one_pass():
    context, action, target = _make_rows(3)
    joint = _fit(context, action, target)
    binary = _fit(context, action, (target > 1).astype(float), objective="binary")
    alone = _fit(context, action, target, interaction_constraints=[list(range(6))])
    forests = [Forest(each.model_to_string(), 6) for each in (joint, binary, alone)]
    assert [each.is_joint for each in forests] == [True, True, False]
    scores = score_forests(forests, context, DESCRIPTORS)
    assert (scores[0] == _predict(joint, context)).all()
    assert (scores[1] == _predict(binary, context)).all()
    assert (scores[2] == _predict(alone, context)[:, 0]).all()


def test_nobody_and_nothing_to_score():
    booster = _fit(*_make_rows(4))
    forest = Forest(booster.model_to_string(), 6)
    assert score_forests([forest], np.zeros((0, 6)), DESCRIPTORS)[0].shape == (0, 4)
    assert score_forests([], np.zeros((3, 6)), DESCRIPTORS) == []
    assert (score_forests([Forest("", 6)], np.ones((3, 6)), DESCRIPTORS)[0] == 0).all()


def test_a_tree_with_too_many_leaves_is_refused():
    booster = _fit(*_make_rows(5, n=6_000), num_leaves=200, min_data_in_leaf=2)
    with pytest.raises(ContractError, match="at most 64 leaves"):
        score_forests([Forest(booster.model_to_string(), 6)], np.zeros((2, 6)), DESCRIPTORS)
