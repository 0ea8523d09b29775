"""Fitted Q evaluation: what a policy's journeys are worth, by regression on a log of another's.

The regression averages: a value is a mean of logged ones, by trees that are grown once (Ernst et
al. 2005, Ormoneit and Sen 2002). So it can't diverge, and says nothing that the log doesn't hold;
regressions that extrapolate, such as linear ones, did both on logs of few offers (ADR 0026).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from ml.core.errors import SupportError
from ml.core.journeys import Choices, Transitions, measure_spread
from ml.core.policy import draw_actions

_LEAST_TAKEN = 10
_REWARD_WEIGHT = 10.0


@dataclass(frozen=True)
class LogTrees:
    """Trees grown on a log; every policy's values are means over their leaves.

    One forest for each kind of action, by ``kinds``, shape (K,); ``first``, shape (kinds, T), is
    each tree's first node among all; ``described``, shape (K, P), is what trees know of actions.
    """

    log: Transitions
    forests: tuple[ExtraTreesRegressor, ...]
    first: np.ndarray
    kinds: np.ndarray
    described: np.ndarray

    def find_leaves(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Return the place of each tree's leaf, shape (n, T)."""
        features = np.column_stack([state, self.described[action]]).astype(np.float32)
        kind = self.kinds[action]
        leaves = np.zeros((len(state), self.first.shape[1]), dtype=np.int64)
        for at, forest in enumerate(self.forests):
            rows = np.flatnonzero(kind == at)
            if rows.size:
                leaves[rows] = forest.apply(features[rows]) + self.first[at]
        return leaves


@dataclass(frozen=True)
class FittedValues:
    """Action values of a policy's journeys: ``means`` of logged values by node, over the trees.

    ``left`` is the most that further iterations may still move a value, currency.
    """

    trees: LogTrees
    means: np.ndarray
    left: float

    def value(self, state: np.ndarray) -> np.ndarray:
        """Return action values, shape (n, K), currency."""
        n, n_actions = len(state), len(self.trees.described)
        return np.column_stack(
            [
                self.means[self.trees.find_leaves(state, np.full(n, action))].mean(axis=1)
                for action in range(n_actions)
            ]
        )


def grow_trees(
    log: Transitions,
    *,
    described: np.ndarray | None = None,
    kinds: np.ndarray | None = None,
    n_trees: int = 30,
    least_rows: int = 20,
    seed: int = 0,
) -> LogTrees:
    """Grow trees that split a log's steps by what predicts reward and next state.

    Parameters
    ----------
    log
        Transitions. Where a policy to be valued leaves customers alone, or never does, so must some
        of the log's: an average can't know what is not there.
    described : shape (K, P), optional
        Attributes of actions, such as face value and channel; default: whether it is an offer, and
        which.
    kinds : shape (K,), optional
        Kind of each action, 0 to the last: each has trees of its own, so that no tree averages over
        actions of two kinds, however little they differ in the next step. Default: one kind.
    n_trees, least_rows
        Trees, and steps in a leaf.
    seed
        Of the trees.

    Returns
    -------
    LogTrees
        For ``fit_values``.

    Raises
    ------
    SupportError
        If the log is empty.
    """
    if log.n_steps == 0:
        raise SupportError("the log holds no step: no journey can be valued")
    n_actions = log.eligible.shape[1]
    if described is None:
        described = np.column_stack([np.arange(n_actions) > 0, np.eye(n_actions)])
    kinds = np.zeros(n_actions, dtype=np.int64) if kinds is None else kinds
    features, targets = np.column_stack([log.state, described[log.action]]), _list_targets(log)
    logged, kind = np.unique(kinds[log.action], return_inverse=True)
    forests = [
        ExtraTreesRegressor(
            n_trees, min_samples_leaf=least_rows, max_features=0.5, n_jobs=1, random_state=seed
        ).fit(features[kind == each], targets[kind == each])
        for each in range(len(logged))
    ]
    # A kind that the log lacks has no trees; fit_values refuses policies that take its actions.
    kinds = np.searchsorted(logged, kinds) * np.isin(kinds, logged)
    sizes = [tree.tree_.node_count for forest in forests for tree in forest.estimators_]
    first = np.cumsum([0, *sizes[:-1]]).reshape(len(forests), n_trees)
    return LogTrees(log, tuple(forests), first, kinds, described)


def list_kinds(face_values: np.ndarray) -> np.ndarray:
    """Return each action's kind, shape (K,): no offer, messages alone, and face value by value.

    Parameters
    ----------
    face_values : shape (K,), currency
        Column 0 is no offer.

    Returns
    -------
    np.ndarray
        For ``grow_trees``.
    """
    kinds = np.unique(face_values[1:], return_inverse=True)[1] + 1
    return np.concatenate([[0], kinds])


def fit_values(
    trees: LogTrees,
    choices: Choices,
    *,
    discount: float,
    n_iterations: int = 2_000,
    tolerance: float = 1e-2,
    seed: int = 0,
) -> FittedValues:
    """Fit a policy's action values to a log of any policy that takes its actions too.

    Q_k+1(s, a) is the mean of r + discount Q_k(s', b) over the logged steps in the leaves of (s, a)
    (Le, Voloshin and Yue 2019), b drawn from the policy once.

    Parameters
    ----------
    trees
        Of the log.
    choices
        Of the policy to be valued, in that log.
    discount
        Of the next step, below 1.
    n_iterations, tolerance
        At most so many; ends where all that iterations may still add is below the tolerance x the
        values' standard deviation.
    seed
        Of the draws.

    Returns
    -------
    FittedValues
        Of a model class that no agent has.

    Raises
    ------
    SupportError
        If an action that the policy takes is hardly in the log.
    """
    log, n_actions = trees.log, trees.log.eligible.shape[1]
    random = np.random.default_rng([seed, 21])
    # After its end a journey has no action, and perhaps none that would be eligible.
    goes_on = ~log.is_over
    following = np.zeros(log.n_steps, dtype=np.int64)
    chosen = choices.then[goes_on]
    following[goes_on] = draw_actions(chosen, random.random(len(chosen)))
    wanted = chosen.sum(axis=0) + choices.now.sum(axis=0)
    taken = np.bincount(log.action, minlength=n_actions)
    rare = np.flatnonzero((wanted > 0) & (taken < _LEAST_TAKEN)).tolist()
    if rare:
        raise SupportError(
            f"the policy takes actions {rare}, which the log holds less than {_LEAST_TAKEN} times: "
            "their journeys can't be valued"
        )
    after = trees.find_leaves(log.next_state, following)
    places = trees.find_leaves(log.state, log.action).ravel()
    n_nodes, n_trees = int(max(places.max(), after.max())) + 1, after.shape[1]
    counts = np.maximum(np.bincount(places, minlength=n_nodes), 1)
    before, means, left = np.zeros(log.n_steps), np.zeros(n_nodes), np.inf
    for _ in range(n_iterations):
        target = np.repeat(log.reward + discount * before, n_trees)
        means = np.bincount(places, weights=target, minlength=n_nodes) / counts
        value = np.where(goes_on, means[after].mean(axis=1), 0.0)
        left = float(np.abs(value - before).max()) * discount / (1 - discount)
        before = value
        if left <= tolerance * float(value.std()):
            break
    return FittedValues(trees, means, left)


def _list_targets(log: Transitions) -> np.ndarray:
    """Return what trees should tell apart, shape (m, 1 + F): reward, and how the state moves.

    All standardised; squared errors of the reward, which alone is valued, count a hundred times.
    """
    moved = log.next_state - log.state
    then = moved / measure_spread(moved)
    reward = _REWARD_WEIGHT * log.reward / (float(log.reward.std()) or 1.0)
    return np.column_stack([reward, then])
