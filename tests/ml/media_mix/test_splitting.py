"""Splits of a budget against brute force."""

import itertools

import numpy as np
import pytest
from known_media import make_known_media, spread_truth

from ml.core.errors import BudgetError
from ml.media_mix.splitting import _split_grid, split_budget


@pytest.fixture(scope="module")
def around_truth():
    return spread_truth(make_known_media()[0])


def test_the_best_split_is_brute_forces_s_shapes_included():
    random = np.random.default_rng(2)
    steps = np.arange(9)
    half, slope = random.uniform(1, 6, (5, 1, 3)), random.uniform(0.8, 4, (5, 1, 3))
    beta = random.uniform(1, 3, (5, 1, 3))
    powered = steps[:, None] ** slope
    curves = beta * powered / (powered + half**slope)  # (D, G, C)
    found = _split_grid(curves)
    assert (found.sum(axis=1) == 8).all()
    for draw in range(5):
        best = max(
            sum(curves[draw, step, c] for c, step in enumerate(split))
            for split in itertools.product(range(9), repeat=3)
            if sum(split) == 8
        )
        ours = sum(curves[draw, step, c] for c, step in enumerate(found[draw]))
        assert ours == pytest.approx(best)


def test_a_split_spends_the_budget_within_reach_and_gains(around_truth):
    current = {"radio": 300.0, "search": 700.0}
    split = split_budget(around_truth, budget=1_000.0, current=current)
    assert split.spend.sum() == pytest.approx(1_000.0)
    assert (split.spend >= 0.5 * split.current - 1e-9).all()
    assert (split.spend <= 1.5 * split.current + 10).all()
    assert split.gain.mean() > 0
    assert (split.low <= split.high).all()
    # Radio brings twice as much: it gets more than now.
    assert split.spend[0] > 300.0


def test_a_budget_out_of_reach_is_refused(around_truth):
    with pytest.raises(BudgetError, match=r"500\.00 to 1,500\.00 can"):
        split_budget(around_truth, budget=2_000.0, current={"radio": 300.0, "search": 700.0})
