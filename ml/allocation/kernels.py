"""Compiled passes over customers: who takes what at a price, and at which prices that changes.

Rewards and costs have shape (n, K); an action that may not be taken has reward -inf. Ties go to the
first action.
"""

import numba
import numpy as np

from ml.core.compiling import IS_KEPT

_RANKS = 65_535


def mask(reward: np.ndarray, eligible: np.ndarray | None) -> np.ndarray:
    """Return rewards that are -inf where an action may not be taken; None: they are already."""
    return reward if eligible is None else np.where(eligible, reward, -np.inf)


def order(values: np.ndarray) -> np.ndarray:
    """Return the stable rising order: of equal ones the first stays first.

    Sorting by a coarse rank first, in linear time, leaves hardly anything to the exact sort.
    """
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    least = float(values.min())
    span = float(values.max()) - least
    if not 0 < span < np.inf:
        return np.argsort(values, kind="stable")
    coarse = np.argsort(((values - least) / span * _RANKS).astype(np.uint16), kind="stable")
    return np.asarray(coarse[np.argsort(values[coarse], kind="stable")])


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def choose(reward: np.ndarray, cost: np.ndarray, price: float, chosen: np.ndarray) -> None:
    """Write each row's argmax_a of reward - price cost into ``chosen``, shape (n,).

    At price 0, of equally rewarding actions the cheapest.
    """
    for row in range(len(reward)):
        best, best_score = 0, reward[row, 0] - price * cost[row, 0]
        for action in range(1, reward.shape[1]):
            score = reward[row, action] - price * cost[row, action]
            if score > best_score:
                best, best_score = action, score
        if price == 0.0:
            for action in range(reward.shape[1]):
                if reward[row, action] == best_score and cost[row, action] < cost[row, best]:
                    best = action
        chosen[row] = best


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def _find_cheapest(reward: np.ndarray, cost: np.ndarray, row: int) -> int:
    """Return the cheapest action, the most rewarding of those: what any high price leads to."""
    best = 0
    for action in range(1, reward.shape[1]):
        if reward[row, action] == -np.inf:
            continue
        is_better = cost[row, action] < cost[row, best] or (
            cost[row, action] == cost[row, best] and reward[row, action] > reward[row, best]
        )
        if is_better or reward[row, best] == -np.inf:
            best = action
    return best


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def screen(
    reward: np.ndarray,
    cost: np.ndarray,
    weight: np.ndarray,
    low: float,
    high: float,
    chosen: np.ndarray,
    undecided: np.ndarray,
    ends: np.ndarray,
) -> tuple[int, float, float]:
    """Write each row's choice at the high price, and which rows choose otherwise at the low one.

    As the price rises a row's choice never gets dearer, so one that is the same at both ends is so
    between them.

    Parameters
    ----------
    reward, cost : shape (n, K)
        Currency.
    weight : shape (n,) or (1,)
        Of each row, or of every one.
    low, high
        Prices; the high one may be infinite.
    chosen : shape (n,), int, written
        Actions at the high price.
    undecided : shape (n,), int, written
        Rows, in order.
    ends : shape (n,), int, written
        Their actions at the low price.

    Returns
    -------
    tuple
        How many rows are undecided, -1 where an input is not a number; cost and reward at the high
        price, weighted.
    """
    n_undecided, total_cost, total_reward, is_bad = 0, 0.0, 0.0, False
    has_weights = len(weight) > 1
    is_cheapest = np.isinf(high)
    top = 0.0 if is_cheapest else high
    for row in range(len(reward)):
        near, near_score = 0, reward[row, 0] - low * cost[row, 0]
        far, far_score = 0, reward[row, 0] - top * cost[row, 0]
        is_bad |= far_score != far_score
        for action in range(1, reward.shape[1]):
            score = reward[row, action] - low * cost[row, action]
            if score > near_score:
                near, near_score = action, score
            score = reward[row, action] - top * cost[row, action]
            is_bad |= (score != score) & (reward[row, action] != -np.inf)
            if score > far_score:
                far, far_score = action, score
        is_bad |= not abs(far_score) < np.inf
        if is_cheapest:
            far = _find_cheapest(reward, cost, row)
        own = weight[row] if has_weights else weight[0]
        chosen[row] = far
        total_cost += own * cost[row, far]
        total_reward += own * reward[row, far]
        if near != far:
            undecided[n_undecided] = row
            ends[n_undecided] = near
            n_undecided += 1
    return -1 if is_bad else n_undecided, total_cost, total_reward


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def walk(
    reward: np.ndarray,
    cost: np.ndarray,
    weight: np.ndarray,
    rows: np.ndarray,
    chosen: np.ndarray,
    ends: np.ndarray,
    low: float,
    price: np.ndarray,
    added: np.ndarray,
    place: np.ndarray,
    action_of: np.ndarray,
) -> int:
    """Write the steps in which rows move to dearer actions as the price falls: their upper hulls.

    Parameters
    ----------
    reward, cost, weight
        As for ``screen``.
    rows : shape (m,), int
        Which rows.
    chosen : shape (n,), int
        Where each begins.
    ends : shape (m,), int
        Where each of ``rows`` ends.
    low
        The price to walk down to.
    price, added, place, action_of : shape (capacity,), written
        Of each step: its price, the weighted cost that it adds, its row, the action it leads to. A
        row's steps follow each other, at falling prices.

    Returns
    -------
    int
        How many steps there are; those beyond the capacity are not written.
    """
    n_steps, has_weights = 0, len(weight) > 1
    for index in range(len(rows)):
        row = rows[index]
        here, end = int(chosen[row]), int(ends[index])
        own = weight[row] if has_weights else weight[0]
        while here != end:
            best, best_slope = -1, low
            for action in range(reward.shape[1]):
                # In double precision, so that a step's price is where choices change.
                step = np.float64(cost[row, action]) - np.float64(cost[row, here])
                gain = np.float64(reward[row, action]) - np.float64(reward[row, here])
                if step > 0 and gain > best_slope * step:
                    best, best_slope = action, gain / step
                elif (
                    # Of actions on one line the dearest ends the step.
                    best >= 0 and gain == best_slope * step and cost[row, action] > cost[row, best]
                ):
                    best = action
            if best < 0:
                break
            if n_steps < len(price):
                price[n_steps] = best_slope
                added[n_steps] = own * (cost[row, best] - cost[row, here])
                place[n_steps] = row
                action_of[n_steps] = best
            n_steps += 1
            here = best
    return n_steps


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def fill(
    added: np.ndarray,
    place: np.ndarray,
    action_of: np.ndarray,
    room: float,
    chosen: np.ndarray,
    is_taken: np.ndarray,
) -> None:
    """Take steps in order while they fit; a row whose step didn't fit takes no later one.

    Parameters
    ----------
    added, place, action_of : shape (S,)
        Of ``walk``, by falling price.
    room
        Budget that is left.
    chosen : shape (n,), int, written
        Actions; those of rows that move are overwritten.
    is_taken : shape (S,), bool, written
        Which steps were taken.
    """
    stopped = {np.int64(-1)}
    for step in range(len(added)):
        row = np.int64(place[step])
        if row in stopped:
            continue
        if added[step] <= room:
            room -= added[step]
            chosen[row] = action_of[step]
            is_taken[step] = True
        else:
            stopped.add(row)
