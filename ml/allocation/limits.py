"""Limits beside a budget, their prices, and the policy that prices stand for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ml.allocation import kernels, limit_kernels
from ml.core.errors import BudgetError

Measure = Literal["cost", "offers"]


@dataclass(frozen=True)
class Limit:
    """What some actions may cost, or how often they may be taken, among some customers.

    ``actions``, shape (K,), and ``segments``, shape (S,), are masks; ``most`` and ``least`` are
    totals, currency or decisions.
    """

    name: str
    measure: Measure
    actions: np.ndarray
    segments: np.ndarray
    most: float = np.inf
    least: float = -np.inf


@dataclass(frozen=True)
class Prices:
    """What an action is charged, by segment and action, shape (S, K).

    A customer of segment s takes argmax_a reward - of_cost[s, a] cost - of_offer[s, a].
    """

    of_cost: np.ndarray
    of_offer: np.ndarray


@dataclass(frozen=True)
class LimitedCut:
    """Prices and their shares: a customer acts by each with its probability.

    ``best`` are the prices of the dual's optimum. ``prices_of`` maps a limit's side, such as
    'text messages, most', to what one more unit of it would bring; ``bound`` is the most reward of
    any assignment; ``reward`` and ``usage``, a side to the total used, are the mixture's on the
    customers that it was solved on.
    """

    prices: tuple[Prices, ...]
    shares: tuple[float, ...]
    best: Prices
    prices_of: dict[str, float]
    bound: float
    reward: float
    usage: dict[str, float]

    @property
    def shadow_price(self) -> float:
        """What one more unit of the first limit would bring."""
        return next(iter(self.prices_of.values()))


@dataclass(frozen=True)
class Sides:
    """Every finite side of the limits as sign * usage <= bound + allowance; m of them.

    ``counted``, shape (m, S, K, 2), is 1 where a side counts the cost, or the offers, of a segment
    and action.
    """

    names: tuple[str, ...]
    limits: tuple[Limit, ...]
    counted: np.ndarray
    sign: np.ndarray
    bound: np.ndarray
    allowance: np.ndarray

    def scale(self, factor: float) -> "Sides":
        """Return the sides of a share of the customers."""
        return replace(self, bound=self.bound * factor)

    def price(self, multipliers: np.ndarray) -> Prices:
        """Return prices by segment and action."""
        both = np.tensordot(self.sign * multipliers, self.counted, 1)  # (S, K, 2)
        return Prices(both[..., 0].copy(), both[..., 1].copy())

    def measure(self, totals: np.ndarray) -> np.ndarray:
        """Return sign * usage, shape (m,), of totals of shape (S, K, 2)."""
        return np.asarray(self.sign * np.tensordot(self.counted, totals, 3))


def limit_probabilities(
    reward: np.ndarray,
    cost: np.ndarray,
    eligible: np.ndarray | None,
    *,
    cut: LimitedCut,
    segment: np.ndarray | None = None,
) -> np.ndarray:
    """Return the policy that a cut stands for, before exploration.

    Parameters
    ----------
    reward, cost, eligible, segment
        As for ``solve_limits``, of these or of other customers.
    cut
        From there.

    Returns
    -------
    np.ndarray
        Shape (n, K), rows sum to 1; mostly 0 and 1, fractional where the mixture's prices differ.
    """
    masked = kernels.mask(reward, eligible)
    n, rows = len(masked), np.arange(len(masked))
    group = list_segments(segment, n)
    policy, chosen = np.zeros(masked.shape), np.empty(n, dtype=np.int64)
    for prices, share in zip(cut.prices, cut.shares, strict=True):
        # The same arithmetic that solved it: the mixture's prices lie on ties.
        limit_kernels.tally(
            masked,
            cost,
            np.ones(1),
            group,
            prices.of_cost,
            prices.of_offer,
            chosen,
            np.zeros((*prices.of_cost.shape, 2)),
        )
        policy[rows, chosen] += share
    # Shares add up to 1 but for rounding; a sure action's probability is 1, not a digit more.
    return np.asarray(policy / policy.sum(axis=1, keepdims=True))


def list_segments(segment: np.ndarray | None, n: int) -> np.ndarray:
    """Return the segment of each of n customers in few bytes; None: one segment, 0."""
    return np.zeros(n, dtype=np.uint16) if segment is None else segment.astype(np.uint16)


def list_sides(limits: Sequence[Limit]) -> Sides:
    """Return every finite side of the limits.

    Parameters
    ----------
    limits
        In any order.

    Returns
    -------
    Sides
        At most and at least, one after the other.

    Raises
    ------
    BudgetError
        If there is none.
    """
    names, owners, sign, bound = [], [], [], []
    for limit in limits:
        for side, value, direction in (("most", limit.most, 1.0), ("least", limit.least, -1.0)):
            if np.isfinite(value):
                names.append(f"{limit.name}, {side}")
                owners.append(limit)
                sign.append(direction)
                bound.append(direction * value)
    if not names:
        raise BudgetError("no limit is finite: nothing binds, take the best action of everybody")
    allowance = 1e-6 * np.maximum(1.0, np.abs(bound))
    counted = np.zeros((len(owners), len(owners[0].segments), len(owners[0].actions), 2))
    for row, limit in zip(counted, owners, strict=True):
        row[..., int(limit.measure == "offers")] = np.outer(limit.segments, limit.actions)
    return Sides(tuple(names), tuple(owners), counted, np.array(sign), np.array(bound), allowance)
