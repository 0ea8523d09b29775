"""The document's reward: ticket, uplift of what a message provoked, bonuses for tiers.

Its sizes and how the media mix enters are not stated; ours: bonus and penalty 10, and the uplift
(a T-learner's on XGBoost, currency) times the channel's return on investment over the mean of the
three, from a media mix with the document's priors.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from xgboost import XGBRegressor

from ml.core.journeys import Outcome, Situation, Transitions
from ml.media_mix.fitting import MediaMixSettings, fit_media_mix
from ml.media_mix.reading import read_returns
from ml.media_mix.series import MediaSeries
from ml.simulate.loyalty import CHANNELS, GOLD, Loyalty
from ml.simulate.media import carry_over, saturate

BONUS = 10.0
_N_WEEKS = 150
_MEDIA = {"push": (0.3, 0.5, 1.2, 3.0), "text": (0.5, 0.4, 1.0, 5.0), "email": (0.2, 0.6, 1.5, 4.0)}
"""Planted kept, half (of the largest spend), slope and effect, in thousands a week."""


@dataclass(frozen=True)
class ActionModels:
    """One regression of an outcome per action: the document's T-learner."""

    models: tuple[XGBRegressor, ...]

    def value(self, state: np.ndarray) -> np.ndarray:
        """Return the expected outcome of each action: (n, K), currency."""
        return np.column_stack([model.predict(state) for model in self.models]).astype(float)

    def predict(self, state: np.ndarray) -> np.ndarray:
        """Return uplift over no message, shape (n, K), currency."""
        value = self.value(state)
        return np.asarray(value - value[:, :1])


def fit_action_models(log: Transitions, outcome: np.ndarray) -> ActionModels:
    """Fit the T-learner to a log of random messages and an outcome of its steps, (m,), currency."""
    models = []
    for action in range(log.eligible.shape[1]):
        rows = log.action == action
        model = XGBRegressor(n_estimators=60, max_depth=3, learning_rate=0.1, n_jobs=1)
        models.append(model.fit(log.state[rows], outcome[rows]))
    return ActionModels(tuple(models))


def fit_channel_returns(*, seed: int, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit the document's media mix to synthetic weeks.

    Returns
    -------
    tuple
        Each channel's mean average return, and the true one, shape (3,).
    """
    random = np.random.default_rng([seed, 51])
    spend = np.exp(random.normal(0, 0.6, (_N_WEEKS, 3)))
    added = np.zeros((_N_WEEKS, 3))
    for index, channel in enumerate(CHANNELS):
        kept, half, slope, effect = _MEDIA[channel]
        stock = carry_over(spend[:, index], kept=kept) / spend[:, index].max()
        added[:, index] = effect * saturate(stock, half=half, slope=slope)
    kpi = 20 + added.sum(axis=1) + random.normal(0, 0.3, _N_WEEKS)
    weeks = tuple(date(2024, 1, 1) + timedelta(days=7 * week) for week in range(_N_WEEKS))
    series = MediaSeries(CHANNELS, weeks, spend, kpi, (), np.zeros((_N_WEEKS, 0)))
    settings = MediaMixSettings(
        preset="paper", n_chains=2, n_warmup=n_draws, n_draws=n_draws, n_harmonics=1
    )
    found = read_returns(fit_media_mix(series, settings=settings)).average.mean(axis=0)
    return found, added.sum(axis=0) / spend.sum(axis=0)


@dataclass
class TicketReward:
    """The programme with the ticket for reward."""

    inner: Loyalty

    def __post_init__(self) -> None:
        """Take the programme's sizes over."""
        self.n_features = self.inner.n_features
        self.n_actions = self.inner.n_actions
        self.n_steps = self.inner.n_steps

    def begin(self, seed: int) -> Situation:
        """Begin the journeys."""
        return self.inner.begin(seed)

    def step(self, action: np.ndarray) -> Outcome:
        """Live a step; pay the ticket."""
        return replace(self.inner.step(action), reward=self.inner.facts.ticket)


@dataclass
class PaperReward:
    """The programme with the document's reward instead of net margin."""

    inner: Loyalty
    uplift: ActionModels
    channel_weight: np.ndarray

    def __post_init__(self) -> None:
        """Take the programme's sizes over."""
        self.n_features = self.inner.n_features
        self.n_actions = self.inner.n_actions
        self.n_steps = self.inner.n_steps

    def begin(self, seed: int) -> Situation:
        """Begin the journeys."""
        self._now = self.inner.begin(seed)
        return self._now

    def step(self, action: np.ndarray) -> Outcome:
        """Live a step; pay as the document does."""
        uplift = self.uplift.predict(self._now.state)[np.arange(len(action)), action]
        came = self.inner.step(action)
        self._now, facts = came.then, self.inner.facts
        weight = np.where(action > 0, self.channel_weight[np.maximum(action - 1, 0) // 3], 0.0)
        provoked = facts.buys & (action > 0)
        reward = facts.ticket + provoked * np.maximum(uplift, 0) * weight
        reward = reward + BONUS * (facts.next_tier > facts.tier)
        reward = reward + BONUS * ((facts.tier == GOLD) & (facts.next_tier == GOLD))
        reward = reward - BONUS * (~facts.buys & (facts.next_tier < facts.tier))
        return replace(came, reward=reward)
