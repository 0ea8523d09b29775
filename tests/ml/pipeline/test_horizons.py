"""Effects over two horizons on a log whose longer effects are known."""

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.pipeline.horizons import HORIZONS, compare_horizons
from ml.pipeline.learn import fit_candidate
from ml.pipeline.snapshots import take_snapshot
from ml.uplift.fitting import LearningSettings


def _make_snapshot(*, share=1.0, keeps=0.5):
    """Over the longer horizon an effect keeps a share of itself, and everybody buys twice."""
    rows, z = make_rows(1, n=20_000)
    n = rows.height
    is_coupon = (rows["action_id"] == "email_coupon_2").to_numpy()
    lost = (1 - keeps) * np.where(is_coupon, 0.5 + z, 0.0)
    again = 4 + np.random.default_rng(1).normal(0, 1, n)
    rows = rows.with_columns(
        pl.Series("accounting_value", rows["value"].to_numpy() + again - lost),
        pl.Series("accounting_cost", rows["cost"].to_numpy()),
        pl.Series("is_accounting_matured", np.arange(n) < share * n),
    )
    return take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS)


def test_an_effect_that_fades_is_told_from_one_that_lasts():
    for keeps in (0.5, 1.0):
        snapshot = _make_snapshot(keeps=keeps)
        candidate = fit_candidate(
            snapshot,
            programme=PROGRAMME,
            actions=ACTIONS,
            settings=LearningSettings(n_members=2),
        )
        table = compare_horizons(candidate, snapshot.evaluation)
        assert table.schema == HORIZONS
        row = table.row(
            by_predicate=(pl.col("action_id") == "email_coupon_2") & (pl.col("outcome") == "value"),
            named=True,
        )
        assert row["learning_low"] <= 0.5 <= row["learning_high"]
        assert row["accounting_low"] <= 0.5 * keeps <= row["accounting_high"]
        assert row["slope"] == pytest.approx(keeps, abs=0.2)
        costs = table.filter(pl.col("outcome") == "cost")
        assert (costs["learning"] - costs["accounting"]).abs().max() < 1e-9


def test_before_a_horizon_has_passed_there_is_nothing_to_compare():
    snapshot = _make_snapshot(share=0.0)
    candidate = fit_candidate(
        snapshot, programme=PROGRAMME, actions=ACTIONS, settings=LearningSettings(n_members=2)
    )
    assert compare_horizons(candidate, snapshot.evaluation).is_empty()
