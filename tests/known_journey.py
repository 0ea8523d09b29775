"""The small loyalty programme as an environment of many customers."""

import numpy as np
from oracles.tiers import COST, DOWN, N_TIERS, PURCHASE, TICKET, UP

from ml.core.journeys import Outcome, Situation


class Tiers:
    """Customers in four tiers; the state is the tier, one-hot.

    ``closed`` actions are never eligible. Where journeys end, the state tells the step too; each
    customer leaves after a step with probability ``leaving``.
    """

    n_actions = 3

    def __init__(self, n=500, *, n_steps=20, closed=(), ends=False, leaving=0.0):
        self.n, self.n_steps, self.closed, self.ends = n, n_steps, list(closed), ends
        self.leaving = leaving
        self.n_features = N_TIERS * (n_steps if ends else 1)

    def begin(self, seed):
        self.random, self.number = np.random.default_rng(seed), 0
        self.tier = self.random.integers(0, N_TIERS, self.n)
        return self._situation()

    def step(self, action):
        buys = self.random.random(self.n) < PURCHASE[self.tier, action]
        cost = COST[action]
        reward = buys * TICKET[self.tier] - cost
        up = buys & (self.random.random(self.n) < UP)
        down = ~buys & (self.random.random(self.n) < DOWN)
        self.tier = np.clip(self.tier + up - down, 0, N_TIERS - 1)
        self.number += 1
        is_over = np.full(self.n, self.ends and self.number == self.n_steps)
        if self.leaving:
            is_over |= self.random.random(self.n) < self.leaving
        return Outcome(reward, cost, self._situation(), is_over)

    def _situation(self):
        eligible = np.ones((self.n, self.n_actions), dtype=bool)
        eligible[:, self.closed] = False
        place = self.tier
        if self.ends:
            place = place + N_TIERS * min(self.number, self.n_steps - 1)
        return Situation(np.eye(self.n_features, dtype=np.float32)[place], eligible)
