"""An agent from logged weeks in which a deep coupon pays a week later alone."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.control.agent import FROM_LOGS
from ml.core.errors import ContractError, SupportError
from ml.pipeline.agent_policy import AgentScorer, fit_encoder
from ml.pipeline.decide import decide_night
from ml.pipeline.learn import fit_candidate, fit_lifecycle_rule
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.recalibrate import recalibrate_policy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.train_agent import fit_agent, list_transitions, value_journeys
from ml.pipeline.validate import SingleAction, count_sent, evaluate_candidate
from ml.plots.control import plot_journeys

DEEP = ACTIONS.action_ids.index("email_coupon_5")
LATER = 3.0
SETTINGS = replace(FROM_LOGS, n_members=2, n_updates=300, batch_size=2_048)


def make_weeks(n_weeks, *, n=6_000):
    """A log of some weeks of the same customers; what email_coupon_5 brings comes a week later.

    The accounting horizon covers both weeks.
    """
    frames, was_deep = [], np.zeros(n, dtype=bool)
    for week in range(n_weeks):
        rows, _ = make_rows(100 + week, n=n, slope=0.0, mean_effect=0.2)
        day = date(2026, 2, 1) + timedelta(days=7 * week)
        frames.append(
            rows.with_columns(
                pl.lit(day).alias("decision_date"),
                (f"{week}:" + pl.col("customer_id")).alias("decision_id"),
                pl.Series("redemptions_28d", was_deep.astype(np.int64)),
                pl.col("value") + pl.Series(LATER * was_deep),
            )
        )
        was_deep = (rows["action_id"] == "email_coupon_5").to_numpy()
    by_customer = {"partition_by": "customer_id", "order_by": "decision_date"}
    following = pl.col("value").shift(-1).over(**by_customer)
    return pl.concat(frames).with_columns(
        (pl.col("value") + following.fill_null(0)).alias("accounting_value"),
        pl.col("cost").alias("accounting_cost"),
        following.is_not_null().alias("is_accounting_matured"),
    )


@pytest.fixture(scope="module")
def rows():
    return make_weeks(5)


@pytest.fixture(scope="module")
def weeks(rows):
    return take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS)


@pytest.fixture(scope="module")
def base(weeks):
    return fit_candidate(weeks, programme=PROGRAMME, actions=ACTIONS)


@pytest.fixture(scope="module")
def agent(weeks, base):
    return fit_agent(weeks, base, programme=PROGRAMME, settings=SETTINGS)


def test_steps_are_the_decisions_that_another_follows_after_the_horizon(rows):
    random = np.random.default_rng(3)
    some = rows.filter(pl.Series(random.random(rows.height) < 0.7)).sample(fraction=1, seed=2)
    logged = take_snapshot(some, programme=PROGRAMME, actions=ACTIONS).training
    state = np.arange(logged.n_decisions, dtype=float)[:, None]
    steps, now, then = list_transitions(logged, state, horizon_days=7)
    days = logged.contexts.frame["decision_date"].to_list()
    place = {(c, d): row for row, (c, d) in enumerate(zip(logged.customer, days, strict=True))}
    week = timedelta(days=7)
    expected = {
        (row, place[c, d + week]) for (c, d), row in place.items() if (c, d + week) in place
    }
    assert set(zip(now.tolist(), then.tolist(), strict=True)) == expected
    assert 0 < len(expected) < logged.n_decisions
    assert (steps.state[:, 0] == now).all()
    assert (steps.next_state[:, 0] == then).all()
    assert (steps.reward == logged.net_value[now]).all()
    assert (steps.cost == logged.cost[now]).all()
    first = {}
    for row in np.lexsort((np.array(days), logged.customer)):
        if row in set(now.tolist()):
            first.setdefault(logged.customer[row], days[row])
    weeks_since = [(days[row] - first[logged.customer[row]]).days // 7 for row in now]
    assert steps.step.tolist() == weeks_since


def test_the_agent_sends_what_pays_later_where_its_base_does_not(weeks, base, agent):
    contexts = weeks.evaluation.contexts
    own, of_base = agent.probabilities(contexts), base.probabilities(contexts)
    assert own[:, DEEP].mean() > 0.1
    assert of_base[:, DEEP].mean() < 0.05
    assert np.allclose(own.sum(axis=1), 1)
    scores = agent.scorer.score(contexts)
    spent = (own * scores.cost_effect).sum() / len(own)
    assert spent == pytest.approx(PROGRAMME.budget_per_decision, rel=0.1)


def _judge(weeks, agent, base, programme):
    evaluation = evaluate_candidate(
        weeks,
        candidate=agent,
        champion=base,
        programme=programme,
        candidate_version="2",
        champion_version="1",
        candidate_hash="abc",
        training_date=date(2026, 3, 9),
        gate_number=1,
        is_randomisation_sound=True,
    )
    return evaluation.record.row(0, named=True)


def test_the_gate_lets_the_agent_pass_where_what_comes_later_counts(weeks, base, agent):
    by_week = _judge(weeks, agent, base, PROGRAMME)
    assert not by_week["is_passed"]
    assert by_week["difference_high"] < 0
    counting = _judge(weeks, agent, base, replace(PROGRAMME, later_value_weight=1.0))
    assert counting["is_passed"], counting["reasons"]
    # A third of the customers get a coupon that costs 1 and brings 3.
    assert 0.3 < counting["net_value_difference"] < 0.9


def test_the_agent_decides_a_night_within_the_budget(rows, agent):
    night_of = date(2026, 3, 8)
    features = rows.filter(pl.col("decision_date") == rows["decision_date"].max()).with_columns(
        pl.lit(night_of).alias("decision_date")
    )
    night = decide_night(
        features,
        policy=agent,
        policy_version="2",
        catalogue=ACTIONS,
        programme=PROGRAMME,
        decision_date=night_of,
    )
    sent = night.assignments["action_id"].value_counts(normalize=True)
    assert dict(sent.iter_rows())["email_coupon_5"] > 0.1
    assert 0.8 * night.budget < night.expected_cost <= night.budget


def test_journeys_value_what_comes_later(weeks, base, agent):
    policies = {
        "agent": agent,
        "base": base,
        "no_offer": SingleAction(0),
        "deep": SingleAction(DEEP),
    }
    found = value_journeys(weeks, policies, agent=agent, horizon_days=7)
    value = dict(found.select("policy", "fitted").iter_rows())
    assert value["deep"] > value["agent"] > value["base"]
    # A coupon a week costs 1 and brings 3 in the week after, for ever.
    discount = SETTINGS.discount
    gain = (discount * LATER - 1) / (1 - discount)
    assert value["deep"] - value["no_offer"] == pytest.approx(gain, rel=0.25)
    robust = found.drop_nulls("robust")
    assert {"agent", "base"} <= set(robust["policy"])
    assert (robust["robust_low"] < robust["robust_high"]).all()
    assert (robust["n_decisions"] <= 3).all()
    sent = count_sent(weeks.evaluation, policies)
    assert sent["lifecycle"].to_list() == ["activation", "habituation", "resurrection"]
    assert sent["no_offer"].to_list() == [0, 0, 0]


def test_a_log_that_never_took_a_kind_of_offer_values_nothing_and_says_so(rows, agent):
    never = rows.filter(pl.col("action_id") != "no_offer")
    some = take_snapshot(never, programme=PROGRAMME, actions=ACTIONS)
    found = value_journeys(some, {"no_offer": SingleAction(0)}, agent=agent, horizon_days=7)
    assert found["fitted"].to_list() == [None]
    assert "takes actions [0], which the log holds less than 10 times" in found["refusal"][0]


def test_files_give_the_same_agent_back(weeks, agent, tmp_path):
    first = save_policy(agent, tmp_path / "a")
    back = load_policy(tmp_path / "a")
    assert isinstance(back.scorer, AgentScorer)
    contexts = weeks.evaluation.contexts
    assert (back.probabilities(contexts) == agent.probabilities(contexts)).all()
    assert save_policy(back, tmp_path / "b") == first
    assert not list(tmp_path.rglob("*.pkl"))


def test_recalibration_keeps_the_agent_and_mends_what_it_stands_on(weeks, rows, agent):
    dearer = rows.with_columns(pl.col("cost") * 2)
    recent = take_snapshot(dearer, programme=PROGRAMME, actions=ACTIONS)
    mended = recalibrate_policy(agent, recent, programme=PROGRAMME)
    assert mended.kind == "agent"
    assert mended.scorer.agent is agent.scorer.agent
    contexts = weeks.evaluation.contexts
    before, after = (
        each.scorer.score(contexts).cost_effect[:, DEEP].mean() for each in (agent, mended)
    )
    assert after == pytest.approx(2 * before, rel=0.1)


def test_an_agent_needs_heads_and_weeks_and_the_features_that_it_learned_on(weeks, base, agent):
    rule = fit_lifecycle_rule(weeks, programme=PROGRAMME, actions=ACTIONS)
    with pytest.raises(ContractError, match="no heads to stand on"):
        fit_agent(weeks, rule, programme=PROGRAMME)
    days = weeks.training.contexts.frame["decision_date"]
    once = replace(weeks, training=weeks.training.take((days == days.min()).to_numpy()))
    with pytest.raises(SupportError, match="0 decisions of training customers are followed"):
        fit_agent(once, base, programme=PROGRAMME)
    fewer = replace(
        weeks.evaluation.contexts, feature_names=weeks.evaluation.contexts.feature_names[1:]
    )
    with pytest.raises(ContractError, match="trained on other features"):
        agent.scorer.encoder.encode(fewer)


def test_what_is_unknown_is_filled_and_marked(weeks):
    contexts = weeks.training.contexts
    context = contexts.context.copy()
    context[::2, 1] = np.nan
    unknown = np.isnan(context).any(axis=0)
    assert unknown[:2].tolist() == [False, True]
    encoder = fit_encoder(replace(contexts, context=context))
    state = encoder.encode(replace(contexts, context=context))
    assert state.shape == (contexts.n_customers, context.shape[1] + unknown.sum())
    mark = context.shape[1]
    assert (state[::2, mark] == 1).all()
    assert (state[1::2, mark] == 0).all()
    assert state[0, 1] == pytest.approx(np.log1p(np.nanmedian(context[:, 1])))
    # Known everywhere later: the mark stays, at 0.
    assert encoder.encode(contexts)[:, mark].max() == 0


def test_journeys_are_drawn_with_intervals_or_said_to_be_refused(weeks, base, agent):
    found = value_journeys(weeks, {"agent": agent, "champion": base}, agent=agent, horizon_days=7)
    (axes,) = plot_journeys(found, currency="EUR").axes
    assert [each.get_text() for each in axes.get_yticklabels()] == ["agent", "champion"]
    assert "EUR per customer" in axes.get_xlabel()
    refused = found.with_columns(pl.lit(None, dtype=pl.Float64).alias("fitted"))
    assert not plot_journeys(refused, currency="EUR").axes
