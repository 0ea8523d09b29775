"""Journeys: decisions one after the other of many customers at once, as arrays."""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from ml.core.policy import draw_actions

_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Situation:
    """Where n customers stand: ``state`` (n, F) float32, ``eligible`` (n, K) bool, 0 no offer."""

    state: np.ndarray
    eligible: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What a step brought n customers.

    ``reward``, shape (n,), in currency, net of ``cost``, shape (n,), which is what a budget pays;
    ``then`` the next situation; ``is_over``, shape (n,), whether a customer's journey ended, so
    that nothing comes after.
    """

    reward: np.ndarray
    cost: np.ndarray
    then: Situation
    is_over: np.ndarray


class Environment(Protocol):
    """Something that n customers live in, all of them a step at a time."""

    n_features: int
    n_actions: int
    n_steps: int

    def begin(self, seed: int) -> Situation:
        """Begin a journey of every customer."""
        ...

    def step(self, action: np.ndarray) -> Outcome:
        """Take an action, shape (n,), for each."""
        ...


@dataclass(frozen=True)
class Transitions:
    """m logged steps.

    ``state`` (m, F), ``eligible`` (m, K), ``action`` (m,), ``propensity`` (m,) of that action,
    ``reward`` (m,) net of ``cost`` (m,), ``next_state`` (m, F), ``next_eligible`` (m, K),
    ``is_over`` (m,), ``customer`` (m,) and ``step`` (m,), which order a journey.
    """

    state: np.ndarray
    eligible: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    next_state: np.ndarray
    next_eligible: np.ndarray
    is_over: np.ndarray
    customer: np.ndarray
    step: np.ndarray

    @property
    def n_steps(self) -> int:
        """Number of steps, m."""
        return len(self.action)

    def take(self, rows: np.ndarray) -> "Transitions":
        """Return some of them (indices or a mask)."""
        return Transitions(*(getattr(self, each.name)[rows] for each in fields(self)))


class Chooser(Protocol):
    """A policy of situations."""

    def __call__(self, now: Situation) -> np.ndarray:
        """Return action probabilities, shape (n, K)."""
        ...


def live_journeys(environment: Environment, choose: Chooser, *, seed: int) -> Transitions:
    """Let every customer live one journey under a policy and log it.

    Parameters
    ----------
    environment
        Of n customers.
    choose
        The policy.
    seed
        Of the environment and of the draws.

    Returns
    -------
    Transitions
        Step by step, n rows each; a customer whose journey is over logs no more.
    """
    random = np.random.default_rng([seed, 7])
    now = environment.begin(seed)
    n = len(now.state)
    is_here, steps = np.ones(n, dtype=bool), []
    for number in range(environment.n_steps):
        probabilities = choose(now)
        action = draw_actions(probabilities, random.random(n))
        came = environment.step(action)
        lived = Transitions(
            state=now.state,
            eligible=now.eligible,
            action=action,
            propensity=probabilities[np.arange(n), action],
            reward=came.reward,
            cost=came.cost,
            next_state=came.then.state,
            next_eligible=came.then.eligible,
            is_over=came.is_over,
            customer=np.arange(n),
            step=np.full(n, number),
        )
        steps.append(lived.take(is_here))
        is_here &= ~came.is_over
        now = came.then
    return join_transitions(steps)


def measure_spread(values: np.ndarray) -> np.ndarray:
    """Return each column's standard deviation, shape (F,), 1 where it hardly varies."""
    spread = values.std(axis=0)
    return np.where(spread > _LEAST_SPREAD, spread, 1.0).astype(float)


@dataclass(frozen=True)
class Choices:
    """What a policy would do in a log: ``now`` and ``then``, (m, K), at each step and after it.

    After an end there is nothing to choose: rows of 0.
    """

    now: np.ndarray
    then: np.ndarray

    def take(self, rows: np.ndarray) -> "Choices":
        """Return those of some steps (indices or a mask)."""
        return Choices(self.now[rows], self.then[rows])


def choose_on_log(log: Transitions, choose: Chooser) -> Choices:
    """Return a policy's probabilities in a log, step by step.

    A policy under a budget depends on who else is decided on in a step.
    """
    now, then = np.zeros(log.eligible.shape), np.zeros(log.eligible.shape)
    for each in np.unique(log.step):
        rows = log.step == each
        now[rows] = choose(Situation(log.state[rows], log.eligible[rows]))
        on = rows & ~log.is_over
        if on.any():
            then[on] = choose(Situation(log.next_state[on], log.next_eligible[on]))
    return Choices(now, then)


def choose_evenly(now: Situation) -> np.ndarray:
    """Return every eligible action's equal probability, shape (n, K)."""
    return now.eligible / now.eligible.sum(axis=1, keepdims=True)


def join_transitions(parts: list[Transitions]) -> Transitions:
    """Return several logs as one."""
    return Transitions(
        *(
            np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Transitions)
        )
    )
