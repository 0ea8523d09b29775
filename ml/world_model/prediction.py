"""The prediction adapter: visit, purchase and value from a frozen state and today's actions.

One small network for all outcomes. An outcome's score is f(x) + sum_k a_k g_k(x): what would be
without actions, and what each adds. A plain network of (x, a) may ignore a; here g is shrunken
towards a constant, not away.
"""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ml.core.errors import ModelError
from ml.world_model.chance import seed_generator

Kind = Literal["binary", "number"]
_LEAST_SCALE = 0.25
_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class PredictionConfig:
    """How an adapter is fitted; sizes and dropout are those published, batches are larger.

    ``effect_decay`` shrinks the variable part of what actions add; ``patience`` is in epochs
    without a better loss on the customers that are held out, a ``validation_share`` of all.
    """

    hidden: tuple[int, ...] = (64, 32, 16)
    dropout: float = 0.1
    learning_rate: float = 2e-3
    batch_size: int = 1024
    n_epochs: int = 30
    patience: int = 4
    effect_decay: float = 1e-3
    validation_share: float = 0.1
    seed: int = 0


class _Trunk(torch.nn.Module):
    """Shared layers, then for every outcome f and one g per action."""

    def __init__(self, n_inputs: int, n_outcomes: int, n_actions: int, config: PredictionConfig):
        super().__init__()
        layers: list[torch.nn.Module] = []
        sizes = (n_inputs, *config.hidden)
        for below, above in itertools.pairwise(sizes):
            layers += [
                torch.nn.Linear(below, above),
                torch.nn.ReLU(),
                torch.nn.Dropout(config.dropout),
            ]
        self.body = torch.nn.Sequential(*layers)
        self.base = torch.nn.Linear(sizes[-1], n_outcomes)
        # Zeros at first: what actions add is learned, not left over from the beginning.
        self.effect = torch.nn.Linear(sizes[-1], n_outcomes * max(1, n_actions))
        torch.nn.init.zeros_(self.effect.weight)
        torch.nn.init.zeros_(self.effect.bias)
        self.shape = (n_outcomes, n_actions)

    def forward(self, inputs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return scores, shape (n, outcomes)."""
        seen = self.body(inputs)
        score: torch.Tensor = self.base(seen)
        if self.shape[1]:
            added = self.effect(seen).view(-1, *self.shape)
            score = score + (added * actions[:, None, :]).sum(dim=2)
        return score


@dataclass(frozen=True)
class PredictionAdapter:
    """A fitted adapter; ``outcomes`` maps each name to its kind, in the order of the scores."""

    outcomes: Mapping[str, Kind]
    n_actions: int
    trunk: torch.nn.Module
    means: torch.Tensor
    scales: torch.Tensor
    units: torch.Tensor
    losses: tuple[float, ...]

    @torch.no_grad()
    def predict(self, state: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
        """Return each outcome's expectation, shape (n,): a probability, or a number in its unit.

        Parameters
        ----------
        state : shape (n, d)
            Beliefs, and what else it was fitted with.
        actions : shape (n, n_actions)
            Which are taken, 0 or 1.
        """
        scores = np.concatenate(
            [
                self.trunk(
                    (_to_tensor(state[i : i + _ROWS]) - self.means) / self.scales,
                    _to_tensor(actions[i : i + _ROWS]),
                ).numpy()
                for i in range(0, max(1, len(state)), _ROWS)
            ]
        )
        found = {}
        for place, (name, kind) in enumerate(self.outcomes.items()):
            column = scores[:, place]
            found[name] = (
                1 / (1 + np.exp(-column))
                if kind == "binary"
                else column * float(self.units[place, 1]) + float(self.units[place, 0])
            )
        return found


def fit_prediction(
    state: np.ndarray,
    actions: np.ndarray,
    outcomes: Mapping[str, np.ndarray],
    customer: np.ndarray,
    config: PredictionConfig,
    *,
    progress: Callable[[int, float], None] = lambda _epoch, _loss: None,
) -> PredictionAdapter:
    """Fit an adapter on customer-days.

    Parameters
    ----------
    state : shape (n, d)
        Beliefs, and what else is known before the actions.
    actions : shape (n, n_actions)
        Which were taken, 0 or 1.
    outcomes
        Name to values, shape (n,): bool is predicted by its probability, anything else by its mean.
    customer : shape (n,), int
        Whose day; customers are held out whole for early stopping.
    config
        How.
    progress
        Called after each epoch with it and the loss of those held out.

    Returns
    -------
    PredictionAdapter
        The best by that loss.

    Raises
    ------
    ModelError
        If there are fewer than two customers, or a value is not a number.
    """
    kinds: dict[str, Kind] = {
        name: "binary" if values.dtype == bool else "number" for name, values in outcomes.items()
    }
    target = np.column_stack([np.asarray(values, dtype=np.float32) for values in outcomes.values()])
    for name, values in (("state", state), ("actions", actions), ("outcomes", target)):
        if not np.isfinite(values).all():
            raise ModelError(f"{name} of the prediction adapter has values that are not numbers")
    is_held = _hold_out(customer, config)
    units = np.array(
        [
            (0.0, 1.0)
            if kind == "binary"
            else (target[~is_held, i].mean(), max(float(target[~is_held, i].std()), 1e-9))
            for i, kind in enumerate(kinds.values())
        ],
        dtype=np.float32,
    )
    scaled = _to_tensor((target - units[:, 0]) / units[:, 1])
    inputs, taken = _to_tensor(state), _to_tensor(actions)
    means = inputs[torch.from_numpy(~is_held)].mean(dim=0)
    # A column that hardly varies is not blown up.
    scales = inputs[torch.from_numpy(~is_held)].std(dim=0).clamp_min(_LEAST_SCALE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        trunk = _Trunk(inputs.shape[1], len(kinds), taken.shape[1], config)
        losses = _fit_trunk(
            trunk,
            (inputs.sub_(means).div_(scales), taken, scaled),
            torch.from_numpy(is_held),
            list(kinds.values()),
            config,
            progress,
        )
    return PredictionAdapter(
        kinds, taken.shape[1], trunk, means, scales, torch.from_numpy(units), losses
    )


def _hold_out(customer: np.ndarray, config: PredictionConfig) -> np.ndarray:
    """Return whose days are held out, shape (n,), bool."""
    everybody = np.unique(customer)
    if len(everybody) < 2:
        raise ModelError("the prediction adapter needs at least two customers, one held out")
    n_held = max(1, round(config.validation_share * len(everybody)))
    chosen = np.random.default_rng(config.seed).permutation(everybody)[:n_held]
    return np.isin(customer, chosen)


def _fit_trunk(
    trunk: _Trunk,
    data: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    is_held: torch.Tensor,
    kinds: Sequence[Kind],
    config: PredictionConfig,
    progress: Callable[[int, float], None],
) -> tuple[float, ...]:
    """Train by Adam until the held-out loss no longer falls; keep the best."""
    generator = seed_generator(config.seed, 0, 0, torch.device("cpu"))
    rows = (~is_held).nonzero().squeeze(1)
    held = [each[is_held] for each in data]
    groups: list[dict[str, Any]] = [
        {"params": [*trunk.body.parameters(), *trunk.base.parameters(), trunk.effect.bias]},
        {"params": [trunk.effect.weight], "weight_decay": config.effect_decay},
    ]
    optimiser = torch.optim.Adam(groups, lr=config.learning_rate)
    losses: list[float] = []
    best = copy.deepcopy(trunk.state_dict())
    for epoch in range(config.n_epochs):
        trunk.train()
        order = rows[torch.randperm(len(rows), generator=generator)]
        for chosen in torch.split(order, config.batch_size):
            inputs, actions, target = (each[chosen] for each in data)
            with torch.enable_grad():
                loss = _measure_loss(trunk(inputs, actions), target, kinds)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
            optimiser.step()
        trunk.eval()
        with torch.no_grad():
            losses.append(float(_measure_loss(trunk(held[0], held[1]), held[2], kinds)))
        progress(epoch + 1, losses[-1])
        if losses[-1] <= min(losses):
            best = copy.deepcopy(trunk.state_dict())
        elif epoch + 1 - int(np.argmin(losses)) > config.patience:
            break
    trunk.load_state_dict(best)
    trunk.eval()
    return tuple(losses)


def _measure_loss(
    scores: torch.Tensor, target: torch.Tensor, kinds: Sequence[Kind]
) -> torch.Tensor:
    """Return the mean over outcomes of cross-entropy or half the squared error."""
    parts = [
        torch.nn.functional.binary_cross_entropy_with_logits(scores[:, i], target[:, i])
        if kind == "binary"
        else 0.5 * (scores[:, i] - target[:, i]).pow(2).mean()
        for i, kind in enumerate(kinds)
    ]
    return torch.stack(parts).mean()


def _to_tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32, copy=True))
