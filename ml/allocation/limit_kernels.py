"""Compiled passes over customers under many prices: what is used, and whose choice may change.

Rewards and costs have shape (n, K), -inf for an action that may not be taken; prices of cost and
of an offer have shape (S, K), by segment of the customer and action. Ties go to the first action.
"""

import numba
import numpy as np

from ml.core.compiling import IS_KEPT


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def tally(
    reward: np.ndarray,
    cost: np.ndarray,
    weight: np.ndarray,
    segment: np.ndarray,
    of_cost: np.ndarray,
    of_offer: np.ndarray,
    chosen: np.ndarray,
    totals: np.ndarray,
) -> float:
    """Let every row choose and add up what that uses.

    Parameters
    ----------
    reward, cost : shape (n, K)
        Currency.
    weight : shape (n,) or (1,)
        Of each row, or of every one.
    segment : shape (n,), int
        Of each row.
    of_cost, of_offer : shape (S, K)
        Prices.
    chosen : shape (n,), int, written
        argmax_a reward - of_cost cost - of_offer.
    totals : shape (S, K, 2), added to
        Weighted cost and number of each segment and action.

    Returns
    -------
    float
        The weighted reward; NaN where an input is not a number.
    """
    total, is_bad, has_weights = 0.0, False, len(weight) > 1
    for row in range(len(reward)):
        group = segment[row]
        best = 0
        best_score = reward[row, 0] - of_cost[group, 0] * cost[row, 0] - of_offer[group, 0]
        for action in range(1, reward.shape[1]):
            score = (
                reward[row, action]
                - of_cost[group, action] * cost[row, action]
                - of_offer[group, action]
            )
            is_bad |= (score != score) & (reward[row, action] != -np.inf)
            if score > best_score:
                best, best_score = action, score
        is_bad |= not abs(best_score) < np.inf
        own = weight[row] if has_weights else weight[0]
        chosen[row] = best
        totals[group, best, 0] += own * cost[row, best]
        totals[group, best, 1] += own
        total += own * reward[row, best]
    return np.nan if is_bad else total


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def screen(
    reward: np.ndarray,
    cost: np.ndarray,
    weight: np.ndarray,
    segment: np.ndarray,
    candidates: np.ndarray,
    of_cost: np.ndarray,
    of_offer: np.ndarray,
    shared_reach: np.ndarray,
    cost_reach: np.ndarray,
    offer_reach: np.ndarray,
    totals: np.ndarray,
    undecided: np.ndarray,
) -> tuple[int, float]:
    """Find the rows whose choice may change while prices move so far, and tally the others.

    A row is decided where its best action leads every other by more than prices can make up.

    Parameters
    ----------
    reward, cost, weight, segment, of_cost, of_offer
        As for ``tally``; prices are the middle of the box.
    candidates : shape (c,), int
        The rows to look at, in order; none: all.
    shared_reach : shape (S,)
        How far the price of cost may move for all offers of a segment at once.
    cost_reach, offer_reach : shape (S, K)
        How far prices may move for single actions.
    totals : shape (S, K, 2), added to
        Of decided rows.
    undecided : shape (c,) or (n,), int, written
        The other rows, in order.

    Returns
    -------
    tuple
        How many rows are undecided; the weighted reward of the others.
    """
    n_undecided, total, has_weights = 0, 0.0, len(weight) > 1
    reach = cost_reach + shared_reach.reshape(-1, 1)
    n_candidates = len(candidates)
    for index in range(n_candidates or len(reward)):
        row = candidates[index] if n_candidates else index
        group, best, used = segment[row], 0, cost[row, 0]
        best_score = reward[row, 0] - of_cost[group, 0] * used - of_offer[group, 0]
        best_reach = abs(used) * reach[group, 0] + offer_reach[group, 0]
        # The highest that the others' scores can become; without branches.
        other, widest = -np.inf, best_reach
        for action in range(1, reward.shape[1]):
            used = cost[row, action]
            score = reward[row, action] - of_cost[group, action] * used - of_offer[group, action]
            own_reach = abs(used) * reach[group, action] + offer_reach[group, action]
            widest = own_reach if own_reach > widest else widest
            is_better = score > best_score
            loser = best_score + best_reach if is_better else score + own_reach
            other = loser if loser > other else other
            best = action if is_better else best
            best_score = score if is_better else best_score
            best_reach = own_reach if is_better else best_reach
        # With room for rounding: at an edge of the box ties are met exactly.
        is_decided = best_score - best_reach - other > 1e-9 * (abs(best_score) + widest)
        if not is_decided:
            is_decided = _is_decided(
                reward,
                cost,
                of_cost,
                of_offer,
                shared_reach,
                cost_reach,
                offer_reach,
                row,
                group,
                best,
                best_score,
            )
        if is_decided:
            own = weight[row] if has_weights else weight[0]
            totals[group, best, 0] += own * cost[row, best]
            totals[group, best, 1] += own
            total += own * reward[row, best]
        else:
            undecided[n_undecided] = row
            n_undecided += 1
    return n_undecided, total


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def _is_decided(
    reward: np.ndarray,
    cost: np.ndarray,
    of_cost: np.ndarray,
    of_offer: np.ndarray,
    shared_reach: np.ndarray,
    cost_reach: np.ndarray,
    offer_reach: np.ndarray,
    row: int,
    group: int,
    best: int,
    best_score: float,
) -> bool:
    """Return whether a row's best action stays so: a shared price moves both of a pair at once."""
    own = abs(cost[row, best]) * cost_reach[group, best] + offer_reach[group, best]
    for action in range(reward.shape[1]):
        if action == best or reward[row, action] == -np.inf:
            continue
        score = (
            reward[row, action]
            - of_cost[group, action] * cost[row, action]
            - of_offer[group, action]
        )
        reach = (
            own
            + abs(cost[row, action]) * cost_reach[group, action]
            + offer_reach[group, action]
            + shared_reach[group] * abs(cost[row, action] - cost[row, best])
        )
        if best_score - score <= reach * (1 + 1e-9) + 1e-12 * abs(best_score):
            return False
    return True


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def find_moves(
    reward: np.ndarray,
    cost: np.ndarray,
    segment: np.ndarray,
    of_cost: np.ndarray,
    of_offer: np.ndarray,
    chosen: np.ndarray,
    most_regret: float,
    place: np.ndarray,
    action_of: np.ndarray,
    regret_of: np.ndarray,
) -> int:
    """Write the moves to another action that lose little at the prices.

    Parameters
    ----------
    reward, cost, segment, of_cost, of_offer
        As for ``tally``.
    chosen : shape (n,), int
        Where each row is.
    most_regret
        Priced reward that a move may lose.
    place, action_of, regret_of : shape (capacity,), written
        Row, new action and loss of each move.

    Returns
    -------
    int
        How many there are; those beyond the capacity are not written.
    """
    n_moves = 0
    for row in range(len(reward)):
        group, here = segment[row], chosen[row]
        own = reward[row, here] - of_cost[group, here] * cost[row, here] - of_offer[group, here]
        for action in range(reward.shape[1]):
            if action == here:
                continue
            score = (
                reward[row, action]
                - of_cost[group, action] * cost[row, action]
                - of_offer[group, action]
            )
            if own - score <= most_regret:
                if n_moves < len(place):
                    place[n_moves] = row
                    action_of[n_moves] = action
                    regret_of[n_moves] = own - score
                n_moves += 1
    return n_moves


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def _use(
    cost: np.ndarray,
    segment: np.ndarray,
    counts: np.ndarray,
    is_offers: np.ndarray,
    sign: np.ndarray,
    side: int,
    row: int,
    here: int,
    action: int,
) -> float:
    """Return what moving a row from one action to another takes of a side's room."""
    used, group = 0.0, segment[row]
    if counts[side, group, action]:
        used += 1.0 if is_offers[side] else cost[row, action]
    if counts[side, group, here]:
        used -= 1.0 if is_offers[side] else cost[row, here]
    return used * sign[side]


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def repair(
    reward: np.ndarray,
    cost: np.ndarray,
    segment: np.ndarray,
    place: np.ndarray,
    action_of: np.ndarray,
    counts: np.ndarray,
    is_offers: np.ndarray,
    sign: np.ndarray,
    room: np.ndarray,
    slack: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """Take moves in order: first those that mend broken limits, then those that use what is left.

    Parameters
    ----------
    reward, cost, segment
        As for ``tally``.
    place, action_of : shape (M,)
        Moves, those that lose least first.
    counts : shape (m, S, K), bool
        Which segments and actions each limit's side counts.
    is_offers, sign : shape (m,)
        Whether it counts offers or cost; 1 or -1.
    room : shape (m,), read and written
        What each side has left; below 0 it is broken.
    slack : shape (m,)
        By how much rounding may break it.
    chosen : shape (n,), int, read and written
        Actions.
    """
    n_sides = len(room)
    used = np.empty(n_sides)
    for is_filling in (False, True):
        for move in range(len(place)):
            row, action = place[move], action_of[move]
            here = chosen[row]
            if action == here or reward[row, action] == -np.inf:
                continue
            if is_filling and reward[row, action] <= reward[row, here]:
                continue
            mended, is_allowed = 0.0, True
            for side in range(n_sides):
                used[side] = _use(cost, segment, counts, is_offers, sign, side, row, here, action)
                after = room[side] - used[side]
                if after < -slack[side] and after < room[side]:
                    is_allowed = False
                if room[side] < -slack[side]:
                    mended += min(after, 0.0) - room[side]
            if is_allowed and (is_filling or mended > 0):
                chosen[row] = action
                for side in range(n_sides):
                    room[side] -= used[side]


@numba.njit(nogil=True, error_model="numpy", cache=IS_KEPT)
def swap(
    reward: np.ndarray,
    cost: np.ndarray,
    segment: np.ndarray,
    place: np.ndarray,
    action_of: np.ndarray,
    counts: np.ndarray,
    is_offers: np.ndarray,
    sign: np.ndarray,
    room: np.ndarray,
    slack: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """Take pairs of moves that together earn more and keep every limit; inputs as ``repair``."""
    n_sides = len(room)
    after = np.empty(n_sides)
    for first in range(len(place)):
        best_gain, best = 0.0, -1
        one, one_action = place[first], action_of[first]
        if one_action == chosen[one] or reward[one, one_action] == -np.inf:
            continue
        for second in range(first + 1, len(place)):
            other, other_action = place[second], action_of[second]
            if other == one or other_action == chosen[other]:
                continue
            gain = (
                reward[one, one_action]
                - reward[one, chosen[one]]
                + reward[other, other_action]
                - reward[other, chosen[other]]
            )
            if not gain > best_gain:
                continue
            is_allowed = True
            for side in range(n_sides):
                after[side] = room[side]
                for row, action in ((one, one_action), (other, other_action)):
                    after[side] -= _use(
                        cost, segment, counts, is_offers, sign, side, row, chosen[row], action
                    )
                if after[side] < -slack[side] and after[side] < room[side]:
                    is_allowed = False
                    break
            if is_allowed:
                best_gain, best = gain, second
        if best >= 0:
            for move in (first, best):
                row, action = place[move], action_of[move]
                for side in range(n_sides):
                    room[side] -= _use(
                        cost, segment, counts, is_offers, sign, side, row, chosen[row], action
                    )
                chosen[row] = action
