from dataclasses import replace
from datetime import date

import polars as pl
import pytest
from known_log import CONFIG, PROGRAMME, make_rows

from ml.core.actions import read_actions
from ml.core.errors import ContractError, PromotionError
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policies import AlignedPolicy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.validate import evaluate_candidate, hash_programme, verify_promotion

T = date(2026, 3, 1)
NAMES = {
    "candidate_version": "2",
    "champion_version": "1",
    "candidate_hash": "abc",
    "training_date": T,
    "gate_number": 1,
}


@pytest.fixture(scope="module")
def evaluation(snapshot, candidate, rule):
    return evaluate_candidate(
        snapshot,
        candidate=candidate,
        champion=rule,
        programme=PROGRAMME,
        is_randomisation_sound=True,
        **NAMES,
    )


def _verify(record, **changes):
    arguments = {
        "candidate_version": "2",
        "candidate_hash": "abc",
        "champion_version": "1",
        "programme": PROGRAMME,
        "today": T,
        **changes,
    }
    verify_promotion(record, **arguments)


def test_a_better_candidate_is_proven_and_may_be_promoted(evaluation):
    row = evaluation.record.row(0, named=True)
    assert row["is_passed"], row["reasons"]
    assert row["difference_low"] > 0
    _verify(evaluation.record)


def test_values_agree_between_estimators_and_with_the_truth(evaluation):
    values = evaluation.policy_values.filter(
        (pl.col("policy") == "all_email_coupon_2") & (pl.col("reward") == "value")
    )
    assert values.height == 4
    for row in values.iter_rows(named=True):
        assert row["incremental_low"] - 0.05 <= 0.5 <= row["incremental_high"] + 0.05
    nobody = evaluation.policy_values.filter(pl.col("policy") == "no_offer")
    assert nobody["incremental_value"].to_list() == [0.0] * 12
    assert nobody.filter(pl.col("reward") == "cost")["policy_value"].to_list() == [0.0] * 4


def test_the_tuned_estimate_adds_up_and_its_interval_holds_dr(evaluation):
    values = evaluation.policy_values
    tuned = values.filter(policy="candidate", estimator="tuned")
    assert tuned["method"].n_unique() == 1
    money = dict(tuned.select("reward", "policy_value").iter_rows())
    assert money["value"] - money["cost"] == pytest.approx(money["net_value"])
    plain = values.filter(policy="candidate", estimator="dr", reward="net_value").row(0, named=True)
    own = tuned.filter(reward="net_value").row(0, named=True)
    assert own["incremental_low"] <= plain["incremental_value"] <= own["incremental_high"]
    assert set(values.filter(estimator="tuned")["policy"]) == {"candidate", "champion"}


def test_the_same_policy_is_never_proven_better_than_itself(snapshot, candidate):
    same = evaluate_candidate(
        snapshot,
        candidate=candidate,
        champion=candidate,
        programme=PROGRAMME,
        is_randomisation_sound=True,
        **NAMES,
    )
    row = same.record.row(0, named=True)
    assert not row["is_passed"]
    assert row["net_value_difference"] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidate_version": "3"}, "candidate_version"),
        ({"candidate_hash": "other"}, "candidate_hash"),
        ({"champion_version": "9"}, "champion_version"),
        ({"programme": replace(PROGRAMME, margin=0.9)}, "programme_hash"),
        ({"today": date(2026, 3, 20)}, "days old"),
        ({"today": date(2026, 2, 20)}, "days old"),
    ],
)
def test_evidence_about_something_else_promotes_nothing(evaluation, changes, reason):
    with pytest.raises(PromotionError, match=reason):
        _verify(evaluation.record, **changes)


def test_a_failed_gate_promotes_nothing(evaluation):
    failed = evaluation.record.with_columns(
        is_passed=pl.lit(False), reasons=pl.lit(["not proven: x"])
    )
    with pytest.raises(PromotionError, match="not proven"):
        _verify(failed)
    silent = evaluation.record.with_columns(is_passed=pl.lit(False))
    with pytest.raises(PromotionError, match="gate failed"):
        _verify(silent)


def test_programme_hash_sees_money():
    assert hash_programme(PROGRAMME) != hash_programme(replace(PROGRAMME, margin=0.9))


def test_an_offer_that_the_champion_does_not_know_stops_no_evaluation(rule):
    """The catalogue gained an offer: the new candidate has it, the old champion gives it 0."""
    offers = CONFIG.offers_frame()
    new = offers.filter(pl.col("action_id") == "email_coupon_2").with_columns(
        action_id=pl.lit("aaa_new")
    )
    wider = read_actions(pl.concat([offers, new]))
    grown = take_snapshot(make_rows(1)[0], programme=PROGRAMME, actions=wider)
    fresh = fit_candidate(grown, programme=PROGRAMME, actions=wider)
    evaluation = evaluate_candidate(
        grown,
        candidate=fresh,
        champion=rule,
        programme=PROGRAMME,
        is_randomisation_sound=True,
        **NAMES,
    )
    assert evaluation.record["is_passed"].item()
    contexts = grown.evaluation.contexts
    seen = AlignedPolicy(rule, wider, PROGRAMME).probabilities(contexts)
    assert seen.sum(axis=1) == pytest.approx(1)
    assert (seen[:, wider.action_ids.index("aaa_new")] == 0).all()
    with pytest.raises(ContractError, match="lacks"):
        AlignedPolicy(fresh, rule.actions, PROGRAMME).probabilities(contexts)
