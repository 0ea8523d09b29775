"""The bakery week by week: our agent beside myopic policies at one budget, and the paper's agent.

Everything is learned from a log of some customers and lived by others of the same kind, in other
weeks of media.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl
import torch

from benchmarks.studies.agentic_marketing.policies import (
    choose_at_random,
    choose_by_experiment,
    choose_nothing,
    rank_inactive,
)
from benchmarks.studies.agentic_marketing.reward import ActionModels, fit_action_models
from ml.control.agent import FROM_LOGS, PAPER, Agent, AgentSettings
from ml.control.training import train_online, train_shaped
from ml.core.journeys import (
    Chooser,
    Environment,
    Outcome,
    Situation,
    Transitions,
    choose_evenly,
    live_journeys,
)
from ml.core.policy import draw_actions
from ml.pipeline.budgeted_journeys import BudgetedChooser, StateValues, find_price
from ml.simulate.config import TIERS
from ml.simulate.journeys import BakeryJourneys
from ml.simulate.worlds import BAKERY

BUDGET = BAKERY.budget_per_decision
WORLDS = (11, 12, 13, 14)
N_LOGGED, LOGGED_WEEKS = 12_000, 10
N_LIVED = 5_000
SIZES = (1_500, 4_000, 40_000)
_BONUS, _GOLD = 10.0, TIERS.index("gold")
_PAPER_CUSTOMERS, _PAPER_EPISODES, _PAPER_UPDATES_PER_STEP = 500, 10, 20


def run_bakery(seed: int, *, is_quick: bool) -> pl.DataFrame:
    """Train on some customers, live every policy by others.

    Parameters
    ----------
    seed
        100 times that of who lives the policies, the world's, plus the training's.
    is_quick
        Few customers and updates.

    Returns
    -------
    pl.DataFrame
        policy, figure, value; seed.
    """
    torch.set_num_threads(1)
    n = 400 if is_quick else N_LIVED
    learned = learn(seed, n_logged=800 if is_quick else N_LOGGED, is_quick=is_quick)
    bakery = make_bakery(seed // 100, n)
    paper = _train_paper(seed, is_quick=is_quick)
    within = partial(BudgetedChooser, costs=learned.costs.value, budget=BUDGET)
    policies: dict[str, Chooser] = {
        "never_send": choose_nothing,
        "random": partial(choose_at_random, costs=learned.costs, budget=BUDGET),
        "lifecycle_rule": within(rank_inactive).choose,
        "myopic_t_learner": within(learned.rewards.predict).choose,
        "myopic_network": within(learned.myopic.find_advantages).choose,
        "ours": within(learned.ours.find_advantages, price=learned.price).choose,
        "paper_within_budget": within(paper.find_advantages).choose,
        "paper": paper.choose,
        "myopic_network_unlimited": learned.myopic.choose,
        "ours_unlimited": train_shaped(learned.log, learned.settings).choose,
    }
    rows = [
        {"policy": name, "figure": figure, "value": value}
        for name, choose in policies.items()
        for figure, value in live(bakery, choose, seed).items()
    ]
    rows.append({"policy": "ours", "figure": "price", "value": learned.price})
    return pl.DataFrame(rows).with_columns(pl.lit(seed).alias("seed"))


def run_size(seed: int, *, n_logged: int, is_quick: bool) -> pl.DataFrame:
    """Live ours and the myopic network after logs of another size; as ``run_bakery``."""
    torch.set_num_threads(1)
    learned = learn(seed, n_logged=n_logged, is_quick=is_quick)
    bakery = make_bakery(seed // 100, 400 if is_quick else N_LIVED)
    rows = []
    for name, advantages, price in (
        ("ours", learned.ours.find_advantages, learned.price),
        ("myopic_network", learned.myopic.find_advantages, 0.0),
        ("myopic_t_learner", learned.rewards.predict, 0.0),
    ):
        chooser = BudgetedChooser(advantages, learned.costs.value, BUDGET, price)
        rows += [
            {"policy": name, "figure": figure, "value": value, "n_logged": n_logged}
            for figure, value in live(bakery, chooser.choose, seed).items()
        ]
    return pl.DataFrame(rows).with_columns(pl.lit(seed).alias("seed"))


@dataclass(frozen=True)
class Learned:
    """What a log teaches: rewards and costs by action, a myopic network, and our agent."""

    log: Transitions
    settings: AgentSettings
    costs: ActionModels
    rewards: ActionModels
    myopic: Agent
    ours: Agent

    @property
    def price(self) -> float:
        """Of cost, under which our agent learned."""
        return self.ours.settings.price


def learn_from(log: Transitions, settings: AgentSettings) -> Learned:
    """Learn from a log for life under the budget."""
    costs = fit_action_models(log, log.cost)
    # The same network with no future: what the horizon adds is all that differs.
    myopic = train_shaped(log, replace(settings, discount=0.0))
    price = find_price(log, myopic.find_advantages, costs.value, budget=BUDGET)
    return Learned(
        log,
        settings,
        costs,
        fit_action_models(log, log.reward),
        myopic,
        train_shaped(log, replace(settings, price=price)),
    )


def learn(seed: int, *, n_logged: int, is_quick: bool) -> Learned:
    """Live a log of random offers in the world, and learn from it."""
    bakery = make_bakery(1_000 + seed, n_logged, n_steps=LOGGED_WEEKS)
    log = live_journeys(bakery, choose_by_experiment, seed=seed)
    settings = replace(FROM_LOGS, seed=seed)
    if is_quick:
        settings = replace(settings, n_updates=30, n_members=2, batch_size=512)
    return learn_from(log, settings)


def make_bakery(seed: int, n_customers: int, *, n_steps: int = 26) -> BakeryJourneys:
    """Return customers of a world's seed."""
    return BakeryJourneys(replace(BAKERY, seed=seed), n_customers=n_customers, n_steps=n_steps)


def live(bakery: BakeryJourneys, choose: Chooser, seed: int) -> dict[str, float]:
    """Return what 26 weeks under a policy bring per customer; chance is the same for all."""
    random = np.random.default_rng([seed, 62])
    now = bakery.begin(seed)
    n = len(now.state)
    net, cost, sent, opted_out, sent_to_gold, gold_weeks = 0.0, 0.0, 0, 0, 0, 0
    for _ in range(bakery.n_steps):
        policy = choose(now)
        came = bakery.step(draw_actions(policy, random.random(n)))
        facts, now = bakery.facts, came.then
        is_gold = facts.tier == _GOLD
        net, cost = net + came.reward.sum(), cost + came.cost.sum()
        sent += int(facts.is_sent.sum())
        opted_out += int((facts.opted_out >= 0).sum())
        sent_to_gold += int((facts.is_sent & is_gold).sum())
        gold_weeks += int(is_gold.sum())
    return {
        "net_margin": net / n,
        "cost_per_decision": cost / n / bakery.n_steps,
        "messages": sent / n,
        "opt_outs": opted_out / n,
        "gold_share": float((bakery.facts.next_tier == _GOLD).mean()),
        "messages_to_gold": sent_to_gold / n,
        "messages_per_gold_week": sent_to_gold / max(gold_weeks, 1),
    }


class _PaperBakery:
    """The bakery with the document's reward: spend, uplift, and bonuses for tiers.

    The channels' weights, the media mix's, are 1: the bakery's messages are in no media plan.
    """

    def __init__(self, inner: BakeryJourneys, uplift: StateValues) -> None:
        self._inner, self._uplift = inner, uplift
        self.n_features, self.n_actions = inner.n_features, inner.n_actions
        self.n_steps = inner.n_steps

    def begin(self, seed: int) -> Situation:
        self._now = self._inner.begin(seed)
        return self._now

    def step(self, action: np.ndarray) -> Outcome:
        uplift = self._uplift(self._now.state)[np.arange(len(action)), action]
        came = self._inner.step(action)
        self._now, facts = came.then, self._inner.facts
        buys = facts.purchases > 0
        reward = facts.spend + (buys & facts.is_sent) * np.maximum(uplift, 0)
        reward = reward + _BONUS * (facts.next_tier > facts.tier)
        reward = reward + _BONUS * ((facts.tier == _GOLD) & (facts.next_tier == _GOLD))
        reward = reward - _BONUS * (~buys & (facts.next_tier < facts.tier))
        return replace(came, reward=reward)


def _train_paper(seed: int, *, is_quick: bool) -> Agent:
    """Train the document's agent by its reward, online, with as many customers as it had."""
    bakery = make_bakery(1_000 + seed, _PAPER_CUSTOMERS)
    log = live_journeys(bakery, choose_evenly, seed=seed)
    # The uplift's outcome is spend: net margin's other part is what it cost.
    uplift = fit_action_models(log, (log.reward + log.cost) / BAKERY.programme.margin)
    environment: Environment = _PaperBakery(bakery, uplift.predict)
    per_step = 1 if is_quick else _PAPER_UPDATES_PER_STEP
    n_updates = (1 if is_quick else _PAPER_EPISODES) * bakery.n_steps * per_step
    settings = replace(PAPER, seed=seed, n_updates=n_updates)
    return train_online(environment, settings, updates_per_step=per_step)
