"""The agentic-marketing document's bakery: 500 customers, 50 steps, four tiers, ten actions.

The document states tiers, actions, states and what its reward pays for, no equation; the equations
are ours (docs/worlds.md). Frozen before any agent was trained in it.
"""

from dataclasses import dataclass, field

import numpy as np

from ml.core.journeys import Outcome, Situation

TIERS = ("none", "bronze", "silver", "gold")
CHANNELS = ("push", "text", "email")
PROMOTIONS = ("ad", "small", "large")
ACTIONS = ("none", *(f"{promotion}_{channel}" for channel in CHANNELS for promotion in PROMOTIONS))
GOLD = 3
_PER_CHANNEL = len(PROMOTIONS)


@dataclass(frozen=True, kw_only=True)
class LoyaltyConfig:
    """The programme; log-odds, shares and currency.

    ``strength`` of ad, small and large discount is what a customer who responds fully adds to the
    log-odds of a purchase; ``tier_response`` scales it: who buys anyway reacts less.
    """

    n_customers: int = 500
    n_steps: int = 50
    tier_shares: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    base: float = -1.2
    tier_on_purchase: tuple[float, ...] = (0.0, 0.3, 0.6, 1.1)
    distance_on_purchase: float = -0.35
    strength: tuple[float, ...] = (0.3, 1.0, 2.0)
    tier_response: tuple[float, ...] = (1.0, 1.0, 0.9, 0.5)
    ticket: tuple[float, ...] = (6.0, 6.4, 7.0, 7.6)
    ticket_sd: float = 1.3
    tier_up: tuple[float, ...] = (0.30, 0.25, 0.20, 0.0)
    tier_down: tuple[float, ...] = (0.0, 0.05, 0.06, 0.04)
    discount: tuple[float, ...] = (0.0, 1.0, 2.5)
    message_cost: tuple[float, ...] = (0.01, 0.06, 0.02)
    margin: float = 0.6

    @property
    def is_ratchet(self) -> bool:
        """Whether nobody ever drops a tier."""
        return not any(self.tier_down)


RATCHET = LoyaltyConfig(tier_down=(0.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What happened at a step, each of shape (n,): for rewards other than the environment's own.

    ``ticket`` is 0 without a purchase; ``net_margin`` is margin x ticket less discount and message.
    """

    tier: np.ndarray
    action: np.ndarray
    buys: np.ndarray
    ticket: np.ndarray
    next_tier: np.ndarray
    net_margin: np.ndarray


@dataclass
class Loyalty:
    """The programme lived; the reward is net margin. State: age, gender, distance, step, tiers.

    The eight state attributes are the document's.
    """

    config: LoyaltyConfig = field(default_factory=LoyaltyConfig)
    n_features: int = 8
    n_actions: int = len(ACTIONS)

    def __post_init__(self) -> None:
        """Take the number of steps over."""
        self.n_steps = self.config.n_steps

    def begin(self, seed: int) -> Situation:
        """Draw customers and begin their journeys."""
        config, n = self.config, self.config.n_customers
        self._random = np.random.default_rng([seed, 41])
        self.age = self._random.uniform(18, 80, n)
        self.gender = self._random.integers(0, 2, n)
        self.distance = self._random.lognormal(0.8, 0.6, n)
        counts = np.round(np.array(config.tier_shares) * n).astype(int)
        counts[0] += n - counts.sum()
        self.tier = self._random.permutation(np.repeat(np.arange(len(TIERS)), counts))
        self._number = 0
        return self._situation()

    def step(self, action: np.ndarray) -> Outcome:
        """Live a step; the facts stay in ``facts``."""
        config, n = self.config, self.config.n_customers
        buys = self._random.random(n) < self.purchase_probability(action)
        mean = np.array(config.ticket)[self.tier]
        ticket = np.maximum(self._random.normal(mean, config.ticket_sd), 0.5) * buys
        moves = self._random.random(n)
        up = buys & (moves < np.array(config.tier_up)[self.tier])
        down = ~buys & (moves < np.array(config.tier_down)[self.tier])
        before = self.tier
        self.tier = np.clip(self.tier + up - down, 0, GOLD)
        self._number += 1
        cost = self.cost(action, buys)
        self.facts = StepFacts(
            tier=before,
            action=action,
            buys=buys,
            ticket=ticket,
            next_tier=self.tier,
            net_margin=config.margin * ticket - cost,
        )
        is_over = np.full(n, self._number == self.n_steps)
        return Outcome(self.facts.net_margin, cost, self._situation(), is_over)

    def purchase_probability(self, action: np.ndarray) -> np.ndarray:
        """Return each customer's probability of a purchase at this step under an action, (n,)."""
        config = self.config
        logit = config.base + np.array(config.tier_on_purchase)[self.tier]
        logit = logit + config.distance_on_purchase * (np.log(self.distance) - 0.8) / 0.6
        promotion = np.where(action > 0, (action - 1) % _PER_CHANNEL, 0)
        effect = np.array(config.strength)[promotion] * self.response(action)
        return np.asarray(1 / (1 + np.exp(-logit - effect)))

    def response(self, action: np.ndarray) -> np.ndarray:
        """Return how fully each customer responds, (n,): the young to push, the old to e-mail."""
        youth = (49 - self.age) / 31
        channel = (action - 1) // _PER_CHANNEL
        by_channel = np.stack(
            [0.7 + 0.5 * youth, 0.7 + 0.2 * (2 * self.gender - 1), 0.7 - 0.4 * youth]
        )
        full = by_channel[np.maximum(channel, 0), np.arange(len(action))]
        damped = full * np.array(self.config.tier_response)[self.tier]
        return np.where(action > 0, damped, 0.0)

    def cost(self, action: np.ndarray, buys: np.ndarray) -> np.ndarray:
        """Return message cost, and the discount where there is a purchase, (n,)."""
        promotion, channel = (action - 1) % _PER_CHANNEL, (action - 1) // _PER_CHANNEL
        spent = np.array(self.config.message_cost)[channel]
        spent = spent + np.array(self.config.discount)[promotion] * buys
        return np.where(action > 0, spent, 0.0)

    def _situation(self) -> Situation:
        n = self.config.n_customers
        state = np.column_stack(
            [self.age, self.gender, self.distance, np.full(n, self._number), np.eye(4)[self.tier]]
        ).astype(np.float32)
        return Situation(state, np.ones((n, self.n_actions), dtype=bool))
