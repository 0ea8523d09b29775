"""An agent: action values of situations by an ensemble of small networks, and what it would do."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ml.core.errors import ModelError
from ml.core.journeys import Situation

_LAYOUT = 1
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """How an agent is built and learns.

    Attributes
    ----------
    hidden
        Units of the hidden layers.
    is_dueling
        Values as V(s) + A(s, a) - mean A (Wang et al. 2016).
    is_double
        The next action by the network, its value by the target (van Hasselt et al. 2016).
    target_rate
        Of the target network's moving average; 0: no target network.
    discount
        Of the next step's value.
    learning_rate, batch_size, buffer_size, n_updates
        Adam's, falling to 0 as half a cosine; transitions a step; transitions kept; steps.
    exploration
        Share of random actions: from the first to the second over the third's share of the steps.
    n_members
        Networks, each from a start and an order of its own.
    pessimism
        Members' standard deviations taken off an action's advantage over no offer.
    conservatism
        Weight of conservative Q-learning's penalty (Kumar et al. 2020), for logs.
    price
        Reward that a unit of cost is worth elsewhere, taken off for it: an agent that will live
        under a budget should learn under its price.
    loss
        'l2', or 'smooth_l1' (Huber), whose minimum isn't the mean: where few buy it values them
        too low, where most buy too high.
    """

    hidden: tuple[int, ...] = (64, 64)
    is_dueling: bool = True
    is_double: bool = True
    target_rate: float = 0.005
    discount: float = 0.95
    learning_rate: float = 3e-4
    batch_size: int = 256
    buffer_size: int = 100_000
    n_updates: int = 20_000
    exploration: tuple[float, float, float] = (1.0, 0.05, 0.2)
    n_members: int = 3
    pessimism: float = 0.5
    conservatism: float = 0.0
    price: float = 0.0
    loss: str = "l2"
    seed: int = 0


PAPER = AgentSettings(
    hidden=(24,),
    is_dueling=False,
    is_double=False,
    target_rate=0.0,
    learning_rate=1e-3,
    batch_size=50,
    exploration=(1.0, 0.01, 0.5),
    n_members=1,
    pessimism=0.0,
)
"""The document's network and agent; learning rate, buffer and loss aren't stated there."""


FROM_LOGS = AgentSettings(
    hidden=(24,),
    learning_rate=1e-3,
    batch_size=8_192,
    target_rate=0.02,
    n_updates=600,
    n_members=5,
    pessimism=0.0,
)
"""Ours on logs: noise is the enemy, so large batches and few units (ADR 0026)."""


class ValueNetwork(nn.Module):
    """Action values of standardised states: (n, F) to (n, K)."""

    def __init__(
        self, n_features: int, n_actions: int, hidden: Sequence[int], *, is_dueling: bool
    ) -> None:
        super().__init__()
        sizes = (n_features, *hidden)
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.advantage = nn.Linear(sizes[-1], n_actions)
        self.value = nn.Linear(sizes[-1], 1) if is_dueling else None

    def forward(self, state: Tensor) -> Tensor:
        """Return action values, shape (n, K)."""
        body = self.body(state)
        advantage = self.advantage(body)
        if self.value is None:
            return advantage
        return self.value(body) + advantage - advantage.mean(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Agent:
    """A trained agent of M members.

    ``mean`` and ``spread``, shape (F,), standardise states; values are in ``scale`` currency.
    """

    settings: AgentSettings
    members: tuple[ValueNetwork, ...]
    mean: np.ndarray
    spread: np.ndarray
    scale: float

    @property
    def price(self) -> float:
        """Reward per unit of cost that it learned under."""
        return self.settings.price

    @property
    def discount(self) -> float:
        """Of the next step's value."""
        return self.settings.discount

    def value(self, state: np.ndarray) -> np.ndarray:
        """Return every member's action values, shape (M, n, K), currency."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(state), _ROWS_AT_ONCE):
                rows = standardise(state[start : start + _ROWS_AT_ONCE], self.mean, self.spread)
                parts.append(torch.stack([member(rows) for member in self.members]).numpy())
        return np.concatenate(parts, axis=1) * self.scale

    def find_advantages(self, state: np.ndarray) -> np.ndarray:
        """Return what each action adds over no offer, cautiously: shape (n, K), 0 for no offer.

        Mean over the members less ``pessimism`` standard deviations of their advantages.
        """
        value = self.value(state)
        advantage = value - value[:, :, :1]
        spread = advantage.std(axis=0) if len(self.members) > 1 else 0.0
        cautious = advantage.mean(axis=0) - self.settings.pessimism * spread
        cautious[:, 0] = 0.0
        return np.asarray(cautious)

    def choose(self, now: Situation) -> np.ndarray:
        """Return probabilities, shape (n, K): 1 for the eligible action of most advantage."""
        advantage = np.where(now.eligible, self.find_advantages(now.state), -np.inf)
        policy = np.zeros(advantage.shape)
        policy[np.arange(len(policy)), advantage.argmax(axis=1)] = 1.0
        return policy


def save_agent(agent: Agent, folder: Path) -> None:
    """Write an agent: ``agent.safetensors`` and ``agent.json``, no pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}.{name}": tensor.contiguous()
        for number, member in enumerate(agent.members)
        for name, tensor in member.state_dict().items()
    }
    save_file(tensors, folder / "agent.safetensors")
    n_actions = agent.members[0].advantage.out_features
    described = {
        "layout": _LAYOUT,
        "settings": asdict(agent.settings),
        "n_actions": n_actions,
        "mean": agent.mean.tolist(),
        "spread": agent.spread.tolist(),
        "scale": agent.scale,
    }
    (folder / "agent.json").write_text(json.dumps(described, indent=2))


def load_agent(folder: Path) -> Agent:
    """Read an agent.

    Raises
    ------
    ModelError
        If the files are of another layout, or don't fit each other.
    """
    described = json.loads((folder / "agent.json").read_text())
    if described["layout"] != _LAYOUT:
        raise ModelError(f"{folder}: layout {described['layout']}, not {_LAYOUT}: train it anew")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described["settings"].items()
    }
    settings = AgentSettings(**fields)
    tensors = load_file(folder / "agent.safetensors")
    members = []
    for number in range(settings.n_members):
        member = build_network(len(described["mean"]), described["n_actions"], settings)
        own = f"{number}."
        try:
            member.load_state_dict(
                {
                    name.removeprefix(own): each
                    for name, each in tensors.items()
                    if name.startswith(own)
                }
            )
        except RuntimeError as error:
            raise ModelError(f"{folder}: the networks don't fit agent.json: {error}") from error
        members.append(member)
    return Agent(
        settings,
        tuple(members),
        np.array(described["mean"]),
        np.array(described["spread"]),
        described["scale"],
    )


def standardise(state: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Tensor:
    """Return states as networks take them, shape (n, F), float32."""
    return torch.from_numpy(((state - mean) / spread).astype(np.float32))


def build_network(n_features: int, n_actions: int, settings: AgentSettings) -> ValueNetwork:
    """Return an untrained network."""
    return ValueNetwork(n_features, n_actions, settings.hidden, is_dueling=settings.is_dueling)
