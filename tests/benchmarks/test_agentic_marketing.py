"""The document's reward, as it is written; the bakery's policies and the study's figures."""

import numpy as np
import polars as pl
import pytest

from benchmarks.studies.agentic_marketing.bakery import BUDGET, make_bakery, run_bakery, run_size
from benchmarks.studies.agentic_marketing.policies import (
    choose_at_random,
    choose_by_experiment,
    rank_inactive,
)
from benchmarks.studies.agentic_marketing.ranking import run_ranking
from benchmarks.studies.agentic_marketing.reporting import (
    report_bakery,
    report_ranking,
    report_sizes,
)
from benchmarks.studies.agentic_marketing.reward import (
    BONUS,
    PaperReward,
    TicketReward,
    fit_action_models,
)
from ml.core.journeys import Situation, choose_evenly, live_journeys
from ml.simulate.journeys import FEATURES
from ml.simulate.loyalty import GOLD, Loyalty
from ml.simulate.worlds import BAKERY


@pytest.fixture(scope="module")
def uplift():
    log = live_journeys(TicketReward(Loyalty()), choose_evenly, seed=1)
    return fit_action_models(log, log.reward)


def test_the_t_learner_finds_who_reacts(uplift):
    programme = Loyalty()
    state = programme.begin(8).state
    planted = programme.purchase_probability(np.full(500, 3)) - programme.purchase_probability(
        np.zeros(500, dtype=int)
    )
    assert np.corrcoef(planted, uplift.predict(state)[:, 3])[0, 1] > 0.5
    assert (uplift.predict(state)[:, 0] == 0).all()


def test_uplift_is_paid_on_top_of_the_ticket_and_gold_is_paid_for_staying(uplift):
    weight = np.array([0.5, 1.0, 1.5])
    paid = PaperReward(Loyalty(), uplift, weight)
    now = paid.begin(5)
    action = np.full(500, 6)
    added = uplift.predict(now.state)[:, 6]
    came = paid.step(action)
    facts = paid.inner.facts
    expected = facts.ticket + facts.buys * np.maximum(added, 0) * weight[1]
    expected += BONUS * (facts.next_tier > facts.tier)
    expected += BONUS * ((facts.tier == GOLD) & (facts.next_tier == GOLD))
    expected -= BONUS * (facts.next_tier < facts.tier)
    np.testing.assert_allclose(came.reward, expected)
    # The defect: who stays gold is paid the same whatever was sent, and messages cost nothing.
    stays = (facts.tier == GOLD) & (facts.next_tier == GOLD) & ~facts.buys
    assert set(came.reward[stays]) == {BONUS}


@pytest.fixture(scope="module")
def bakery_log():
    return live_journeys(make_bakery(3, 1_000, n_steps=4), choose_by_experiment, seed=1)


def test_the_experiment_hardly_writes_to_a_fifth_and_nearly_always_to_another(bakery_log):
    log = bakery_log
    reachable = log.eligible[:, 1:].any(axis=1)
    group = log.customer % 5
    sent = np.array([(log.action > 0)[reachable & (group == each)].mean() for each in range(5)])
    np.testing.assert_allclose(sent, [0.02, 0.25, 0.5, 0.75, 0.98], atol=0.05)
    assert (log.action[~reachable] == 0).all()
    assert log.eligible[np.arange(log.n_steps), log.action].all()
    assert (log.propensity > 0).all()


def test_chance_within_a_budget_costs_the_budget(bakery_log):
    costs = fit_action_models(bakery_log, bakery_log.cost)
    now = Situation(bakery_log.state, bakery_log.eligible)
    policy = choose_at_random(now, costs=costs, budget=0.3)
    np.testing.assert_allclose(policy.sum(axis=1), 1)
    spent = (policy * np.maximum(costs.value(now.state), 0)).sum(axis=1).mean()
    assert spent == pytest.approx(0.3, rel=1e-6)


def test_the_lifecycle_rule_means_the_strongest_coupon_after_four_weeks(bakery_log):
    value = rank_inactive(bakery_log.state)
    face = np.array([offer.face_value for offer in BAKERY.ordered_offers])
    waited = bakery_log.state[:, FEATURES.index("weeks_since_purchase")] >= 4
    assert (value[waited][:, face == 5.0] >= 4).all()
    assert (value[~waited] <= 0).all()
    assert (value[:, face < 5.0] <= 0).all()


def test_gains_are_over_the_best_rival_with_a_bound_over_worlds():
    rows = []
    for world, seed in ((11, 1), (11, 2), (12, 1), (12, 2)):
        for policy, margin in (
            ("never_send", 90.0),
            ("random", 95.0),
            ("lifecycle_rule", 96.0),
            ("myopic_t_learner", 97.0 + seed),
            ("myopic_network", 97.0),
            ("ours", 100.0 + world + seed),
            ("paper", 80.0),
            ("paper_within_budget", 85.0),
        ):
            figures = {
                "net_margin": margin,
                "opt_outs": 0.1 if policy == "ours" else 0.4,
                "messages_to_gold": {"ours": 1.0, "paper": 4.0}.get(policy, 2.0),
                "cost_per_decision": 0.3,
                "messages": 5.0,
                "gold_share": 0.3,
                "messages_per_gold_week": 0.3,
            }
            rows += [(100 * world + seed, policy, *each) for each in figures.items()]
    lived = pl.DataFrame(rows, schema=["seed", "policy", "figure", "value"], orient="row")
    found = report_bakery(lived)
    # Over the T-learner, 14 in world 11 and 15 in world 12: a t interval of two means.
    assert found["margin_vs_best"] == pytest.approx(14.5)
    assert found["margin_vs_best_low"] == pytest.approx(14.5 - 12.7062 * 0.5, rel=1e-4)
    assert found["messages_to_gold_ratio"] == pytest.approx(0.25)
    assert found["messages_to_gold_ratio_within_budget"] == pytest.approx(0.5)
    assert found["opt_out_ratio"] == pytest.approx(0.25)


@pytest.mark.slow
def test_every_part_of_the_bakery_runs_small():
    lived = run_bakery(901, is_quick=True)
    assert set(lived["policy"]) >= {"ours", "paper", "paper_within_budget", "myopic_network"}
    found = report_bakery(lived)
    assert np.isfinite(found["margin_vs_best"])
    spent = lived.filter((pl.col("policy") == "ours") & (pl.col("figure") == "cost_per_decision"))
    assert 0 < spent["value"].item() < 2 * BUDGET
    report_sizes(run_size(901, n_logged=800, is_quick=True))


@pytest.mark.slow
def test_rankings_are_reported_with_what_weights_refuse():
    found = report_ranking(run_ranking(901, is_quick=True))
    assert -1 <= found["ope_spearman"] <= 1
