"""What the studies of effects say about tables that can be reckoned by hand."""

import numpy as np
import polars as pl
import pytest

from benchmarks.studies.effects.__main__ import compare_with_peers, summarise
from benchmarks.studies.exploration_cost import LARGEST, SMALLEST, skew


def _rows():
    """Two seeds, one value head that serves and one that abstains, and a cost head."""
    rows = []
    for seed, gain in ((1, 0.2), (2, 0.4)):
        for outcome, action, error, constant, abstains, ideal in (
            ("value", "a", 0.5, 1.0, False, 9.0),
            ("value", "b", 1.0, 1.0, True, 0.5),
            ("cost", "a", 0.001, 0.002, False, 1.0),
        ):
            rows.append(
                {
                    "world": "bakery",
                    "n_decisions": 100,
                    "seed": seed,
                    "lifecycle": "activation",
                    "outcome": outcome,
                    "action_id": action,
                    "n_judged": 10,
                    "is_abstaining": abstains,
                    "ideal_z": ideal,
                    "error": error,
                    "constant_error": constant,
                    "oracle_value": 1.0,
                    "heads_value": 0.3 + gain,
                    "cautious_value": 0.5 + 0.05 * seed,
                    "constant_value": 0.3,
                    "heads_value_error": 0.5 * seed,
                    "heads_cost_error": 0.1,
                    "econml_s_value_error": 0.6,
                    "econml_s_cost_error": 0.2,
                    "two_value_error": 0.9,
                    "two_cost_error": 0.05,
                }
            )
    return pl.DataFrame(rows)


def test_figures_by_hand():
    figures = summarise(_rows())
    # The cost head's constant errs by less than a cent: nothing to be better at.
    assert figures["ratio_median"] == pytest.approx(0.75)
    assert figures["value_abstaining"] == pytest.approx(0.5)
    assert figures["provable_abstaining"] == 0.0
    assert figures["value_total_ratio"] == pytest.approx(np.sqrt(1.25 / 2))
    assert figures["gain"] == pytest.approx(0.3)
    assert figures["gain_low"] == pytest.approx(0.3 - 12.706 * 0.1, abs=1e-3)
    assert figures["oracle_share"] == pytest.approx(0.6)
    assert figures["caution_gain"] == pytest.approx((0.55 / 0.5 + 0.6 / 0.7) / 2 - 1)
    assert figures["caution_better"] == pytest.approx(0.5)
    assert figures["seeds"] == 2


def test_peers_by_hand():
    table = compare_with_peers(_rows())
    better = {
        (row["outcome"], row["peer"]): row["better_in"] for row in table.iter_rows(named=True)
    }
    assert better["value", "econml_s"] == 0.5
    assert better["value", "best of all"] == 0.5
    assert better["cost", "econml_s"] == 1.0
    assert better["cost", "best of all"] == 0.0


def test_skewed_propensities_are_distributions_within_their_bounds():
    random = np.random.default_rng(1)
    reward = random.normal(size=(500, 5))
    reward[:, 0] = 0
    eligible = random.random((500, 5)) < 0.7
    eligible[:, 0] = True
    for strength in (0.0, 1.0, 3.0):
        policy = skew(reward, eligible, strength=strength)
        assert policy.sum(axis=1) == pytest.approx(np.ones(500))
        assert (policy[~eligible] == 0).all()
        assert policy[eligible].min() >= SMALLEST
        assert policy[eligible.sum(axis=1) > 1].max() <= LARGEST + 1e-12
        alone = eligible.sum(axis=1) == 1
        assert (policy[alone, 0] == 1).all()
    uniform = skew(reward, eligible, strength=0.0)
    assert uniform[eligible] == pytest.approx((1 / eligible.sum(axis=1))[np.nonzero(eligible)[0]])
