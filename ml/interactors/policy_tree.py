"""A policy tree on interactors: few questions, and in each leaf what every offer brings there.

A causal tree of all offers at once (Athey and Imbens 2016): it is split where offers' net effects
differ most between the sides, since a budget asks who gains more and not just who gains. (A policy
tree, Athey and Wager 2021, splits only where another offer is best.) Grown on some customers, its
leaves measured on the others: what was chosen for its effect looks better where it was chosen.
"""

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import polars as pl

from ml.core.errors import ModelError, SupportError

_LAYOUT = 1
_NO_FEATURE = -1
LEAST_CUSTOMERS = 50
"""With an offer and without, in a leaf: fewer have intervals that are too narrow."""

LEAVES = {
    "leaf": pl.Int64,
    "questions": pl.String,
    "option": pl.String,
    "n_decisions": pl.Int64,
    "value_effect": pl.Float64,
    "value_low": pl.Float64,
    "value_high": pl.Float64,
    "cost_effect": pl.Float64,
}


@dataclass(frozen=True, kw_only=True)
class TreeSettings:
    """A tree's size: questions in a row, and the least decisions of a leaf."""

    max_depth: int = 4
    least_decisions: int = 1_000


@dataclass(frozen=True)
class OptionScores:
    """What n decisions say of G options (offers of a kind); the first is no offer.

    Attributes
    ----------
    names : G options
    option : shape (n,), int
        What was drawn.
    propensity : shape (n, G)
        Rows sum to 1; 0 where an option could not be drawn.
    value, cost : shape (n,), currency
        Outcomes; values may be less what was to be expected whatever was sent.
    cluster : shape (n,), int
        Customers.
    """

    names: tuple[str, ...]
    option: np.ndarray
    propensity: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    cluster: np.ndarray

    def weigh(self, outcome: np.ndarray) -> np.ndarray:
        """Return inverse-probability scores, shape (n, G): their mean is what an option brings."""
        own = np.arange(len(self.names)) == self.option[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(own, outcome[:, None] / self.propensity, 0.0)
        return np.asarray(scores)

    def take(self, rows: np.ndarray) -> "OptionScores":
        """Return some decisions, by a mask."""
        return OptionScores(
            self.names,
            self.option[rows],
            self.propensity[rows],
            self.value[rows],
            self.cost[rows],
            self.cluster[rows],
        )


@dataclass(frozen=True)
class PolicyTree:
    """Questions about interactors, and the effects of options in each leaf.

    Attributes
    ----------
    names : s interactors
    is_log : shape (s,), bool
        Whose values are log (1 + what they are called).
    options : G options
    feature : shape (N,), int
        Of each node, -1 in a leaf.
    threshold : shape (N,)
        At most it: left.
    left, right : shape (N,), int
    value_effect, cost_effect : shape (N, G), currency per decision over no offer
        Of leaves; the first column is 0. Value is NaN where too few had the option.
    """

    names: tuple[str, ...]
    is_log: np.ndarray
    options: tuple[str, ...]
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value_effect: np.ndarray
    cost_effect: np.ndarray

    def find_leaves(self, interactors: np.ndarray) -> np.ndarray:
        """Return each row's leaf, shape (n,), of interactors, shape (n, s)."""
        return _descend(self.feature, self.threshold, self.left, self.right, interactors)

    def keep_asked(self) -> "PolicyTree":
        """Return it without the interactors that it doesn't ask of."""
        is_inner = self.feature != _NO_FEATURE
        asked = np.unique(self.feature[is_inner])
        feature = self.feature.copy()
        feature[is_inner] = np.searchsorted(asked, feature[is_inner])
        names = tuple(self.names[each] for each in asked)
        return replace(self, names=names, is_log=self.is_log[asked], feature=feature)

    def name_question(self, node: int, sign: str = "<=") -> str:
        """Return what an inner node asks; yes is to the left."""
        asked, at = self.feature[node], self.threshold[node]
        at = np.expm1(at) if self.is_log[asked] else at
        return f"{self.names[asked]} {sign} {at:.3g}"

    def explain(self, leaf: int) -> str:
        """Return the questions that lead to a leaf, as words."""
        parents = {
            int(child): (node, sign)
            for node in range(len(self.feature))
            if self.feature[node] != _NO_FEATURE
            for child, sign in ((self.left[node], "<="), (self.right[node], ">"))
        }
        words = []
        while leaf in parents:
            leaf, sign = parents[leaf]
            words.append(self.name_question(leaf, sign))
        return " and ".join(reversed(words)) or "everybody"


def grow_tree(
    scores: OptionScores,
    interactors: np.ndarray,
    names: tuple[str, ...],
    *,
    is_growing: np.ndarray,
    is_log: np.ndarray | None = None,
    settings: TreeSettings | None = None,
) -> tuple[PolicyTree, pl.DataFrame]:
    """Grow a tree on some customers and measure its leaves on the others.

    Parameters
    ----------
    scores
        n decisions.
    interactors : shape (n, s)
        What may be asked.
    names
        Of the s interactors.
    is_growing : shape (n,), bool
        Decisions that choose the questions; the others measure.
    is_log : shape (s,), bool
        Whose values are log (1 + what they are called); None: nobody's.
    settings
        None takes the defaults.

    Returns
    -------
    tuple
        The tree, and ``LEAVES``: per leaf and option the effects over no offer with 95 % intervals
        by customer, on the decisions that measure; no effect on value where too few had the option.

    Raises
    ------
    SupportError
        If either part has too few decisions for a leaf.
    """
    # Whoever only reads a tree needs no learner.
    from sklearn.tree import DecisionTreeRegressor

    settings = settings or TreeSettings()
    fewest = min(int(is_growing.sum()), int((~is_growing).sum()))
    if fewest < settings.least_decisions:
        raise SupportError(
            f"{fewest} decisions to grow a tree on or to measure it by: it needs "
            f"{settings.least_decisions:,} in a leaf"
        )
    grown = DecisionTreeRegressor(
        max_depth=settings.max_depth, min_samples_leaf=settings.least_decisions, random_state=0
    )
    growing = scores.take(is_growing)
    weighed = growing.weigh(growing.value - growing.cost)
    gain, is_known = weighed[:, 1:] - weighed[:, :1], growing.propensity[:, 1:] > 0
    usual = (gain * is_known).sum(axis=0) / np.maximum(is_known.sum(axis=0), 1)
    # What could not be drawn says nothing of where to split.
    grown.fit(interactors[is_growing], np.where(is_known, gain, usual))
    nodes = grown.tree_
    is_leaf = nodes.children_left < 0
    shape = (len(is_leaf), len(scores.names))
    tree = PolicyTree(
        names,
        np.zeros(len(names), dtype=bool) if is_log is None else is_log,
        scores.names,
        np.where(is_leaf, _NO_FEATURE, nodes.feature),
        np.where(is_leaf, 0.0, nodes.threshold),
        nodes.children_left,
        nodes.children_right,
        np.zeros(shape),
        np.zeros(shape),
    )
    measured = scores.take(~is_growing)
    leaves = tree.find_leaves(interactors[~is_growing])
    rows = []
    usual_cost = [_contrast(measured, measured.cost, each) for each in range(len(scores.names))]
    for leaf in np.flatnonzero(is_leaf):
        own = measured.take(leaves == leaf)
        for option, name in enumerate(scores.names):
            found = _contrast(own, own.value, option)
            spent = _contrast(own, own.cost, option) or usual_cost[option] or (0.0, 0.0)
            # Of an offer that hardly anybody got there nothing is known.
            value, reach = found or (np.nan, None)
            cost = spent[0]
            tree.value_effect[leaf, option], tree.cost_effect[leaf, option] = value, cost
            rows.append(
                {
                    "leaf": int(leaf),
                    "questions": tree.explain(int(leaf)),
                    "option": name,
                    "n_decisions": int((own.option == option).sum()),
                    "value_effect": None if reach is None else value,
                    "value_low": None if reach is None else value - reach,
                    "value_high": None if reach is None else value + reach,
                    "cost_effect": cost,
                }
            )
    return tree, pl.DataFrame(rows, schema=LEAVES)


def _contrast(own: OptionScores, outcome: np.ndarray, option: int) -> tuple[float, float] | None:
    """Return an option's effect over no offer and half its 95 % interval, by customer.

    Means weighted by inverse probabilities that sum to 1 (Hajek) among decisions that could have
    had either; None where fewer than ``LEAST_CUSTOMERS`` had one of them.
    """
    if option == 0:
        return 0.0, 0.0
    both = (own.propensity[:, 0] > 0) & (own.propensity[:, option] > 0)
    for which in (0, option):
        drawn = np.unique(own.cluster[both & (own.option == which)])
        if len(drawn) < LEAST_CUSTOMERS:
            return None
    influence = np.zeros(int(both.sum()))
    effect = 0.0
    for which, sign in ((option, 1.0), (0, -1.0)):
        drawn = own.option[both] == which
        weight = np.where(drawn, 1 / own.propensity[both, which], 0.0)
        total = max(float(weight.sum()), 1e-300)
        mean = float((weight * outcome[both]).sum()) / total
        effect += sign * mean
        influence += sign * weight * (outcome[both] - mean) / total
    sums = np.bincount(np.unique(own.cluster[both], return_inverse=True)[1], influence)
    return effect, 1.96 * float(np.sqrt((sums**2).sum()))


def _descend(
    feature: np.ndarray,
    threshold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    interactors: np.ndarray,
) -> np.ndarray:
    node = np.zeros(len(interactors), dtype=np.int64)
    # No path is longer than there are nodes.
    for _ in range(len(feature)):
        asked = feature[node]
        is_inner = asked != _NO_FEATURE
        if not is_inner.any():
            break
        rows = np.flatnonzero(is_inner)
        here = node[rows]
        # As it was grown: single precision.
        goes_left = interactors[rows, asked[rows]].astype(np.float32) <= threshold[here]
        node[rows] = np.where(goes_left, left[here], right[here])
    return node


def write_tree(tree: PolicyTree) -> str:
    """Return a tree as JSON; null is what was not measured."""
    described = {
        name: each.tolist() if isinstance(each, np.ndarray) else list(each)
        for name, each in asdict(tree).items()
    }
    described["value_effect"] = [
        [None if np.isnan(each) else float(each) for each in node] for node in tree.value_effect
    ]
    return json.dumps({"layout": _LAYOUT, **described}, indent=2)


def read_tree(text: str) -> PolicyTree:
    """Read a tree.

    Raises
    ------
    ModelError
        If the text is of another layout.
    """
    described = json.loads(text)
    if described.pop("layout") != _LAYOUT:
        raise ModelError("a tree of another layout: grow it anew")
    names, options = (tuple(described.pop(each)) for each in ("names", "options"))
    arrays = {name: np.array(each) for name, each in described.items()}
    arrays["value_effect"] = np.array(described["value_effect"], dtype=float)
    return PolicyTree(names=names, options=options, **arrays)
