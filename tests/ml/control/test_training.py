"""Agents against value iteration in a small programme, online and from a log."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_journey import Tiers
from oracles.tiers import N_TIERS, evaluate, iterate_values

from ml.control.agent import PAPER, AgentSettings, load_agent, save_agent
from ml.control.training import train_offline, train_online
from ml.core.errors import ContractError, ModelError
from ml.core.journeys import Situation, choose_evenly, live_journeys

DISCOUNT = 0.9
SMALL = AgentSettings(
    hidden=(32,),
    discount=DISCOUNT,
    learning_rate=2e-3,
    target_rate=0.02,
    n_updates=2_500,
    n_members=2,
    pessimism=0.0,
    buffer_size=40_000,
)
STATES = np.eye(N_TIERS, dtype=np.float32)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def log():
    return live_journeys(Tiers(4_000), choose_evenly, seed=3)


@pytest.fixture(scope="module")
def online():
    return train_online(Tiers(2_000), SMALL, updates_per_step=10)


def _greedy(agent):
    situation = Situation(STATES, np.ones((N_TIERS, 3), dtype=bool))
    return agent.choose(situation).argmax(axis=1)


def test_online_the_agents_policy_is_within_a_percent_of_value_iterations(online):
    best, actions = iterate_values(DISCOUNT)
    # Not everybody should be sent the same.
    assert len(set(actions)) > 1
    assert (evaluate(_greedy(online), DISCOUNT) >= 0.99 * best).all()
    assert np.abs(online.value(STATES).mean(axis=0).max(axis=1) / best - 1).max() < 0.06


def test_from_a_log_the_agents_policy_is_within_a_percent_too(log):
    best, _ = iterate_values(DISCOUNT)
    agent = train_offline(log, replace(SMALL, n_members=1))
    assert (evaluate(_greedy(agent), DISCOUNT) >= 0.99 * best).all()


@pytest.mark.slow
def test_the_papers_agent_finds_it_too():
    settings = replace(PAPER, discount=DISCOUNT, n_updates=3_000)
    agent = train_online(Tiers(), settings, updates_per_step=10)
    best, _ = iterate_values(DISCOUNT)
    assert (evaluate(_greedy(agent), DISCOUNT) >= 0.97 * best).all()


def test_what_is_not_eligible_is_neither_taken_nor_bootstrapped_on():
    agent = train_online(Tiers(2_000, closed=[2]), replace(SMALL, n_members=1), updates_per_step=10)
    situation = Situation(STATES, np.array([[True, True, False]] * N_TIERS))
    taken = agent.choose(situation).argmax(axis=1)
    assert (taken < 2).all()
    # Values are those of a programme without discounts, not of the best of all three actions.
    without = evaluate(taken, DISCOUNT)
    found = agent.value(STATES)[0][np.arange(N_TIERS), taken]
    best, _ = iterate_values(DISCOUNT)
    assert np.abs(found / without - 1).max() < 0.08
    assert without[0] < best[0] - 5


def test_a_log_that_never_held_an_action_is_conservative_about_it(log):
    held = log.take(log.action < 2)
    settings = replace(SMALL, n_members=1, n_updates=800)
    bold = train_offline(held, settings)
    cautious = train_offline(held, replace(settings, conservatism=1.0))
    assert (_greedy(cautious) < 2).all()
    gaps = []
    for agent in (bold, cautious):
        value = agent.value(STATES)[0]
        gaps.append((value[:, 2] - value[:, :2].max(axis=1)).mean())
    assert gaps[1] < gaps[0] - 1


def test_pessimism_takes_the_members_disagreement_off(online):
    careful = replace(online, settings=replace(online.settings, pessimism=2.0))
    bold, cautious = online.find_advantages(STATES), careful.find_advantages(STATES)
    assert (cautious[:, 0] == 0).all()
    assert (cautious[:, 1:] < bold[:, 1:]).all()


def test_same_settings_same_agent():
    settings = replace(SMALL, n_updates=60, n_members=1)
    first, second = (train_online(Tiers(50), settings) for _ in range(2))
    np.testing.assert_array_equal(first.value(STATES), second.value(STATES))


def test_an_agent_comes_back_from_its_files_without_a_pickle(online, tmp_path):
    save_agent(online, tmp_path)
    back = load_agent(tmp_path)
    assert back.settings == online.settings
    np.testing.assert_array_equal(back.value(STATES), online.value(STATES))
    assert {each.suffix for each in tmp_path.iterdir()} == {".json", ".safetensors"}
    text = (tmp_path / "agent.json").read_text()
    (tmp_path / "agent.json").write_text(text.replace('"layout": 1', '"layout": 0'))
    with pytest.raises(ModelError, match="layout 0"):
        load_agent(tmp_path)


def test_members_learn_from_customers_drawn_anew_whatever_their_numbers(log):
    few = log.take(log.customer < 300)
    spread = replace(few, customer=few.customer * 1_000_003)
    settings = replace(SMALL, n_updates=40)
    first, second = (train_offline(each, settings) for each in (few, spread))
    np.testing.assert_array_equal(first.value(STATES), second.value(STATES))
    members = first.value(STATES)
    assert np.abs(members[0] - members[1]).max() > 0


def test_an_empty_log_is_refused(log):
    with pytest.raises(ContractError, match="no transition"):
        train_offline(log.take(log.action < 0), SMALL)


def test_a_log_holds_the_propensities_of_what_was_drawn(log):
    assert log.n_steps == 4_000 * 20
    np.testing.assert_allclose(log.propensity, 1 / 3)
    shares = np.bincount(log.action) / log.n_steps
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)
    first = log.take(log.step == 1)
    np.testing.assert_array_equal(first.state, log.take(log.step == 0).next_state)
