"""Log-odds of blocks against enumeration, and conformal ranks."""

import numpy as np
import pytest
from known_network import SMALL, draw_network
from oracles.boltzmann import exact_free_energy, list_visible_states
from scipy.stats import spearmanr

from ml.core.errors import ModelError
from ml.world_model.consistency import (
    Block,
    contrast_blocks,
    measure_free_energy,
    rank_among,
    score_block,
)

BLOCK = Block("both", on={"f0": 1, "f1": 1}, off={"f0": 0, "f1": 0})
OTHER = Block("third", on={"f2": 1}, off={"f2": 0})
PLACES = {name: place for place, name in enumerate(SMALL.names)}


def _set(rows, values):
    changed = rows.copy()
    for name, value in values.items():
        changed[:, PLACES[name]] = value
    return changed


def _exact(network, rows, block):
    on, off = (exact_free_energy(network, _set(rows, each)) for each in (block.on, block.off))
    return off - on


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_log_odds_are_those_of_the_model(scale):
    network, rows = draw_network(scale, seed=3), list_visible_states(SMALL)
    found, exact = score_block(network, rows, BLOCK).value, _exact(network, rows, BLOCK)
    assert spearmanr(found, exact).statistic > 0.98
    assert (np.sign(found) == np.sign(exact)).mean() > 0.95
    assert found == pytest.approx(exact, abs=0.05 if scale < 1 else 1.0)


def test_the_contrast_is_the_log_odds_ratio():
    network, rows = draw_network(0.5, seed=5), list_visible_states(SMALL)
    found = contrast_blocks(network, rows, BLOCK, OTHER)
    exact = _exact(network, _set(rows, OTHER.on), BLOCK) - _exact(
        network, _set(rows, OTHER.off), BLOCK
    )
    assert spearmanr(found, exact).statistic > 0.95


def test_without_couplings_biases_are_all_and_nothing_depends_on_anything():
    network, rows = draw_network(0.0), list_visible_states(SMALL)
    found = score_block(network, rows, BLOCK)
    assert found.value == pytest.approx(found.bias_only, abs=1e-5)
    assert contrast_blocks(network, rows, BLOCK, OTHER) == pytest.approx(0, abs=1e-5)


def test_what_is_clamped_does_not_matter():
    network, rows = draw_network(1.0), list_visible_states(SMALL)
    changed = _set(rows, {"f0": 1.0, "f1": 0.0})
    assert (
        score_block(network, rows, BLOCK).value == score_block(network, changed, BLOCK).value
    ).all()


def test_incoherent_blocks_are_refused():
    network, rows = draw_network(1.0), list_visible_states(SMALL)
    for block, message in (
        (Block("x", {"f9": 1}, {"f9": 0}), "no visible units"),
        (Block("x", {"f0": 1, "f1": 1}, {"f0": 0}), "must set the same units"),
        (Block("x", {"colour=a": 1}, {"colour=a": 0}), "exactly one unit"),
    ):
        with pytest.raises(ModelError, match=message):
            score_block(network, rows, block)
    whole = Block(
        "colour",
        {"colour=a": 1, "colour=b": 0, "colour=c": 0},
        {"colour=a": 0, "colour=b": 1, "colour=c": 0},
    )
    assert np.isfinite(score_block(network, rows, whole).value).all()


def test_ranks_of_real_rows_are_uniform_within_segments():
    random = np.random.default_rng(1)
    segment, other = random.integers(2, size=4_000), random.integers(2, size=4_000)
    # One segment's energies lie higher: alone each is usual.
    scores, known = random.normal(size=4_000) + 5 * segment, random.normal(size=4_000) + 5 * other
    found = rank_among(scores, segment, known, other)
    for each in (0, 1):
        assert np.quantile(found[segment == each], [0.1, 0.5, 0.9]) == pytest.approx(
            [0.1, 0.5, 0.9], abs=0.04
        )
    assert (found <= 0.05).mean() < 0.07
    assert rank_among(np.array([99.0]), np.array([0]), known, other)[0] < 0.001
    assert rank_among(np.array([0.0]), np.array([7]), known, other)[0] == 1


def test_free_energies_of_many_rows_are_those_of_each():
    network, rows = draw_network(1.0), list_visible_states(SMALL)
    many = np.tile(rows, (800, 1))
    found = measure_free_energy(network, many)
    assert found[: len(rows)] == pytest.approx(measure_free_energy(network, rows), abs=1e-5)
