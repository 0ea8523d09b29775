"""Fitted propensities against the ones that drew the log."""

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
from good_rows import AT, GOOD
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.contract.screening import NOTHING_KNOWN, screen_table
from ml.contract.tables import choose_contract
from ml.core.errors import SupportError
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policies import UpliftScorer
from ml.pipeline.snapshots import take_snapshot
from ml.uplift.fitting import LearningSettings
from ml.uplift.propensity import fit_propensities

FITTING = replace(PROGRAMME, fits_propensities=True)
COUPON = ACTIONS.action_ids.index("email_coupon_2")


def _draw(seed, *, n=10_000, skew=1.0):
    random = np.random.default_rng(seed)
    context = random.normal(size=(n, 4))
    logits = np.column_stack([np.zeros(n), skew * context[:, 0], 0.5 * skew * context[:, 1]])
    eligible = np.ones((n, 3), dtype=bool)
    eligible[: n // 4, 2] = False
    weight = np.exp(logits) * eligible
    policy = weight / weight.sum(axis=1, keepdims=True)
    action = (random.random((n, 1)) > policy.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return context, action, eligible, policy


def _make_observational(seed, **keywords):
    """A log as drawn, and the same without its propensities."""
    rows, z = make_rows(seed, **keywords)
    unknown = rows.with_columns(
        pl.lit(None, dtype=pl.Float64).alias("propensity"),
        pl.lit(None, dtype=rows.schema["eligible_propensities"]).alias("eligible_propensities"),
    )
    return rows, unknown, z


def test_the_drawing_policy_is_recovered_and_calibrated():
    context, action, eligible, policy = _draw(1)
    fitted = fit_propensities(context, action, eligible, np.arange(len(action)), seed=1)
    assert fitted.policy.sum(axis=1) == pytest.approx(np.ones(len(action)))
    assert (fitted.policy[~eligible] == 0).all()
    assert fitted.policy[eligible].min() > 0.009
    assert np.abs(fitted.policy - policy).mean() < 0.05
    assert fitted.log_loss < fitted.constant_log_loss - 0.02
    # Calibrated: by tenth of the fitted propensity, the share taken is the one stated.
    order = np.argsort(fitted.policy[:, 1])
    for rows in np.array_split(order, 10):
        stated = fitted.policy[rows, 1].mean()
        assert (action[rows] == 1).mean() == pytest.approx(stated, abs=0.05)


def test_where_chance_alone_chose_nothing_is_made_of_noise():
    context, action, eligible, policy = _draw(2, skew=0.0)
    fitted = fit_propensities(context, action, eligible, np.arange(len(action)), seed=1)
    assert np.abs(fitted.policy - policy).mean() < 0.03
    assert fitted.temperature >= 1


def test_a_log_without_propensities_is_left_out_unless_the_programme_has_them_fitted():
    _, unknown, _ = _make_observational(1, n=2_000)
    with pytest.raises(SupportError, match="2000 lack their propensity: set fits_propensities"):
        take_snapshot(unknown, programme=PROGRAMME, actions=ACTIONS)
    snapshot = take_snapshot(unknown, programme=FITTING, actions=ACTIONS)
    assert snapshot.n_fitted == snapshot.training.n_decisions > 0
    assert snapshot.evaluation.n_decisions == snapshot.everything.n_decisions == 0


def test_fitted_propensities_correct_what_the_features_tell():
    """The offer went to those who buy more anyway: a difference in means is off by 0.5 and more."""
    rows, unknown, z = _make_observational(4, n=20_000, slope=0.5, skew=1.2)
    naive = [
        rows.filter(pl.col("action_id") == name)["value"].mean()
        for name in ("email_coupon_2", "no_offer")
    ]
    snapshot = take_snapshot(unknown, programme=FITTING, actions=ACTIONS)
    candidate = fit_candidate(
        snapshot, programme=FITTING, actions=ACTIONS, settings=LearningSettings(n_members=2)
    )
    assert isinstance(candidate.scorer, UpliftScorer)
    effects = candidate.scorer.heads.predict(snapshot.training.contexts).value_effect[:, COUPON]
    truth = float((0.5 + 0.5 * z).mean())
    assert naive[0] - naive[1] > truth + 0.5
    assert effects.mean() == pytest.approx(truth, abs=0.2)


def test_an_empty_propensity_is_accepted_only_where_the_programme_says_so(tmp_path):
    file = tmp_path / "a.parquet"
    row = {
        **GOOD["assignments"],
        "decided_at": datetime.fromisoformat(AT),
        "propensity": None,
        "eligible_propensities": None,
    }
    types = {"propensity": pl.Float64, "eligible_propensities": pl.List(pl.Float64)}
    pl.DataFrame([row], schema_overrides=types).write_parquet(file)
    accepted = {}
    known = replace(
        NOTHING_KNOWN,
        customers=pl.DataFrame(
            {"customer_id": ["c1"], "signed_up_at": [datetime.fromisoformat(AT)]},
            schema=NOTHING_KNOWN.customers.schema,
        ),
        action_ids=pl.DataFrame({"action_id": ["none", "mail"]}),
    )
    for is_fitting in (False, True):
        screened = screen_table(
            "assignments",
            [file],
            known=known,
            night=date(2030, 1, 1),
            contract=choose_contract(fits_propensities=is_fitting),
        )
        accepted[is_fitting] = screened.accepted.height
    assert accepted == {False: 0, True: 1}
    assert "propensity: is empty" in str(screened.quarantined["reasons"].to_list()) or is_fitting


def test_a_past_in_which_everybody_got_the_same_supports_nothing():
    rows, unknown, _ = _make_observational(2, n=6_000)
    past = unknown.filter(pl.int_range(pl.len()) < 3_000).with_columns(
        pl.lit("no_offer").alias("action_id")
    )
    rows = pl.concat([past, rows.tail(3_000)])
    snapshot = take_snapshot(rows, programme=FITTING, actions=ACTIONS)
    alone = snapshot.training.logging_policy[:, 1:].sum(axis=1) == 0
    assert alone.sum() == snapshot.n_fitted > 0
    assert not snapshot.training.contexts.eligible[alone, 1:].any()
    # One night: those of evaluation customers without propensities were decided that night too.
    assert snapshot.n_per_night == rows.filter(~pl.col("is_holdout")).height
