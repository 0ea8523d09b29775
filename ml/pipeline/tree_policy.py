"""Learn: what a policy tree says of every action: what its kind brings there, by channel."""

import numpy as np

from ml.core.actions import ActionSet
from ml.core.errors import ContractError
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
    policy = np.nan_to_num(logged.logging_policy)
    mix = policy.mean(axis=0)
    ratios = []
    for outcome in (logged.value, logged.cost):
        effect = np.array([_contrast(logged, policy, outcome, k) for k in range(len(mix))])
        ratio = np.ones(actions.n_actions)
        for each in range(1, kind.max() + 1):
            same = (kind == each) & np.isfinite(effect) & (mix > 0)
            usual = float((mix * effect)[same].sum() / mix[same].sum()) if same.any() else 0.0
            if usual > 0:
                ratio[same] = np.clip(effect[same] / usual, 1 / _MOST, _MOST)
        ratios.append(ratio)
    return ratios[0], ratios[1]


def _contrast(
    logged: LoggedDecisions, policy: np.ndarray, outcome: np.ndarray, action: int
) -> float:
    """Return an action's mean effect over no offer among who could have had either, or NaN."""
    both = (policy[:, 0] > 0) & (policy[:, action] > 0)
    means = []
    for each in (action, 0):
        drawn = both & (logged.action == each)
        if not drawn.any():
            return float("nan")
        means.append(float(np.average(outcome[drawn], weights=1 / policy[drawn, each])))
    return means[0] - means[1]


def predict_by_tree(
    tree: PolicyTree,
    interactors: np.ndarray,
    actions: ActionSet,
    ratios: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value and cost effects, currency per decision, and what was measured: (n, K) each.

    What was not measured in a leaf brings nothing there.

    Parameters
    ----------
    tree
        Its options are kinds of actions, by name.
    interactors : shape (n, s)
        What it asks of.
    actions
        The action set.
    ratios
        Of ``measure_actions``.

    Raises
    ------
    ContractError
        If the tree was grown without one of the kinds.
    """
    names, kind = choose_options(actions)
    lacking = [name for name in names if name not in tree.options]
    if lacking:
        raise ContractError(
            f"the tree knows no offers of the kind {lacking}: grow it anew (make interactors "
            "CANDIDATE=1)"
        )
    column = np.array([tree.options.index(name) for name in names])[kind]
    leaves = tree.find_leaves(interactors)
    value, cost = tree.value_effect[leaves][:, column], tree.cost_effect[leaves][:, column]
    is_known = ~np.isnan(value)
    return np.nan_to_num(value) * ratios[0], cost * ratios[1], is_known
