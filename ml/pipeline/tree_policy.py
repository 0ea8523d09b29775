"""Learn: what a policy tree says of every action: what its kind brings there, by channel."""

import numpy as np

from ml.core.actions import ActionSet
from ml.core.logged import LoggedDecisions
from ml.interactors.policy_tree import PolicyTree
from ml.pipeline.find_interactors import choose_options

_MOST = 2.0


def measure_actions(logged: LoggedDecisions, actions: ActionSet) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of its kind's effect each action has, over everybody.

    Weighted means by inverse probabilities. An action differs from others of its kind by its
    channel, which a tree of kinds doesn't know.

    Parameters
    ----------
    logged
        Decisions with every action's propensity.
    actions
        The action set.

    Returns
    -------
    tuple
        Of value and of cost: shape (K,) each, between a half and 2; 1 where the log lacks the
        action or the kind's effect is not above 0.
    """
    _, kind = choose_options(actions)
    own = np.arange(actions.n_actions) == logged.action[:, None]
    policy = np.nan_to_num(logged.logging_policy)
    weight = np.where(own, 1 / np.where(policy > 0, policy, 1), 0.0)
    ratios = []
    for outcome in (logged.value, logged.cost):
        mean = (weight * outcome[:, None]).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
        effect = mean - mean[0]
        ratio = np.ones(actions.n_actions)
        for each in range(1, kind.max() + 1):
            same = (kind == each) & (weight.sum(axis=0) > 0)
            usual = float(effect[same].mean()) if same.any() else 0.0
            if usual > 0:
                ratio[same] = np.clip(effect[same] / usual, 1 / _MOST, _MOST)
        ratios.append(ratio)
    return ratios[0], ratios[1]


def predict_by_tree(
    tree: PolicyTree,
    interactors: np.ndarray,
    actions: ActionSet,
    ratios: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return value and cost effects, shape (n, K) each, currency per decision.

    Parameters
    ----------
    tree
        Its options are the kinds of the actions.
    interactors : shape (n, s)
        What it asks of.
    actions
        The action set.
    ratios
        Of ``measure_actions``.
    """
    _, kind = choose_options(actions)
    leaves = tree.find_leaves(interactors)
    value, cost = tree.value_effect[leaves][:, kind], tree.cost_effect[leaves][:, kind]
    return value * ratios[0], cost * ratios[1]
