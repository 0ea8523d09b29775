"""Many limits at once: budgets, volume caps and floors, by action, channel and segment.

Maximises the total reward of one action per customer under linear limits on cost and on numbers of
offers, through the prices of the limits (the Lagrangian's dual): cutting planes within a box that
samples propose, on the customers whose choice changes within the box. Where the optimum shares
customers between actions, a mixture of a few prices does it: a policy that can be frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from ml.allocation import limit_kernels as kernels
from ml.allocation.kernels import mask
from ml.allocation.limits import Limit, LimitedCut, Sides, list_segments, list_sides
from ml.allocation.planes import Planes
from ml.core.errors import BudgetError

_SMALLEST_SAMPLE, _LARGEST_SAMPLE, _SAMPLE_STRIDE = 2_048, 65_536, 32
_REACH = 2.5
_FEW, _MANY = 12_000, 32_768
_CUTS = 400
_TOLERANCE = 1e-8
_LOOSE = 1e-6
_FINEST = 1e-12
_NARROWING, _SAMPLED_NARROWING = 32, 5
_SLOW = 0.7
_HIGHEST_PRICE = 1e4
_ALL = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class _Customers:
    """Rewards (-inf where an action may not be taken), costs, weights (or one) and segments."""

    reward: np.ndarray
    cost: np.ndarray
    weight: np.ndarray
    segment: np.ndarray

    def take(self, rows: np.ndarray) -> "_Customers":
        own = self.weight if len(self.weight) == 1 else self.weight[rows]
        return _Customers(self.reward[rows], self.cost[rows], own, self.segment[rows])

    def sample(self, size: int, seed: int) -> "_Customers":
        # In order, so that memory is read forwards.
        rows = np.random.default_rng(seed).integers(len(self.reward), size=size)
        return self.take(np.sort(rows))


@dataclass(frozen=True)
class _Fixed:
    """What decided customers use and earn, and the sides with what they leave.

    ``worth`` is what all decided ones earn, those of outer boxes too.
    """

    usage: np.ndarray
    reward: float
    sides: Sides
    worth: float


@dataclass(frozen=True)
class _Solved:
    """The dual's optimum in a box: multipliers, its value, the cuts' mixture of everybody."""

    multipliers: np.ndarray
    value: float
    points: np.ndarray
    shares: np.ndarray
    usage: np.ndarray
    reward: float


def solve_limits(
    reward: np.ndarray,
    cost: np.ndarray,
    eligible: np.ndarray | None,
    limits: Sequence[Limit],
    *,
    segment: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> LimitedCut:
    """Find the prices of the limits, and the mixture of choices that keeps them all.

    Minimises the dual sum_i w_i max_a (reward - prices) + sum_j price_j limit_j by cutting planes
    (Kelley 1960). Samples propose a box of prices; customers whose choice is the same all over the
    box enter once. The shares of the mixture are the multipliers of the cuts that meet in the
    optimum, so its prices are alike.

    Parameters
    ----------
    reward, cost : shape (n, K), currency; column 0 is control
        What is maximised, and what a limit on cost counts.
    eligible : shape (n, K), bool; column 0 true
        Which actions may be taken; None: all that have a reward above -inf.
    limits
        At least one with a finite side.
    segment : shape (n,), int in 0 to S - 1, optional
        Of each customer; None: one segment.
    weights : shape (n,), in [0, 1], optional
        Probability that the customer gets their chosen action.

    Returns
    -------
    LimitedCut
        Its usage keeps every limit up to a millionth.

    Raises
    ------
    BudgetError
        If the limits can't be kept together, with the names of those in conflict; or an input is
        not a number.
    """
    sides = list_sides(limits)
    everybody = _Customers(
        mask(reward, eligible),
        cost,
        np.ones(1) if weights is None else np.ascontiguousarray(weights, dtype=np.float64),
        list_segments(segment, len(reward)),
    )
    highest = _find_highest(everybody, sides)
    middle, reach = _propose_box(everybody, sides, highest)
    widest = np.zeros_like(highest), highest
    while True:
        low, high = np.maximum(middle - reach, 0.0), np.minimum(middle + reach, highest)
        moving, fixed = _screen(everybody, _ALL, sides, low, high)
        solved = _solve_box(everybody, moving, fixed, middle, low, high, highest)
        at_edge = _is_at_edge(solved, replace(fixed, sides=sides, worth=0.0), (low, high), widest)
        if not at_edge.any():
            return _describe(solved, sides, highest)
        middle, reach = solved.multipliers, np.where(at_edge, 16 * reach, reach)


def _find_highest(customers: _Customers, sides: Sides) -> np.ndarray:
    """Return the prices beyond which a limit that is still broken can't be kept, shape (m,)."""
    n = len(customers.reward)
    if n > 2 * _SMALLEST_SAMPLE:
        customers = customers.sample(2 * _SMALLEST_SAMPLE, seed=n)
    usable = customers.reward > -np.inf
    gain = float(np.abs(customers.reward[usable]).max(initial=0.0)) or 1.0
    costs = np.abs(customers.cost[usable & (customers.cost != 0)])
    per_cost = gain / max(float(np.median(costs)) if len(costs) else 1.0, 1e-12)
    return np.array(
        [_HIGHEST_PRICE * (per_cost if limit.measure == "cost" else gain) for limit in sides.limits]
    )


def _propose_box(
    customers: _Customers, sides: Sides, highest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and the reach of prices that samples find, shape (m,) each.

    Two samples of a size say how far their prices are off; the first ones are small.
    """
    n = len(customers.reward)
    unit = highest / _HIGHEST_PRICE
    if n < _SAMPLE_STRIDE * _SMALLEST_SAMPLE:
        middle = _descend(customers, sides, np.zeros(len(unit)), unit)
        return middle, 0.1 * (middle + 0.1 * unit)
    middle, off = np.zeros(len(unit)), np.zeros(len(unit))
    for size in (_SMALLEST_SAMPLE, min(n // _SAMPLE_STRIDE, _LARGEST_SAMPLE)):
        found = [
            _descend(customers.sample(size, seed=seed), sides.scale(size / n), middle, unit)
            for seed in (n, n + 1)
        ]
        middle, off = np.mean(found, axis=0), (found[0] - found[1]) / unit
    return middle, _REACH * unit * float(np.sqrt(np.mean(off**2)) + 1e-6)


def _descend(
    customers: _Customers, sides: Sides, start: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Return multipliers near the dual's minimum: for many customers it is nearly smooth."""
    scale = 1 / max(float(np.abs(customers.reward[np.isfinite(customers.reward)]).sum()), 1e-300)

    def dual(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        reward, usage = _tally(customers, sides, scaled * unit)
        slope = sides.bound - usage
        return scale * (reward + float(scaled * unit @ slope)), scale * slope * unit

    found = minimize(
        dual,
        start / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, _HIGHEST_PRICE)] * len(start),
        options={"ftol": 1e-10, "gtol": 1e-9, "maxfun": 200},
    )
    return np.asarray(found.x * unit)


def _screen(
    customers: _Customers, rows: np.ndarray, sides: Sides, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, _Fixed]:
    """Return the rows, of some or of all, whose choice may change in a box; what others use."""
    prices, reach = sides.price((low + high) / 2), (high - low) / 2
    shape = prices.of_cost.shape
    is_shared = np.array(
        [limit.measure == "cost" and bool(limit.actions[1:].all()) for limit in sides.limits]
    )
    own = {"cost": np.zeros(shape), "offers": np.zeros(shape)}
    shared = np.zeros(shape[0])
    for limit, each, together in zip(sides.limits, reach, is_shared, strict=True):
        if together:
            shared += each * limit.segments
        else:
            own[limit.measure] += each * np.outer(limit.segments, limit.actions)
    totals = np.zeros((*shape, 2))
    undecided = np.empty(len(rows) or len(customers.reward), dtype=np.int32)
    n_left, reward = kernels.screen(
        customers.reward,
        customers.cost,
        customers.weight,
        customers.segment,
        rows,
        prices.of_cost,
        prices.of_offer,
        shared,
        own["cost"],
        own["offers"],
        totals,
        undecided,
    )
    usage = sides.measure(totals)
    left = replace(sides, bound=sides.bound - usage)
    return undecided[:n_left], _Fixed(usage, reward, left, reward)


def _solve_box(
    everybody: _Customers,
    rows: np.ndarray,
    fixed: _Fixed,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    highest: np.ndarray,
) -> _Solved:
    """Solve in a box, through narrower ones around what descent finds, until few move in it."""
    n, unit = len(rows), highest / _HIGHEST_PRICE
    if n <= _FEW:
        return _cut_planes(everybody.take(rows), fixed, start, low, high)
    narrowing = _NARROWING
    if n <= 2 * _MANY:
        sampled = everybody.take(rows)
    else:
        narrowing = _SAMPLED_NARROWING
        sampled = everybody.take(rows[np.sort(np.random.default_rng(n).integers(n, size=_MANY))])
    sides = fixed.sides.scale(len(sampled.reward) / n)
    centre = np.clip(_descend(sampled, sides, start, unit), low, high)
    reach = (high - low) / 2
    near = reach / narrowing
    while True:
        near = np.minimum(near, 2 * reach)
        # Beyond the outer box those who were decided in it may choose otherwise.
        inner_low, inner_high = np.maximum(centre - near, low), np.minimum(centre + near, high)
        closest, more = _screen(everybody, rows, fixed.sides, inner_low, inner_high)
        more = replace(more, worth=fixed.worth + more.reward)
        if len(closest) > _SLOW * n:
            return _cut_planes(everybody.take(rows), fixed, centre, low, high)
        solved = _solve_box(everybody, closest, more, centre, inner_low, inner_high, highest)
        at_edge = _is_at_edge(solved, fixed, (inner_low, inner_high), (low, high))
        if not at_edge.any():
            return replace(
                solved,
                value=solved.value + fixed.reward,
                usage=solved.usage + fixed.usage,
                reward=solved.reward + fixed.reward,
            )
        centre, near = solved.multipliers, np.where(at_edge, 4 * near, near)


def _is_at_edge(
    solved: _Solved,
    fixed: _Fixed,
    box: tuple[np.ndarray, np.ndarray],
    outer: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return for which prices the optimum in the outer box may lie outside of this one, (m,), bool.

    At its edge; or where room that is left has a price, though a lower one would be less.
    """
    found, edge = solved.multipliers, 0.0005 * (box[1] - box[0])
    worth = max(abs(fixed.worth + solved.reward), 1e-9)
    is_loose = found * (fixed.sides.bound - solved.usage) > _LOOSE * worth
    is_low = is_loose | (found < box[0] + edge)
    is_high = found > box[1] - edge
    return (is_low & (box[0] > outer[0])) | (is_high & (box[1] < outer[1]))


def _cut_planes(
    customers: _Customers,
    fixed: _Fixed,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> _Solved:
    """Minimise the dual in a box by cutting planes; the cuts' multipliers are the mixture."""
    sides = fixed.sides
    points, usages, rewards = [], [], []
    best, least = np.clip(start, low, high), np.inf
    at, planes = best, Planes(low, high)
    while True:
        reward, usage = _tally(customers, sides, at)
        value = reward + float(at @ (sides.bound - usage))
        points.append(at)
        usages.append(usage)
        rewards.append(reward)
        if value < least:
            best, least = at, value
        planes.add(at, value, sides.bound - usage)
        found = planes.solve(best, least)
        worth = max(abs(least + fixed.worth), 1e-9)
        over = (found.shares @ np.array(usages) - sides.bound) / sides.allowance
        # At an edge of the box the mixture may break a limit: then the optimum lies beyond it.
        is_kept = over.max() <= 0.1 or found.gap <= _FINEST * worth
        if (found.gap <= _TOLERANCE * worth and is_kept) or len(points) == _CUTS:
            break
        at = found.point
    return _Solved(
        best,
        least + fixed.reward,
        np.array(points),
        found.shares,
        found.shares @ np.array(usages) + fixed.usage,
        float(found.shares @ np.array(rewards)) + fixed.reward,
    )


def _tally(
    customers: _Customers, sides: Sides, multipliers: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the reward and sign * usage, shape (m,), of everybody's choice at some prices."""
    prices = sides.price(multipliers)
    totals = np.zeros((*prices.of_cost.shape, 2))
    reward = kernels.tally(
        customers.reward,
        customers.cost,
        customers.weight,
        customers.segment,
        prices.of_cost,
        prices.of_offer,
        np.empty(len(customers.reward), dtype=np.uint8),
        totals,
    )
    if np.isnan(reward):
        raise BudgetError("reward and cost of eligible actions must be finite")
    return reward, sides.measure(totals)


def _describe(solved: _Solved, sides: Sides, highest: np.ndarray) -> LimitedCut:
    """Return the mixture, refused where it breaks a limit."""
    broken = solved.usage - sides.bound > sides.allowance
    if broken.any():
        # What is broken, and what is paid any price for it.
        broken |= solved.multipliers > 0.1 * highest
        names = [name for name, each in zip(sides.names, broken, strict=True) if each]
        raise BudgetError(
            f"the limits can't be kept together, in conflict: {'; '.join(names)}. Raise what is at "
            "most, lower what is at least, or let more actions be taken"
        )
    kept = solved.shares > 1e-12
    return LimitedCut(
        prices=tuple(sides.price(each) for each in solved.points[kept]),
        shares=tuple((solved.shares[kept] / solved.shares[kept].sum()).tolist()),
        best=sides.price(solved.multipliers),
        prices_of=dict(zip(sides.names, solved.multipliers.tolist(), strict=True)),
        bound=solved.value,
        reward=solved.reward,
        usage=dict(zip(sides.names, (sides.sign * solved.usage).tolist(), strict=True)),
    )
