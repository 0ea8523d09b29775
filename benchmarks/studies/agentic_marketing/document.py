"""The document's experiment: its agent and ours beside policies without learning."""

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import torch

from benchmarks.studies.agentic_marketing.reward import (
    ActionModels,
    PaperReward,
    TicketReward,
    fit_action_models,
    fit_channel_returns,
)
from ml.control.agent import PAPER, AgentSettings
from ml.control.shaping import ShapedEnvironment
from ml.control.training import train_online
from ml.core.journeys import Chooser, Situation, choose_evenly, live_journeys
from ml.core.policy import draw_actions
from ml.simulate.loyalty import ACTIONS, CHANNELS, GOLD, RATCHET, TIERS, Loyalty, LoyaltyConfig

PROGRAMMES = {"frozen": LoyaltyConfig(), "ratchet": RATCHET}
_EPISODES = 10
_TRACED = range(7, 12)
_TESTS = 5
_MANY_CUSTOMERS = 8_000
_POTENTIAL = 8.0
"""A tier's worth in the shaping, currency; any number leaves the best policy as it is."""


def run_document(seed: int, *, programme: str, is_quick: bool) -> pl.DataFrame:
    """Train both agents in a programme, live every policy in five others of its kind.

    Returns
    -------
    pl.DataFrame
        part, subject, figure, value; seed.
    """
    torch.set_num_threads(1)
    config = PROGRAMMES[programme]
    uplift = _fit_uplift(config, seed)
    by_many = _fit_uplift(replace(config, n_customers=_MANY_CUSTOMERS), seed)
    found, true = fit_channel_returns(seed=seed, n_draws=100 if is_quick else 400)
    weight = found / found.mean()
    n_updates = 500 if is_quick else _EPISODES * config.n_steps * 20
    # Ten journeys of every customer for each network, the document's episodes.
    updates_per_step = n_updates // (_EPISODES * config.n_steps) or 1
    paper = train_online(
        PaperReward(Loyalty(config), uplift, weight),
        replace(PAPER, seed=seed, n_updates=n_updates),
        updates_per_step=updates_per_step,
    )
    ours = train_online(
        ShapedEnvironment(Loyalty(config), _tier_potential, AgentSettings().discount),
        AgentSettings(
            seed=seed,
            learning_rate=1e-3,
            n_updates=n_updates,
            n_members=1 if is_quick else 3,
        ),
        updates_per_step=updates_per_step,
    )
    paid_by_margin = train_online(
        Loyalty(config),
        replace(PAPER, seed=seed, n_updates=n_updates),
        updates_per_step=updates_per_step,
    )
    policies: dict[str, Chooser] = {
        "paper": paper.choose,
        "paper_paid_by_margin": paid_by_margin.choose,
        "ours": ours.choose,
        "never_send": partial(_always, action=0),
        "always_send": partial(_always, action=ACTIONS.index("large_push")),
        "random": choose_evenly,
        "myopic": partial(_choose_myopically, uplift=uplift, config=config),
    }
    rows = [
        {"part": "policy", "subject": name, "figure": figure, "value": value}
        for name, choose in policies.items()
        for figure, value in _live(config, choose, seed).items()
    ]
    rows += [
        {"part": "uplift", "subject": subject, "figure": figure, "value": value}
        for subject, each in (("t_learner", uplift), ("t_learner_by_8000", by_many))
        for figure, value in _judge_uplift(each, config, seed).items()
    ]
    rows += [
        {"part": "media", "subject": channel, "figure": figure, "value": float(value)}
        for figure, drawn in (("found", found), ("true", true))
        for channel, value in zip(CHANNELS, drawn, strict=True)
    ]
    rows += _trace(config, paper.choose, seed)
    return pl.DataFrame(rows).with_columns(pl.lit(seed).alias("seed"))


def _live(config: LoyaltyConfig, choose: Chooser, seed: int) -> dict[str, float]:
    """Return a policy's figures over five programmes of other customers."""
    found = []
    for test in range(_TESTS):
        programme = Loyalty(config)
        random = np.random.default_rng([seed, 61, test])
        now = programme.begin(20_000 + 100 * seed + test)
        net, sent, sent_to_gold, gold_steps = 0.0, 0, 0, 0
        for _ in range(config.n_steps):
            policy = choose(now)
            action = draw_actions(policy, random.random(len(policy)))
            is_gold = programme.tier == GOLD
            sent += int((action > 0).sum())
            sent_to_gold += int((action[is_gold] > 0).sum())
            gold_steps += int(is_gold.sum())
            came = programme.step(action)
            net, now = net + float(came.reward.sum()), came.then
        n = config.n_customers
        found.append(
            {
                "gold_share": float((programme.tier == GOLD).mean()),
                "net_margin": net / n,
                "messages": sent / n,
                "messages_per_gold_step": sent_to_gold / max(gold_steps, 1),
            }
        )
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def _fit_uplift(config: LoyaltyConfig, seed: int) -> ActionModels:
    """Fit the T-learner on the ticket to a log of random messages."""
    log = live_journeys(TicketReward(Loyalty(config)), choose_evenly, seed=10_000 + seed)
    return fit_action_models(log, log.reward)


def _judge_uplift(uplift: ActionModels, config: LoyaltyConfig, seed: int) -> dict[str, float]:
    """Return how well the T-learner finds the planted effects on the ticket."""
    programme = Loyalty(config)
    state = programme.begin(30_000 + seed).state
    n, ticket = len(state), np.array(config.ticket)[programme.tier]
    chance = np.column_stack(
        [programme.purchase_probability(np.full(n, action)) for action in range(len(ACTIONS))]
    )
    true = (chance - chance[:, :1])[:, 1:] * ticket[:, None]
    found = uplift.predict(state)[:, 1:]
    return {
        "correlation": float(np.corrcoef(true.ravel(), found.ravel())[0, 1]),
        "error_over_sd": float(np.sqrt(((found - true) ** 2).mean()) / true.std()),
        "bias": float((found - true).mean()),
        "mean": float(true.mean()),
    }


def _trace(config: LoyaltyConfig, choose: Chooser, seed: int) -> list[dict[str, object]]:
    """Return steps 7 to 11 of the first customer who is gold at them, as its Table I."""
    programme = Loyalty(config)
    now = programme.begin(20_000 + 100 * seed)
    lived = []
    for _ in range(max(_TRACED) + 1):
        action = choose(now).argmax(axis=1)
        now = programme.step(action).then
        lived.append(programme.facts)
    is_gold = np.all([lived[step].tier == GOLD for step in _TRACED], axis=0)
    customer = int(np.argmax(is_gold))
    return [
        {
            "part": "trace",
            "subject": f"step {step}, {TIERS[lived[step].tier[customer]]}",
            "figure": ACTIONS[lived[step].action[customer]],
            "value": float(lived[step].ticket[customer]),
        }
        for step in _TRACED
    ]


def _tier_potential(state: np.ndarray) -> np.ndarray:
    """Return a tier's worth: the last four state attributes are the tiers."""
    return np.asarray(_POTENTIAL * (state[:, 4:] @ np.arange(len(TIERS))))


def _always(now: Situation, *, action: int) -> np.ndarray:
    policy = np.zeros(now.eligible.shape)
    policy[:, action] = 1.0
    return policy


def _choose_myopically(
    now: Situation, *, uplift: ActionModels, config: LoyaltyConfig
) -> np.ndarray:
    """Return the action whose step's expected net margin is most, by the T-learner."""
    ticket = uplift.value(now.state)  # (n, K)
    buys = ticket / np.array(config.ticket)[now.state[:, 4:].argmax(axis=1)][:, None]
    net = config.margin * ticket
    for action in range(1, len(ACTIONS)):
        promotion, channel = (action - 1) % 3, (action - 1) // 3
        net[:, action] -= config.message_cost[channel]
        net[:, action] -= config.discount[promotion] * buys[:, action]
    n = len(net)
    policy = np.zeros((n, len(ACTIONS)))
    policy[np.arange(n), net.argmax(axis=1)] = 1.0
    return policy
