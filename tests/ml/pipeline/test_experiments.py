import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.logged import build_logged_decisions
from ml.pipeline.experiments import estimate_experiment_effects

OFFER = "email_coupon_2"


def _estimate(rows):
    logged = build_logged_decisions(rows, programme=PROGRAMME, actions=ACTIONS)
    return estimate_experiment_effects(logged, actions=ACTIONS)


def test_constant_propensities_give_the_difference_of_means():
    rows, _ = make_rows(7)
    effects = _estimate(rows)
    for outcome in ("value", "cost", "spend"):
        means = dict(rows.group_by("action_id").agg(pl.col(outcome).mean()).iter_rows())
        ours = effects.filter(
            (pl.col("action_id") == "email_coupon_2") & (pl.col("outcome") == outcome)
        )["effect"].item()
        assert ours == pytest.approx(means["email_coupon_2"] - means["no_offer"], abs=1e-9)


def test_what_an_offer_does_to_those_it_reaches_stands_beside_what_assigning_it_does():
    rows, _ = make_rows(8)
    assert _estimate(rows)["complier_effect"].null_count() == _estimate(rows).height
    is_lost = np.random.default_rng(1).random(rows.height) < 0.25
    realised = pl.when(pl.Series(is_lost)).then(pl.lit("no_offer")).otherwise("action_id")
    delivered = rows.with_columns(realised.alias("realised_action_id"))
    row = (
        _estimate(delivered)
        .filter((pl.col("action_id") == OFFER) & (pl.col("outcome") == "value"))
        .row(0, named=True)
    )
    share = 1 - is_lost[(rows["action_id"] == OFFER).to_numpy()].mean()
    assert row["complier_effect"] == pytest.approx(row["effect"] / share, rel=1e-9)
    assert row["complier_low"] < row["complier_effect"] < row["complier_high"]
    nothing = rows.with_columns(realised_action_id=pl.lit("no_offer"))
    assert _estimate(nothing)["complier_effect"].null_count() == _estimate(nothing).height
