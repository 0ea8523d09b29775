"""Scoring boosted trees for every action at once: codes once, then leaf masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from ml.core.compiling import IS_KEPT
from ml.core.errors import ContractError

MAX_LEAVES = 64
_BLOCK = 1_024
_ALL = np.uint64(2**64 - 1)
_NAN_KIND = 2
# Multiplying a power of two by this number leaves another six top bits for each of the 64.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_OF = np.zeros(64, dtype=np.int64)
for _bit in range(64):
    _BIT_OF[((2**_bit * int(_DE_BRUIJN)) % 2**64) >> 58] = _bit


@dataclass(frozen=True)
class Tree:
    """One tree: m inner nodes, m + 1 leaves numbered from left to right.

    ``left_leaves``, shape (m,), uint64: bit l is set where leaf l hangs below the node's left
    child. ``nan_goes_left`` says where an unknown value goes.
    """

    feature: np.ndarray
    threshold: np.ndarray
    nan_goes_left: np.ndarray
    left_leaves: np.ndarray
    leaf_value: np.ndarray


@dataclass(frozen=True)
class Forest:
    """A boosted ensemble kept as LightGBM's own text; its first ``n_context`` columns are x.

    Columns after those describe the action.
    """

    text: str
    n_context: int

    @cached_property
    def trees(self) -> tuple[Tree, ...]:
        """The trees, in order.

        Raises
        ------
        ContractError
            If a tree has a categorical split, or more than ``MAX_LEAVES`` leaves.
        """
        return tuple(_parse_tree(block) for block in self.text.split("\nTree=")[1:])

    @cached_property
    def is_joint(self) -> bool:
        """Whether it splits on the action: then it has K scores a row, else one."""
        return any((tree.feature >= self.n_context).any() for tree in self.trees)


def score_forests(
    forests: Sequence[Forest], context: np.ndarray, descriptors: np.ndarray
) -> list[np.ndarray]:
    """Return each forest's raw scores, equal to LightGBM's to the last bit.

    Every value becomes the number of thresholds below it, once for all forests. In a tree, each
    node that sends a row to the right closes the leaves of its left side; the lowest open leaf is
    the row's. A column's code looks up what all its nodes close; what the action closes is known
    beforehand, so K actions cost little more than one.

    Parameters
    ----------
    forests
        Of one context schema.
    context : shape (n, d), NaN where unknown
        Features.
    descriptors : shape (K, p)
        The actions.

    Returns
    -------
    list
        Shape (n, K) for a forest that splits on the action, else (n,).

    References
    ----------
    Lucchese et al. (2015), QuickScorer, SIGIR, section 3.
    """
    thresholds = _collect_thresholds(forests, context.shape[1])
    widths = [len(descriptors) if forest.is_joint else 1 for forest in forests]
    out = np.zeros((len(context), sum(widths)))
    if forests and len(context):
        starts = np.cumsum([0, *(len(each) for each in thresholds)])
        _score(
            np.ascontiguousarray(context, dtype=np.float64),
            np.concatenate(thresholds),
            starts.astype(np.int64),
            *_lay_out(forests, thresholds, descriptors, widths),
            out,
        )
    bounds = np.cumsum([0, *widths])
    return [
        out[:, low:high] if forest.is_joint else out[:, low]
        for forest, low, high in zip(forests, bounds[:-1], bounds[1:], strict=True)
    ]


def _parse_tree(block: str) -> Tree:
    """Read one tree of LightGBM's text."""
    fields = dict(
        line.split("=", 1) for line in block.split("\n\n", 1)[0].splitlines() if "=" in line
    )
    values = _read(fields["leaf_value"], np.float64)
    if int(fields["num_cat"]) or len(values) > MAX_LEAVES:
        raise ContractError(
            f"a tree with {len(values)} leaves or categorical splits can't be scored: encode "
            f"categories as indicators, and use at most {MAX_LEAVES} leaves"
        )
    if len(values) == 1:
        empty = np.zeros(0)
        return Tree(empty.astype(int), empty, empty.astype(bool), empty.astype(np.uint64), values)
    left, right = _read(fields["left_child"], np.int64), _read(fields["right_child"], np.int64)
    left_leaves, order = _order_leaves(left.tolist(), right.tolist())
    threshold = _read(fields["threshold"], np.float64)
    # Bit 1: unknown goes left. Bits 2 and 3: 2 if the column had unknown values when it was
    # fitted; if it had none, an unknown value counts as 0.
    kinds = _read(fields["decision_type"], np.int64)
    goes_left = np.where((kinds >> 2) & 3 == _NAN_KIND, (kinds >> 1) & 1 == 1, threshold >= 0)
    return Tree(
        feature=_read(fields["split_feature"], np.int64),
        threshold=threshold,
        nan_goes_left=goes_left,
        left_leaves=left_leaves,
        leaf_value=values[order],
    )


def _read(text: str, kind: type) -> np.ndarray:
    return np.array(text.split(), dtype=kind)


def _order_leaves(left: list[int], right: list[int]) -> tuple[np.ndarray, list[int]]:
    """Return the leaves below each node's left child as bits, and the leaves from left to right."""
    masks, order = [0] * len(left), []

    def walk(node: int) -> int:
        if node < 0:
            order.append(-1 - node)
            return 1 << (len(order) - 1)
        masks[node] = walk(left[node])
        return masks[node] | walk(right[node])

    walk(0)
    return np.array(masks, dtype=np.uint64), order


def _collect_thresholds(forests: Sequence[Forest], n_context: int) -> list[np.ndarray]:
    """Return each context column's thresholds over all trees, ascending."""
    trees = [tree for forest in forests for tree in forest.trees]
    feature = np.concatenate([np.zeros(0, np.int64), *(tree.feature for tree in trees)])
    threshold = np.concatenate([np.zeros(0), *(tree.threshold for tree in trees)])
    return [np.unique(threshold[feature == column]) for column in range(n_context)]


def _lay_out(
    forests: Sequence[Forest],
    thresholds: Sequence[np.ndarray],
    descriptors: np.ndarray,
    widths: Sequence[int],
) -> tuple[np.ndarray, ...]:
    """Return the kernel's tables.

    Per tree: where its columns, leaves and actions begin, its output column, how many actions. Per
    column of a tree: the column, and where its masks of open leaves begin, one per code. Per
    action of a tree: its mask.
    """
    trees = [tree for forest in forests for tree in forest.trees]
    width = np.repeat(widths, [len(forest.trees) for forest in forests])
    outputs = np.repeat(np.cumsum([0, *widths])[:-1], [len(forest.trees) for forest in forests])
    n_context = len(thresholds)
    number = np.repeat(np.arange(len(trees)), [len(tree.feature) for tree in trees])
    feature = np.concatenate([np.zeros(0, np.int64), *(tree.feature for tree in trees)])
    threshold = np.concatenate([np.zeros(0), *(tree.threshold for tree in trees)])
    goes_left = np.concatenate([np.zeros(0, bool), *(tree.nan_goes_left for tree in trees)])
    left_leaves = np.concatenate([np.zeros(0, np.uint64), *(tree.left_leaves for tree in trees)])
    is_own = feature < n_context
    # One table per tree and column that it splits on.
    pairs, table_of = np.unique(number[is_own] * n_context + feature[is_own], return_inverse=True)
    columns = pairs % n_context
    n_codes = np.array([len(each) + 2 for each in thresholds], dtype=np.int64)
    table_starts = np.cumsum([0, *n_codes[columns]])
    tables = np.full(table_starts[-1], _ALL)
    edges = np.concatenate([np.zeros(0), *thresholds])
    starts = np.cumsum([0, *(len(each) for each in thresholds)])
    _close_by_code(
        feature[is_own],
        threshold[is_own],
        goes_left[is_own],
        left_leaves[is_own],
        table_of,
        table_starts,
        edges,
        starts,
        tables,
    )
    action_starts = np.cumsum([0, *width])
    action_masks = np.full(action_starts[-1], _ALL)
    _close_by_action(
        number[~is_own],
        feature[~is_own] - n_context,
        threshold[~is_own],
        left_leaves[~is_own],
        np.ascontiguousarray(descriptors, dtype=np.float64),
        action_starts,
        action_masks,
    )
    leaf_starts = np.cumsum([0, *(len(tree.leaf_value) for tree in trees)])
    first_column = np.searchsorted(pairs, np.arange(len(trees) + 1) * n_context)
    rows = np.column_stack(
        [first_column, leaf_starts, action_starts, [*outputs, 0], [*width, 0]]
    ).astype(np.int64)
    leaves = np.concatenate([np.zeros(0), *(tree.leaf_value for tree in trees)])
    return rows, columns, table_starts, tables, action_masks, leaves


@numba.njit(nogil=True, cache=IS_KEPT)
def _close_by_code(  # pragma: no cover (compiled)
    feature: np.ndarray,
    threshold: np.ndarray,
    nan_goes_left: np.ndarray,
    left_leaves: np.ndarray,
    table_of: np.ndarray,
    table_starts: np.ndarray,
    edges: np.ndarray,
    edge_starts: np.ndarray,
    tables: np.ndarray,
) -> None:
    """Close each node's left leaves for the codes above its threshold; the last is unknown."""
    for node in range(len(feature)):
        first, last = edge_starts[feature[node]], edge_starts[feature[node] + 1]
        position = np.searchsorted(edges[first:last], threshold[node])
        start, n_thresholds = table_starts[table_of[node]], last - first
        for code in range(position + 1, n_thresholds + 1):
            tables[start + code] &= ~left_leaves[node]
        if not nan_goes_left[node]:
            tables[start + n_thresholds + 1] &= ~left_leaves[node]


@numba.njit(nogil=True, cache=IS_KEPT)
def _close_by_action(  # pragma: no cover (compiled)
    number: np.ndarray,
    descriptor: np.ndarray,
    threshold: np.ndarray,
    left_leaves: np.ndarray,
    descriptors: np.ndarray,
    action_starts: np.ndarray,
    action_masks: np.ndarray,
) -> None:
    """Close each node's left leaves for the actions above its threshold."""
    for node in range(len(number)):
        for action in range(descriptors.shape[0]):
            if descriptors[action, descriptor[node]] > threshold[node]:
                action_masks[action_starts[number[node]] + action] &= ~left_leaves[node]


@numba.njit(nogil=True, cache=IS_KEPT)
def _score(  # pragma: no cover (compiled)
    context: np.ndarray,
    thresholds: np.ndarray,
    threshold_starts: np.ndarray,
    trees: np.ndarray,
    columns: np.ndarray,
    table_starts: np.ndarray,
    tables: np.ndarray,
    action_masks: np.ndarray,
    leaves: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add every tree's leaf values to ``out``, a block of rows at a time, trees in order."""
    n_columns = context.shape[1]
    codes = np.empty((n_columns, _BLOCK), dtype=np.int64)
    open_leaves = np.empty(_BLOCK, dtype=np.uint64)
    for start in range(0, context.shape[0], _BLOCK):
        size = min(_BLOCK, context.shape[0] - start)
        for column in range(n_columns):
            first, last = threshold_starts[column], threshold_starts[column + 1]
            for row in range(size):
                value = context[start + row, column]
                if np.isnan(value):
                    codes[column, row] = last - first + 1
                    continue
                low, high = first, last
                while low < high:
                    middle = (low + high) >> 1
                    if thresholds[middle] < value:
                        low = middle + 1
                    else:
                        high = middle
                codes[column, row] = low - first
        for tree in range(trees.shape[0] - 1):
            open_leaves[:size] = _ALL
            for each in range(trees[tree, 0], trees[tree + 1, 0]):
                column, table = columns[each], table_starts[each]
                for row in range(size):
                    open_leaves[row] &= tables[table + codes[column, row]]
            leaf_start, action_start = trees[tree, 1], trees[tree, 2]
            output, width = trees[tree, 3], trees[tree, 4]
            for row in range(size):
                for action in range(width):
                    left = open_leaves[row] & action_masks[action_start + action]
                    lowest = left & (~left + np.uint64(1))
                    leaf = _BIT_OF[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                    out[start + row, output + action] += leaves[leaf_start + leaf]
