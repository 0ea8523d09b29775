import numpy as np
import pytest

from ml.allocation.depths import group_depths, order_by_depth
from ml.allocation.pruning import PrunedPairs, prune_by_economics
from ml.core.schemas import PRUNING_REASONS


def _reasons(pruned):
    return [[PRUNING_REASONS[code - 1] if code else "" for code in row] for row in pruned.codes]


def test_the_first_reason_stays_and_control_is_never_pruned():
    pruned = PrunedPairs(2, 3)
    pruned.mark(np.array([False, True, False]), "not_offered")
    assert _reasons(pruned) == [["", "not_offered", ""]] * 2
    assert pruned.is_kept.tolist() == [[True, False, True]] * 2
    pruned.mark(np.ones((2, 1), dtype=bool), "frequency_cap")
    assert _reasons(pruned) == [["", "not_offered", "frequency_cap"]] * 2
    assert pruned.is_kept.tolist() == [[True, False, False]] * 2
    with pytest.raises(ValueError, match="dislike"):
        pruned.mark(np.ones((2, 3), dtype=bool), "dislike")


def test_each_pair_is_pruned_for_what_speaks_against_it_first():
    value = np.array([[0.0, 5.0, 5.0, -1.0, 2.0, 2.0, 1.0, 4.0]])
    cost = np.array([[0.0, 1.0, 1.0, 0.0, 1.9, 1.0, 1.0, 1.0]])
    supported = np.ones((1, 8), dtype=bool)
    supported[0, 2] = False
    pruned = PrunedPairs(1, 8)
    prune_by_economics(
        pruned,
        value_bound=value - 0.5,
        value_effect=value,
        cost_effect=cost,
        supported=supported,
        reward=value - 0.5 - cost,
        least_reward=3.0,
        most_cost_per_value=0.9,
    )
    expected = ["", "", "thin_support", "value_not_positive", "too_dear", "log_supports_fewer"]
    assert _reasons(pruned)[0] == [*expected, "too_dear", "log_supports_fewer"]


def test_depths_share_family_and_channel():
    families = ("none", "coupon", "coupon", "coupon", "ad", "coupon")
    channels = ("", "email", "email", "push", "email", "email")
    faces = np.array([0.0, 5.0, 2.0, 2.0, 0.0, 9.0])
    assert group_depths(families, channels, faces) == ((2, 1, 5),)


def test_ordering_by_depth_is_isotonic_regression():
    from sklearn.isotonic import isotonic_regression

    random = np.random.default_rng(2)
    effect = random.normal(size=(200, 7))
    depths = ((1, 4, 2, 6), (3, 5))
    known = np.ones(effect.shape, dtype=bool)
    known[:10, 4] = False
    ordered = order_by_depth(effect, depths, known)
    for row, (before, after) in enumerate(zip(effect, ordered, strict=True)):
        for actions in depths:
            own = list(actions)
            expected = isotonic_regression(before[own])
            if row < 10 and 4 in own:
                expected = before[own]
            assert after[own] == pytest.approx(expected)
    assert (ordered[:, 0] == effect[:, 0]).all()
