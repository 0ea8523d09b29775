"""The tokens-to-policy study's own arithmetic."""

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from benchmarks.studies.tokens_to_policy.bakery import _correlate, _find_first, report_bakery


def test_correlations_of_codes_with_drivers_are_pearsons():
    random = np.random.default_rng(1)
    columns = random.normal(size=(300, 3)) * (random.random((300, 3)) < 0.3)
    others = random.random((300, 2)) < 0.2
    found = _correlate(sparse.csr_array(columns), others.astype(float))
    expected = np.abs(np.corrcoef(columns, others, rowvar=False)[:3, 3:])
    np.testing.assert_allclose(found, expected)


def test_a_customers_first_decision_is_found_for_each_of_theirs():
    frame = pl.DataFrame({"customer_id": ["a", "b", "a", "b"], "decided_at": [4, 1, 2, 3]})
    assert _find_first(frame).tolist() == [2, 1, 2, 1]


def test_recall_is_a_mean_over_seeds_and_false_a_share_of_all_selected_codes(capsys):
    rows = [
        (1, "recall", "", 1.0),
        (2, "recall", "", 0.5),
        *((1, "selected", name, value) for name, value in (("a", 0.9), ("b", 0.8))),
        *((2, "selected", name, value) for name, value in (("a", 0.9), ("c", 0.3))),
        *((seed, "decisions", "", 1_000.0) for seed in (1, 2)),
        *((seed, "net_value", name, value) for seed in (1, 2) for name, value in VALUES),
    ]
    lived = pl.DataFrame(rows, schema=["seed", "figure", "subject", "value"], orient="row")
    figures = report_bakery(lived.with_columns(pl.lit("bag").alias("encoder")))
    assert figures["planted_recall"] == pytest.approx(0.75)
    assert figures["planted_false"] == pytest.approx(0.25)
    assert figures["tree_value_share"] == pytest.approx(0.9)
    assert "selected, seed 2: c (0.30)" in capsys.readouterr().out


VALUES = (("tree", 0.9), ("heads", 1.0), ("oracle", 1.2))
