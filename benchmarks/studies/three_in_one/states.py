"""A Purchase World as its contenders see it: raw units, beliefs, and histories of both."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.studies.three_in_one.features import list_visible, make_layout
from ml.simulate.purchase_world import (
    PURCHASE_WORLDS,
    PurchaseConfig,
    PurchaseHistory,
    PurchaseTruth,
    compute_purchase_truth,
    simulate_purchases,
)
from ml.world_model.belief import infer_belief
from ml.world_model.learning import TrainingConfig
from ml.world_model.network import Network
from ml.world_model.training import train_network

TRAINING, VALIDATION, TEST = slice(0, 305), slice(305, 335), slice(335, 365)
ACTIONS = ("push", "sale1", "sale2", "campaign", "coupon")
_PRIOR_DAYS = 5


@dataclass(frozen=True)
class Seen:
    """A world and its states, each of shape (n_days, n, d); ``actions`` are of the day itself."""

    config: PurchaseConfig
    history: PurchaseHistory
    truth: PurchaseTruth
    network: Network
    states: dict[str, np.ndarray]
    actions: np.ndarray

    @property
    def moderators(self) -> np.ndarray:
        """What a consumer was so far: the belief's own mean and rates, (n_days, n, d + 2)."""
        return self.states["belief_history"][..., self.states["belief"].shape[2] :]

    @property
    def customer(self) -> np.ndarray:
        """Whose day, shape (n_days, n)."""
        return np.broadcast_to(np.arange(self.config.n_customers), self.actions.shape[:2])


def see_world(world: str, seed: int, n_customers: int, training: TrainingConfig) -> Seen:
    """Simulate a world, train a network on its first 305 days, and infer every day's belief.

    Parameters
    ----------
    world
        Name.
    seed, n_customers
        Of the world.
    training
        Of the network.

    Returns
    -------
    Seen
        States raw, belief; raw_history and belief_history add each consumer's own rates of visits
        and purchases before the day, as log-odds, and the belief's own mean before it.
    """
    config = replace(PURCHASE_WORLDS[world], seed=seed, n_customers=n_customers)
    history = simulate_purchases(config)
    visible = list_visible(config, history)
    n_units = visible.shape[2]
    layout = make_layout(len(config.store_shares))
    rows = torch.from_numpy(visible[TRAINING].reshape(-1, n_units)).float()
    network = train_network(rows, layout, training).network
    flat = infer_belief(network, visible.reshape(-1, n_units))
    belief = flat.reshape(*visible.shape[:2], -1)
    rates = np.stack([_recall_rate(each) for each in (history.visits, history.purchases)], axis=2)
    raw = visible.astype(np.float32)
    return Seen(
        config,
        history,
        compute_purchase_truth(config, history),
        network,
        {
            "raw": raw,
            "belief": belief,
            "raw_history": np.concatenate([raw, rates], axis=2),
            "belief_history": np.concatenate([belief, _recall_mean(belief), rates], axis=2),
        },
        np.stack(
            [history.push, history.sale1, history.sale2, history.campaign, history.coupon], axis=2
        ).astype(np.float32),
    )


def flatten(values: np.ndarray, days: slice) -> np.ndarray:
    """Return the rows of some days, shape (rows, d) or (rows,)."""
    part = values[days]
    return part.reshape(part.shape[0] * part.shape[1], *part.shape[2:])


def _recall_rate(happened: np.ndarray) -> np.ndarray:
    """Return the log-odds of each consumer's rate before each day, drawn to the mean at first."""
    before = np.cumsum(happened, axis=0, dtype=np.float64) - happened
    days = np.arange(len(happened))[:, None]
    rate = (before + _PRIOR_DAYS * happened[TRAINING].mean()) / (days + _PRIOR_DAYS)
    return np.log(rate / (1 - rate)).astype(np.float32)


def _recall_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each consumer's values before each day; the day's own on the first."""
    before = np.cumsum(values, axis=0, dtype=np.float64) - values
    mean = before / np.maximum(np.arange(len(values)), 1)[:, None, None]
    mean[0] = values[0]
    return mean.astype(np.float32)
