from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, EVENLY, PROGRAMME

from ml.core.errors import BudgetError, ContractError
from ml.core.hashing import hash_folder
from ml.pipeline.learn import describe_heads, fit_lifecycle_rule
from ml.pipeline.policies import ExplorationOnly
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.spending import spend

COUPON = ACTIONS.action_ids.index("email_coupon_2")
REACTIVATION = ACTIONS.action_ids.index(PROGRAMME.reactivation_action)


def test_policies_are_distributions_with_a_floor(snapshot, candidate, rule):
    for policy in (candidate, rule):
        probabilities = policy.probabilities(snapshot.evaluation.contexts)
        eligible = snapshot.evaluation.contexts.eligible
        assert probabilities.sum(axis=1) == pytest.approx(1)
        assert (probabilities[~eligible] == 0).all()
        assert probabilities[eligible].min() >= PROGRAMME.propensity_floor - 1e-12


def test_expected_cost_stays_within_the_budget(snapshot, candidate):
    contexts = snapshot.training.contexts
    scores = candidate.scorer.score(contexts)
    spent = (candidate.mix(scores, contexts) * scores.cost_effect).sum()
    assert spent <= PROGRAMME.budget_per_decision * contexts.n_customers


def test_many_nights_together_hold_back_what_single_nights_would(snapshot, candidate):
    contexts = snapshot.training.contexts
    scores, n = candidate.scorer.score(contexts), contexts.n_customers
    shared = {"actions": ACTIONS, "budget": 0.08 * n, "is_solved_on": np.ones(n, dtype=bool)}
    together = spend(candidate, scores, contexts, **shared)
    nights = spend(candidate, scores, contexts, **shared, typical_night=(100, 70))
    spent = [
        float((each.mix(scores, contexts) * scores.cost_effect).sum())
        for each in (together, nights)
    ]
    assert spent[1] < 0.95 * spent[0] <= 0.08 * n


def test_a_decision_without_chance_is_neither_learned_from_nor_valued(snapshot):
    rows = snapshot.everything.contexts.frame
    sure = pl.arange(pl.len()) % 3 == 0
    targeted = rows.with_columns(
        propensity=pl.when(sure).then(1.0).otherwise("propensity"),
        eligible_propensities=pl.when(~sure).then("eligible_propensities"),
    )
    taken = take_snapshot(targeted, programme=PROGRAMME, actions=ACTIONS)
    expected = rows.filter(~sure)["decision_id"].sort()
    assert taken.everything.contexts.frame["decision_id"].equals(expected)


def test_the_candidate_offers_where_the_effect_is_largest(snapshot, candidate):
    contexts = snapshot.evaluation.contexts
    age = contexts.context[:, contexts.feature_names.index("age")]
    offered = candidate.probabilities(contexts)[:, COUPON] > 0.5
    assert age[offered].mean() > age[~offered].mean() + 15


def test_the_rule_reaches_the_longest_inactive_first(snapshot, rule):
    patient = replace(rule, scorer=replace(rule.scorer, inactivity_days=5))
    contexts = snapshot.training.contexts
    scores = patient.scorer.score(contexts)
    n = contexts.n_customers
    spent = spend(
        patient,
        scores,
        contexts,
        actions=ACTIONS,
        budget=0.2 * n,
        is_solved_on=np.ones(n, dtype=bool),
    )
    sent = replace(spent, floor=0.0).mix(scores, contexts)[:, REACTIVATION]
    days = contexts.frame["days_since_purchase"].to_numpy()
    assert 0 < sent.mean() < 0.25
    assert days[sent > 0].min() >= days[sent == 0].max()


def test_a_saved_policy_is_the_same_policy(snapshot, candidate, rule, tmp_path):
    for policy in (candidate, rule):
        folder = tmp_path / policy.kind
        written = save_policy(policy, folder)
        loaded = load_policy(folder)
        contexts = snapshot.evaluation.contexts
        assert (loaded.probabilities(contexts) == policy.probabilities(contexts)).all()
        assert hash_folder(folder) == written
        (folder / "policy.json").write_text((folder / "policy.json").read_text() + " ")
        assert hash_folder(folder) != written


def test_exploration_beyond_the_budget_is_refused(snapshot, candidate):
    contexts = snapshot.training.contexts
    scores = candidate.scorer.score(contexts)
    solved = np.ones(contexts.n_customers, dtype=bool)
    with pytest.raises(BudgetError, match="exploration at propensity_floor"):
        spend(candidate, scores, contexts, actions=ACTIONS, budget=1.0, is_solved_on=solved)


def test_exploration_only_keeps_budget_and_floor(snapshot):
    contexts = snapshot.training.contexts
    policy = ExplorationOnly(ACTIONS, 0.02, 0.6, EVENLY)
    probabilities = policy.probabilities(contexts)
    most = ACTIONS.face_values + ACTIONS.message_costs
    assert (probabilities * most).sum() <= 0.6 * contexts.n_customers + 1e-6
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert probabilities[contexts.eligible].min() >= 0.02
    with pytest.raises(BudgetError, match="can't pay for exploration"):
        replace(policy, budget_per_decision=0.001).probabilities(contexts)


def test_heads_are_described_and_a_rule_has_none(candidate, rule):
    table = describe_heads(candidate)
    assert set(table["lifecycle"]) == {"activation", "habituation", "resurrection"}
    assert table.filter(table["action_id"] == "push_ad")["is_supported"].to_list() == [False] * 3
    with pytest.raises(ContractError, match="no heads"):
        describe_heads(rule)


def test_training_refuses_a_wrong_evaluation_mark_and_an_unknown_offer(snapshot):
    rows = snapshot.everything.contexts.frame
    with pytest.raises(ContractError, match="evaluation mark"):
        take_snapshot(
            rows.with_columns(is_evaluation=~rows["is_evaluation"]),
            programme=PROGRAMME,
            actions=ACTIONS,
        )
    with pytest.raises(ContractError, match="reactivation_action"):
        fit_lifecycle_rule(
            snapshot, programme=replace(PROGRAMME, reactivation_action="x"), actions=ACTIONS
        )


def test_training_and_evaluation_share_no_customer(snapshot):
    training = set(snapshot.training.contexts.frame["customer_id"])
    evaluation = set(snapshot.evaluation.contexts.frame["customer_id"])
    assert training
    assert evaluation
    assert not training & evaluation
