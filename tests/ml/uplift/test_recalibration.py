"""Recalibration: what drifted is followed, what did not is left, and nothing is refitted."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.errors import ContractError, SupportError
from ml.pipeline.recalibrate import recalibrate_policy
from ml.pipeline.snapshots import take_snapshot
from ml.uplift.calibration import calibrate_effects
from ml.uplift.recalibration import MINIMUM_ROWS

NAME = "email_coupon_2"
COLUMN = ACTIONS.action_ids.index(NAME)


def _recent(seed=7, *, change=lambda rows: rows, **truth):
    """Return a later log and what moves the effect, of the rows that take part."""
    rows, z = make_rows(seed, **truth)
    snapshot = take_snapshot(change(rows), programme=PROGRAMME, actions=ACTIONS)
    ids = snapshot.everything.contexts.frame["customer_id"]
    return snapshot, z[ids.str.slice(1).cast(pl.Int64).to_numpy()]


def _effects(policy, snapshot, outcome):
    contexts = snapshot.everything.contexts
    lifecycle = contexts.frame["lifecycle"].to_numpy()
    heads = policy.scorer.heads
    return heads.predict_outcome(outcome, contexts.context, lifecycle).mean[:, COLUMN]


def _slope(effect, z):
    return float(np.polyfit(z, effect, 1)[0])


def test_a_log_without_drift_harms_next_to_nothing(candidate):
    recent, z = _recent()
    after = recalibrate_policy(candidate, recent, programme=PROGRAMME)
    for outcome, truth, unit in (("value", 0.5 + z, 1.0), ("cost", np.full(len(z), 0.3), 0.3)):
        old, new = (
            np.sqrt(np.mean((_effects(each, recent, outcome) - truth) ** 2))
            for each in (candidate, after)
        )
        assert new < old + 0.05 * unit


@pytest.mark.parametrize("slope", [0.4, -1.0])
def test_a_slope_that_fell_is_followed_as_far_as_zero(candidate, slope):
    recent, z = _recent(slope=slope)
    after = recalibrate_policy(candidate, recent, programme=PROGRAMME)
    before = _slope(_effects(candidate, recent, "value"), z)
    assert before > 0.75
    assert _slope(_effects(after, recent, "value"), z) == pytest.approx(max(slope, 0), abs=0.1)


def test_means_follow_what_is_proven_and_the_cut_is_solved_anew(candidate):
    doubled = {"change": lambda rows: rows.with_columns(pl.col("cost") * 2)}
    recent, _ = _recent(mean_effect=1.5, **doubled)
    after = recalibrate_policy(candidate, recent, programme=PROGRAMME)
    assert _effects(after, recent, "value").mean() == pytest.approx(1.5, abs=0.1)
    assert _effects(after, recent, "cost").mean() == pytest.approx(0.6, abs=0.01)
    assert after.cut != candidate.cut
    head = after.scorer.heads.heads[0]
    assert head.outcomes["value"].effect[COLUMN] == pytest.approx(1.5, abs=0.25)


def test_trees_support_and_abstention_stay(candidate):
    recent, _ = _recent(mean_effect=1.5)
    after = recalibrate_policy(candidate, recent, programme=PROGRAMME)
    old, new = candidate.scorer.heads, after.scorer.heads
    assert new.ensembles is old.ensembles
    for was, now in zip(old.heads, new.heads, strict=True):
        assert now.refusals == was.refusals
        for outcome in ("value", "cost"):
            pairs = zip(
                was.outcomes[outcome].calibrations, now.outcomes[outcome].calibrations, strict=True
            )
            assert all(each.slope == 0 for one, each in pairs if one.slope == 0)


def test_an_offer_that_was_hardly_taken_keeps_its_mean(candidate):
    def thin(rows):
        """Leave twenty decisions that took the offer, and let those be worth a fortune."""
        taken = rows.filter(action_id=NAME).head(20).with_columns(value=pl.lit(500.0))
        assert taken.height < MINIMUM_ROWS
        return pl.concat([rows.filter(pl.col("action_id") != NAME), taken])

    recent, _ = _recent(change=thin)
    after = recalibrate_policy(candidate, recent, programme=PROGRAMME)
    old, new = (_effects(each, recent, "value") for each in (candidate, after))
    assert new.mean() == pytest.approx(old.mean(), abs=0.1)


def test_a_lifecycle_without_recent_decisions_is_left_as_it_was(candidate):
    recent, _ = _recent(mean_effect=3.0, change=lambda rows: rows.filter(lifecycle="activation"))
    after = recalibrate_policy(candidate, recent, programme=PROGRAMME)
    pairs = zip(candidate.scorer.heads.heads, after.scorer.heads.heads, strict=True)
    left = [was.outcomes == now.outcomes for was, now in pairs if was.lifecycle != "activation"]
    assert left
    assert all(left)


def test_the_slope_moves_from_its_prior_by_its_signal_to_noise():
    """Against the formula written out: p + (b - p) (1 - se^2 / (b - p)^2)_+."""
    random = np.random.default_rng(3)
    n = 4_000
    tau = np.column_stack([np.zeros(n), random.normal(size=n)])
    pseudo = np.column_stack([np.zeros(n), 0.8 * tau[:, 1] + random.normal(0, 6, n)])
    score, outcome = (each - each.mean() for each in (tau[:, 1], pseudo[:, 1]))
    raw = score @ outcome / (score @ score)
    variance = ((score * (outcome - raw * score)) ** 2).sum() / (score @ score) ** 2
    for prior in (0.0, 1.0):
        expected = prior + (raw - prior) * max(0.0, 1 - variance / (raw - prior) ** 2)
        found = calibrate_effects(
            pseudo,
            tau,
            np.ones((n, 2), dtype=bool),
            families=("none", "coupon"),
            lifecycle=np.full(n, "activation"),
            customer=np.arange(n),
            shrinks_means=True,
            prior_slope=prior,
        )
        assert found["activation"][1].slope == pytest.approx(expected)


def test_what_cannot_be_recalibrated_says_why(candidate, rule):
    recent, _ = _recent(n=600)
    with pytest.raises(ContractError, match="no heads to recalibrate"):
        recalibrate_policy(rule, recent, programme=PROGRAMME)
    nobody = replace(recent, training=recent.training.take(np.array([], dtype=int)))
    with pytest.raises(SupportError, match="has matured since"):
        recalibrate_policy(candidate, nobody, programme=PROGRAMME)
    fewer = replace(
        recent,
        training=replace(recent.training, logging_policy=recent.training.logging_policy[:, :-1]),
    )
    with pytest.raises(ContractError, match="fitted on"):
        recalibrate_policy(candidate, fewer, programme=PROGRAMME)
