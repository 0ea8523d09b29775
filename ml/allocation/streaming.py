"""One action per customer within a budget, for more customers than memory holds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml.allocation import kernels
from ml.allocation.budget import BudgetCut, assign_actions, guess_prices
from ml.core.errors import BudgetError

ROWS_AT_ONCE = 262_144
_SAMPLE_GROUPS = 16
_WIDEST = 4
_APART, _DEVIATIONS = 1e-9, 3.0

Block = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class StreamedAssignment:
    """As ``Assignment``, of every row of a file, which was read whole ``n_scans`` times.

    ``n_kept`` rows were undecided after screening.
    """

    chosen: np.ndarray
    cost: float
    reward: float
    bound: float
    cut: BudgetCut
    n_scans: int
    n_kept: int


def assign_parquet(
    path: Path,
    actions: Sequence[str],
    *,
    budget: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StreamedAssignment:
    """Give every row of a Parquet file one action within a budget.

    A sample of row groups brackets the price; one scan takes what everybody does at the high price
    and keeps the rows that do otherwise at the low one, which are then assigned exactly, as
    ``assign_actions`` does. If the price turns out to lie outside, the bracket is widened and the
    file scanned again.

    Parameters
    ----------
    path
        Columns ``reward.<action>`` and ``cost.<action>``, currency, float32 or float64; a reward
        that is null: the customer may not take the action.
    actions
        K names, control first.
    budget
        Total for all rows.
    progress
        Called with rows done and rows in all, block by block.

    Returns
    -------
    StreamedAssignment
        ``chosen`` has one byte a row; what is kept beside it are the undecided rows.

    Raises
    ------
    BudgetError
        If even the cheapest actions cost more than the budget, or a number is missing.
    """
    file = pq.ParquetFile(path, pre_buffer=False)
    n_rows = file.metadata.num_rows
    missing = sorted(set(_name_columns(actions)) - set(file.schema_arrow.names))
    if missing:
        raise BudgetError(f"the file lacks the columns {missing}")
    if not n_rows:
        raise BudgetError("the file has no rows")
    sampled = _sample(file, actions)
    # Another scan is dear: a wider bracket than in memory.
    low, high = guess_prices(
        *sampled, budget=budget * len(sampled[0]) / n_rows, deviations=_DEVIATIONS
    )
    # A price that is a customer's own would leave them undecided on neither side.
    low, high = low * (1 - _APART), high * (1 + _APART)
    for n_scans in range(1, _WIDEST + 1):
        chosen, kept, rows, cost, reward = _screen(file, actions, low, high, progress)
        room = budget - cost
        if room < 0 and np.isinf(high):
            raise BudgetError(
                f"even the cheapest actions cost more than the budget, {budget:.2f}, by {-room:.2f}"
            )
        if room >= 0:
            found = assign_actions(*kept, None, budget=room)
            is_inside = found.cut.shadow_price <= high and (
                low == 0.0 or found.cut.price_low >= low
            )
            if is_inside:
                chosen[rows] = found.chosen
                return StreamedAssignment(
                    chosen,
                    cost + found.cost,
                    reward + found.reward,
                    reward + found.bound,
                    found.cut,
                    n_scans,
                    len(rows),
                )
        low, high = (0.0, low) if room >= 0 else (high, np.inf)
    raise BudgetError(f"no price was found after {_WIDEST} scans")


def _screen(
    file: pq.ParquetFile,
    actions: Sequence[str],
    low: float,
    high: float,
    progress: Callable[[int, int], None],
) -> tuple[np.ndarray, Block, np.ndarray, float, float]:
    """Return choices at the high price, the undecided rows, where they are, and others' totals."""
    n_rows = file.metadata.num_rows
    chosen = np.empty(n_rows, dtype=np.uint8)
    undecided, ends = np.empty(ROWS_AT_ONCE, dtype=np.int32), np.empty(ROWS_AT_ONCE, dtype=np.uint8)
    rewards, costs, places = [], [], []
    total_cost = total_reward = 0.0
    done = 0
    for reward, cost in _scan(file, actions):
        own = chosen[done : done + len(reward)]
        n_moving, block_cost, block_reward = kernels.screen(
            reward, cost, np.ones(1), low, high, own, undecided, ends
        )
        if n_moving < 0:
            raise BudgetError(
                f"rows {done:,} to {done + len(reward):,}: reward and cost of actions that may be "
                "taken must be finite"
            )
        rows = undecided[:n_moving].copy()
        rewards.append(reward[rows])
        costs.append(cost[rows])
        places.append(done + rows.astype(np.int64))
        taken = own[rows]
        total_cost += block_cost - float(cost[rows, taken].sum(dtype=np.float64))
        total_reward += block_reward - float(reward[rows, taken].sum(dtype=np.float64))
        done += len(reward)
        progress(done, n_rows)
    kept = np.concatenate(rewards), np.concatenate(costs)
    return chosen, kept, np.concatenate(places), total_cost, total_reward


def _scan(file: pq.ParquetFile, actions: Sequence[str]) -> Iterator[Block]:
    """Return rewards and costs block by block, (m, K)."""
    columns = _name_columns(actions)
    # Group by group: what was read of the others is let go.
    for group in range(file.metadata.num_row_groups):
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
            yield _read_block(batch, actions)


def _name_columns(actions: Sequence[str]) -> list[str]:
    return [f"{name}.{action}" for name in ("reward", "cost") for action in actions]


def _sample(file: pq.ParquetFile, actions: Sequence[str]) -> Block:
    """Return the rows of some row groups, spread over the file."""
    n_groups = file.metadata.num_row_groups
    groups = np.unique(np.linspace(0, n_groups - 1, min(n_groups, _SAMPLE_GROUPS)).astype(int))
    columns, blocks = _name_columns(actions), []
    for group in groups:
        batch = next(file.iter_batches(ROWS_AT_ONCE, row_groups=[int(group)], columns=columns))
        blocks.append(_read_block(batch, actions))
    rewards, costs = zip(*blocks, strict=True)
    return np.concatenate(rewards), np.concatenate(costs)


def _read_block(batch: pa.RecordBatch, actions: Sequence[str]) -> Block:
    """Return rewards, -inf where an action is not allowed, and costs, (m, K)."""
    reward = _stack(batch, "reward", actions, -np.inf)
    # A cost that is missing where the action may be taken is refused by the screening.
    cost = _stack(batch, "cost", actions, np.nan)
    cost[reward == -np.inf] = 0.0
    return reward, cost


def _stack(batch: pa.RecordBatch, name: str, actions: Sequence[str], missing: float) -> np.ndarray:
    """Return one kind of column as (m, K), rows contiguous."""
    columns = [
        batch.column(f"{name}.{action}").fill_null(missing).to_numpy(zero_copy_only=False)
        for action in actions
    ]
    return np.column_stack(columns)
