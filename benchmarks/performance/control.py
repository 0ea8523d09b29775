"""How fast journeys are lived and learned from: python -m benchmarks.performance.control.

The bakery for 100,000 customers at once, against gymnasium's vector loop over environments of one
customer each with the same dynamics; and gradient steps of one network of ours.
"""

import argparse
import json
import time
from typing import Any

import gymnasium
import numpy as np
import torch

from ml.control.agent import AgentSettings
from ml.control.training import train_offline
from ml.core.journeys import choose_evenly, live_journeys
from ml.simulate.journeys import BakeryJourneys
from ml.simulate.worlds import BAKERY

_LOOPED = 32


class OneCustomer(gymnasium.Env[np.ndarray, np.int64]):
    """The bakery's environment for one customer, as gymnasium would have it."""

    def __init__(self, n_steps: int) -> None:
        self._journeys = BakeryJourneys(BAKERY, n_customers=1, n_steps=n_steps, burn_in_weeks=0)
        size = (self._journeys.n_features,)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, size, np.float32)
        self.action_space = gymnasium.spaces.Discrete(self._journeys.n_actions)
        self._left = n_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a journey."""
        super().reset(seed=seed, options=options)
        now = self._journeys.begin(seed or 0)
        self._eligible = now.eligible[0]
        return now.state[0], {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Live a week."""
        taken = action if self._eligible[action] else 0
        came = self._journeys.step(np.array([taken]))
        self._eligible = came.then.eligible[0]
        return came.then.state[0], float(came.reward[0]), False, False, {}


def main() -> int:
    """Measure, print a table and a line."""
    parser = argparse.ArgumentParser(prog="control", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 customers, few steps")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    n, n_steps, n_updates = (10_000, 2, 100) if parsed.quick else (100_000, 6, 1_000)
    together = _live_together(n, n_steps)
    looped = _live_looped(4 if parsed.quick else 26)
    log = live_journeys(BakeryJourneys(BAKERY, n_customers=2_000, n_steps=4), choose_evenly, seed=1)
    started = time.process_time()
    train_offline(log, AgentSettings(n_members=1, n_updates=n_updates))
    milliseconds = 1000 * (time.process_time() - started) / n_updates
    print(f"{n:,} customers at once        {together:12,.0f} customer-weeks a second")
    print(f"gymnasium, {_LOOPED} in a vector loop {looped:8,.0f}")
    print(f"a gradient step of 256 transitions, 64-64 units: {milliseconds:.2f} ms of CPU")
    figures = {
        "steps_per_second": together,
        "gymnasium_ratio": together / looped,
        "update_ms": milliseconds,
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    return 0


def _live_together(n: int, n_steps: int) -> float:
    """Return customer-weeks a second of all at once."""
    bakery = BakeryJourneys(BAKERY, n_customers=n, burn_in_weeks=0)
    now = bakery.begin(1)
    random = np.random.default_rng(1)
    started = time.perf_counter()
    for _ in range(n_steps):
        noise = np.where(now.eligible, random.random(now.eligible.shape), -1.0)
        now = bakery.step(noise.argmax(axis=1)).then
    return n * n_steps / (time.perf_counter() - started)


def _live_looped(n_steps: int) -> float:
    """Return customer-weeks a second of gymnasium's vector loop."""
    loop = gymnasium.vector.SyncVectorEnv([lambda: OneCustomer(n_steps)] * _LOOPED)
    loop.reset(seed=1)
    random = np.random.default_rng(1)
    started = time.perf_counter()
    for _ in range(n_steps):
        loop.step(random.integers(0, len(BAKERY.offers), _LOOPED))
    return _LOOPED * n_steps / (time.perf_counter() - started)


if __name__ == "__main__":
    raise SystemExit(main())
