"""Agents trained by Q-learning, in an environment or on a log; TorchRL's losses and buffer."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.modules import QValueModule
from torchrl.objectives import DQNLoss, SoftUpdate

from ml.control.agent import Agent, AgentSettings, build_network, standardise
from ml.control.shaping import fit_potential, shape_log
from ml.core.errors import ContractError
from ml.core.journeys import (
    Environment,
    Situation,
    Transitions,
    choose_evenly,
    live_journeys,
    measure_spread,
)

# It tells of every buffer that it makes.
logging.getLogger("torchrl").setLevel(logging.WARNING)

_REPORTS = 20


@dataclass(frozen=True)
class Progress:
    """Where a training is: ``loss`` is the mean since the last report, ``reward`` of the step."""

    member: int
    update: int
    loss: float
    reward: float


Report = Callable[[Progress], None]


def train_online(
    environment: Environment,
    settings: AgentSettings,
    *,
    updates_per_step: int = 8,
    progress: Report = lambda now: None,
) -> Agent:
    """Train each member in the environment, journey after journey.

    Parameters
    ----------
    environment
        Lived anew by every member, with seeds of its own.
    settings
        Of the agent.
    updates_per_step
        Gradient steps for each step of all customers.
    progress
        Called some twenty times a member.

    Returns
    -------
    Agent
        The same for the same environment and settings on one machine.
    """
    scales = _measure_scales(live_journeys(environment, choose_evenly, seed=settings.seed))
    members = []
    for number in range(settings.n_members):
        learner = _Learner(environment.n_actions, settings, number, scales)
        _live_and_learn(environment, learner, updates_per_step, progress)
        members.append(learner.network)
    return Agent(settings, tuple(members), *scales)


def train_offline(
    log: Transitions, settings: AgentSettings, *, progress: Report = lambda now: None
) -> Agent:
    """Train each member on a log alone, each on customers drawn with replacement.

    With ``conservatism`` actions that the log doesn't hold are valued down.

    Raises
    ------
    ContractError
        If the log is empty.
    """
    if log.n_steps == 0:
        raise ContractError("the log holds no transition: nothing can be learned from it")
    scales = _measure_scales(log)
    members = []
    for number in range(settings.n_members):
        learner = _Learner(log.eligible.shape[1], settings, number, scales)
        random = np.random.default_rng([settings.seed, 11, number])
        rows = np.arange(log.n_steps)
        if settings.n_members > 1:
            customers, place = np.unique(log.customer, return_inverse=True)
            drawn = random.integers(0, len(customers), len(customers))
            times = np.bincount(drawn, minlength=len(customers))
            rows = np.repeat(rows, times[place])
        learner.remember(log.take(rows), size=len(rows))
        every, losses = max(1, settings.n_updates // _REPORTS), []
        for update in range(1, settings.n_updates + 1):
            losses.append(learner.update())
            if update % every == 0:
                progress(Progress(number, update, float(np.mean(losses)), float("nan")))
                losses = []
        members.append(learner.network)
    return Agent(settings, tuple(members), *scales)


def train_shaped(
    log: Transitions, settings: AgentSettings, *, progress: Report = lambda now: None
) -> Agent:
    """Train on a log whose rewards are shaped by what its own policy's journeys are worth.

    Raises
    ------
    ContractError
        If the log is empty.
    """
    discount = settings.discount
    potential = fit_potential(log, discount=discount, price=settings.price)
    return train_offline(shape_log(log, potential, discount=discount), settings, progress=progress)


class _Learner:
    """One member while it learns: network, target, buffer, optimiser."""

    def __init__(
        self,
        n_actions: int,
        settings: AgentSettings,
        number: int,
        scales: tuple[np.ndarray, np.ndarray, float],
    ) -> None:
        torch.manual_seed(1_000 * settings.seed + number)
        self.settings, self.number, self.n_actions = settings, number, n_actions
        self.mean, self.spread, self.scale = scales
        self.network = build_network(len(self.mean), n_actions, settings)
        actor = TensorDictSequential(
            TensorDictModule(self.network, in_keys=["state"], out_keys=["action_value"]),
            QValueModule(action_space="categorical", action_mask_key="eligible"),
        )
        has_target = settings.target_rate > 0
        self.loss = DQNLoss(
            actor,
            action_space="categorical",
            double_dqn=settings.is_double and has_target,
            delay_value=has_target,
            loss_function=settings.loss,
        )
        self.loss.make_value_estimator(gamma=settings.discount)
        self.target = SoftUpdate(self.loss, tau=settings.target_rate) if has_target else None
        self.optimiser = torch.optim.Adam(self.network.parameters(), settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, settings.n_updates
        )
        self.buffer = self._make_buffer(settings.buffer_size)

    def _make_buffer(self, size: int) -> TensorDictReplayBuffer:
        generator = torch.Generator().manual_seed(1_000 * self.settings.seed + self.number)
        return TensorDictReplayBuffer(
            storage=LazyTensorStorage(size),
            batch_size=self.settings.batch_size,
            generator=generator,
        )

    def remember(self, lived: Transitions, *, size: int | None = None) -> None:
        """Keep transitions; ``size`` makes room for exactly so many."""
        if size is not None:
            self.buffer = self._make_buffer(size)
        over = torch.from_numpy(lived.is_over)[:, None]
        reward = lived.reward - self.settings.price * lived.cost
        self.buffer.extend(
            TensorDict(
                {
                    "state": self.standardise(lived.state),
                    "eligible": torch.from_numpy(lived.eligible),
                    "action": torch.from_numpy(lived.action.astype(np.int64)),
                    "next": TensorDict(
                        {
                            "state": self.standardise(lived.next_state),
                            "eligible": torch.from_numpy(lived.next_eligible),
                            "reward": torch.from_numpy((reward / self.scale).astype(np.float32))[
                                :, None
                            ],
                            "done": over,
                            "terminated": over,
                        },
                        [lived.n_steps],
                    ),
                },
                [lived.n_steps],
            )
        )

    def standardise(self, state: np.ndarray) -> Tensor:
        """Return states as the network takes them."""
        return standardise(state, self.mean, self.spread)

    def update(self) -> float:
        """Take one gradient step; return the loss."""
        batch = self.buffer.sample()
        loss = self.loss(batch)["loss"]
        if self.settings.conservatism:
            # TorchRL's conservative loss holds a plain Q-learning loss of its own, not double.
            value = self.network(batch["state"]).masked_fill(~batch["eligible"], -torch.inf)
            held = value.gather(1, batch["action"][:, None])[:, 0]
            loss = loss + self.settings.conservatism * (value.logsumexp(dim=1) - held).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        if self.target is not None:
            self.target.step()
        return float(loss.detach())

    def explore(self, now: Situation, share: float, random: np.random.Generator) -> np.ndarray:
        """Return the best eligible action, or with a probability any of them: shape (n,)."""
        with torch.no_grad():
            value = self.network(self.standardise(now.state)).numpy()
        best = np.where(now.eligible, value, -np.inf).argmax(axis=1)
        noise = np.where(now.eligible, random.random(value.shape), -np.inf)
        is_random = random.random(len(best)) < share
        return np.where(is_random, noise.argmax(axis=1), best)


def _live_and_learn(
    environment: Environment, learner: _Learner, updates_per_step: int, progress: Report
) -> None:
    """Live journeys until all updates are done."""
    settings = learner.settings
    first, last, share = settings.exploration
    random = np.random.default_rng([settings.seed, 12, learner.number])
    done, journey, losses, rewards = 0, 0, [], []
    every = max(1, settings.n_updates // _REPORTS)
    while done < settings.n_updates:
        seed = 100_000 * (settings.seed + 1) + 1_000 * learner.number + journey
        now, journey = environment.begin(seed), journey + 1
        is_here = np.ones(len(now.state), dtype=bool)
        for number in range(environment.n_steps):
            through = min(1.0, done / max(1.0, share * settings.n_updates))
            action = learner.explore(now, first + (last - first) * through, random)
            came = environment.step(action)
            lived = Transitions(
                state=now.state,
                eligible=now.eligible,
                action=action,
                propensity=np.full(len(action), np.nan),
                reward=came.reward,
                cost=came.cost,
                next_state=came.then.state,
                next_eligible=came.then.eligible,
                is_over=came.is_over,
                customer=np.arange(len(action)),
                step=np.full(len(action), number),
            )
            learner.remember(lived.take(is_here))
            is_here &= ~came.is_over
            now = came.then
            rewards.append(float(came.reward.mean()))
            for _ in range(updates_per_step):
                losses.append(learner.update())
                done += 1
                if done % every == 0:
                    progress(
                        Progress(
                            learner.number, done, float(np.mean(losses)), float(np.mean(rewards))
                        )
                    )
                    losses, rewards = [], [rewards[-1]]
            if done >= settings.n_updates or not is_here.any():
                break


def _measure_scales(log: Transitions) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the states' means and spreads, and the reward's scale."""
    scale = float(log.reward.std()) or 1.0
    return (
        log.state.mean(axis=0).astype(float),
        measure_spread(log.state),
        scale,
    )
