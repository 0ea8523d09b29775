"""One action for every customer under many limits, without chance: the mixture, rounded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml.allocation import limit_kernels as kernels
from ml.allocation.dual import solve_limits
from ml.allocation.kernels import mask, order
from ml.allocation.limits import Limit, LimitedCut, Prices, list_segments, list_sides
from ml.core.errors import BudgetError

_MOVES, _PAIRED = 5_000, 500
_WIDEST = 8.0**11


@dataclass(frozen=True)
class LimitedAssignment:
    """One action for every customer that keeps every limit, and how good that is.

    ``chosen`` has shape (n,); ``bound`` no assignment's reward exceeds; ``usage`` maps a limit's
    side to its total.
    """

    chosen: np.ndarray
    reward: float
    bound: float
    usage: dict[str, float]
    cut: LimitedCut

    @property
    def gap(self) -> float:
        """How far the reward may lie below the optimum, as a share of the bound."""
        return 1 - self.reward / self.bound if self.bound > 0 else 0.0


def assign_within_limits(
    reward: np.ndarray,
    cost: np.ndarray,
    eligible: np.ndarray | None,
    limits: Sequence[Limit],
    *,
    segment: np.ndarray | None = None,
) -> LimitedAssignment:
    """Give every customer one action within all limits.

    At the optimum's prices everybody takes their best action; moves that lose least at those
    prices mend what that breaks, then use what is left.

    Parameters
    ----------
    reward, cost, eligible, limits, segment
        As for ``solve_limits``.

    Returns
    -------
    LimitedAssignment
        Never beyond a limit.

    Raises
    ------
    BudgetError
        As ``solve_limits``; or if no whole assignment was found though fractional ones exist,
        which happens to floors among few customers.
    """
    cut = solve_limits(reward, cost, eligible, limits, segment=segment)
    sides = list_sides(limits)
    masked = mask(reward, eligible)
    n = len(reward)
    group = list_segments(segment, n)
    prices = cut.best
    chosen = np.empty(n, dtype=np.uint8)
    totals = np.zeros((*prices.of_cost.shape, 2))
    reached = kernels.tally(
        masked, cost, np.ones(1), group, prices.of_cost, prices.of_offer, chosen, totals
    )
    before = chosen.copy()
    counts = sides.counted.any(axis=3)
    is_offers = sides.counted[..., 1].any(axis=(1, 2))
    slack = 1e-12 * np.maximum(1.0, np.abs(sides.bound))
    room = sides.bound - sides.measure(totals)
    regret = _find_usual_regret(cut, n)
    widest = regret * _WIDEST
    while True:
        place, action = _list_moves(masked, cost, group, prices, chosen, regret)
        kernels.repair(
            masked, cost, group, place, action, counts, is_offers, sides.sign, room, slack, chosen
        )
        if (room >= -slack).all():
            break
        if regret > widest:
            broken = [name for name, each in zip(sides.names, room < -slack, strict=True) if each]
            raise BudgetError(
                f"no whole assignment keeps {'; '.join(broken)}: the limits leave less room than "
                "a single customer takes"
            )
        regret *= 8
    # What is left is less than any single move takes: pairs use it.
    few = slice(0, _PAIRED)
    kernels.swap(
        masked,
        cost,
        group,
        place[few],
        action[few],
        counts,
        is_offers,
        sides.sign,
        room,
        slack,
        chosen,
    )
    moved = np.flatnonzero(chosen != before)
    gained = reward[moved, chosen[moved]] - reward[moved, before[moved]]
    return LimitedAssignment(
        chosen=chosen,
        reward=reached + float(gained.sum()),
        bound=cut.bound,
        usage=dict(zip(sides.names, (sides.sign * (sides.bound - room)).tolist(), strict=True)),
        cut=cut,
    )


def _find_usual_regret(cut: LimitedCut, n: int) -> float:
    """Return a loss that a few thousand moves of n customers should not exceed."""
    return max(abs(cut.bound) / n, 1e-9) * min(1.0, _MOVES / n)


def _list_moves(
    reward: np.ndarray,
    cost: np.ndarray,
    segment: np.ndarray,
    prices: Prices,
    chosen: np.ndarray,
    regret: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and actions of moves, those that lose least first."""
    capacity = 10 * _MOVES
    while True:
        place, action = np.empty(capacity, dtype=np.int64), np.empty(capacity, dtype=np.int64)
        lost = np.empty(capacity)
        n_moves = kernels.find_moves(
            reward,
            cost,
            segment,
            prices.of_cost,
            prices.of_offer,
            chosen,
            regret,
            place,
            action,
            lost,
        )
        if n_moves <= capacity:
            least_first = order(lost[:n_moves])
            return place[:n_moves][least_first], action[:n_moves][least_first]
        capacity = n_moves
