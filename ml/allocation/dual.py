"""Many limits at once: budgets, volume caps and floors, by action, channel and segment.

Maximises the total reward of one action per customer under linear limits on cost and on numbers of
offers, through the prices of the limits (the Lagrangian's dual): cutting planes within a box that
samples propose, on the customers whose choice changes within the box. Where the optimum shares
customers between actions, a mixture of a few prices does it: a policy that can be frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linprog, minimize

from ml.allocation import limit_kernels as kernels
from ml.allocation.kernels import mask
from ml.allocation.limits import Limit, LimitedCut, Sides, list_sides
from ml.core.errors import BudgetError

_SMALLEST_SAMPLE, _LARGEST_SAMPLE, _SAMPLE_STRIDE = 2_048, 65_536, 32
_REACH = 2.5
_CUTS = 400
_TOLERANCE = 1e-8
_FINEST = 1e-12
_NARROWING = 32
_HIGHEST_PRICE = 1e4


@dataclass(frozen=True)
class _Customers:
    """Rewards (-inf where an action may not be taken), costs, weights and segments."""

    reward: np.ndarray
    cost: np.ndarray
    weight: np.ndarray
    segment: np.ndarray

    def take(self, rows: np.ndarray) -> "_Customers":
        return _Customers(self.reward[rows], self.cost[rows], self.weight[rows], self.segment[rows])


@dataclass(frozen=True)
class _Fixed:
    """What decided customers use and earn, and the sides with what they leave."""

    usage: np.ndarray
    reward: float
    sides: Sides


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
        np.ones(len(reward)) if weights is None else np.asarray(weights, dtype=np.float64),
        np.zeros(len(reward), dtype=np.int64) if segment is None else segment,
    )
    highest = _find_highest(everybody, sides)
    middle, reach = _propose_box(everybody, sides, highest)
    while True:
        moving, fixed = _screen(everybody, sides, middle, reach)
        solved = _solve_box(moving, fixed, middle, reach, highest)
        at_edge = _is_at_edge(solved, middle, reach, highest)
        if not at_edge.any():
            return _describe(solved, sides, highest)
        middle, reach = solved.multipliers, np.where(at_edge, 16 * reach, reach)


def _find_highest(customers: _Customers, sides: Sides) -> np.ndarray:
    """Return the prices beyond which a limit that is still broken can't be kept, shape (m,)."""
    n = len(customers.reward)
    if n > _LARGEST_SAMPLE:
        customers = customers.take(np.random.default_rng(n).integers(n, size=_LARGEST_SAMPLE))
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
    random = np.random.default_rng(n)
    unit = highest / _HIGHEST_PRICE
    if n < _SAMPLE_STRIDE * _SMALLEST_SAMPLE:
        middle = _descend(customers, sides, np.zeros(len(unit)), unit)
        return middle, 0.1 * (middle + 0.1 * unit)
    middle, off = np.zeros(len(unit)), np.zeros(len(unit))
    for size in (_SMALLEST_SAMPLE, min(n // _SAMPLE_STRIDE, _LARGEST_SAMPLE)):
        found = [
            _descend(customers.take(rows), sides.scale(size / n), middle, unit)
            for rows in random.integers(n, size=(2, size))
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
    customers: _Customers, sides: Sides, middle: np.ndarray, reach: np.ndarray
) -> tuple[_Customers, _Fixed]:
    """Return the customers whose choice may change in a box, and what the others use."""
    prices = sides.price(middle)
    n, shape = len(customers.reward), prices.of_cost.shape
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
    totals, rows = np.zeros((*shape, 2)), np.empty(n, dtype=np.int32)
    n_left, reward = kernels.screen(
        customers.reward,
        customers.cost,
        customers.weight,
        customers.segment,
        prices.of_cost,
        prices.of_offer,
        shared,
        own["cost"],
        own["offers"],
        np.empty(n, dtype=np.uint8),
        totals,
        rows,
    )
    usage = sides.measure(totals)
    left = replace(sides, bound=sides.bound - usage)
    return customers.take(rows[:n_left]), _Fixed(usage, reward, left)


def _solve_box(
    moving: _Customers,
    fixed: _Fixed,
    middle: np.ndarray,
    reach: np.ndarray,
    highest: np.ndarray,
) -> _Solved:
    """Solve in a box, through narrower ones around what descent finds."""
    unit = highest / _HIGHEST_PRICE
    low, high = np.maximum(middle - reach, 0.0), np.minimum(middle + reach, highest)
    centre = np.clip(_descend(moving, fixed.sides, middle, unit), low, high)
    near = reach / _NARROWING
    while True:
        near = np.minimum(near, reach)
        closest, more = _screen(moving, fixed.sides, centre, near)
        # Beyond the outer box those who were decided in it may choose otherwise.
        inner_low, inner_high = np.maximum(centre - near, low), np.minimum(centre + near, high)
        solved = _cut_planes(closest, more, centre, inner_low, inner_high)
        at_edge = _is_at_edge(solved, centre, near, highest) & (near < reach)
        at_edge &= (solved.multipliers > low) & (solved.multipliers < high)
        if not at_edge.any():
            return replace(
                solved,
                value=solved.value + fixed.reward,
                usage=solved.usage + fixed.usage,
                reward=solved.reward + fixed.reward,
            )
        centre, near = solved.multipliers, np.where(at_edge, 4 * near, near)


def _is_at_edge(
    solved: _Solved, middle: np.ndarray, reach: np.ndarray, highest: np.ndarray
) -> np.ndarray:
    """Return where the optimum may lie outside of a box, shape (m,), bool."""
    found = solved.multipliers
    return (np.abs(found - middle) > 0.999 * reach) & (found > 0) & (found < highest)


def _cut_planes(
    customers: _Customers,
    fixed: _Fixed,
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> _Solved:
    """Minimise the dual in a box by cutting planes; the cuts' multipliers are the mixture."""
    sides = fixed.sides
    width = np.maximum(high - low, 1e-300)
    points, usages, rewards = [], [], []
    best, least, gap = np.clip(start, low, high), np.inf, np.inf
    at, shares = best, np.ones(1)
    for _ in range(_CUTS):
        reward, usage = _tally(customers, sides, at)
        value = reward + float(at @ (sides.bound - usage))
        points.append(at)
        usages.append(usage)
        rewards.append(reward)
        if value < least:
            best, least = at, value
        slopes = sides.bound - np.array(usages)  # (cuts, m)
        # Seen from the best point and in units of the box and the gap, so that digits are kept.
        below = np.array(rewards) + slopes @ best - least
        unit = gap if np.isfinite(gap) and gap > 0 else max(1.0, abs(least))
        master = linprog(
            np.append(np.zeros(len(at)), 1.0),
            A_ub=np.column_stack([slopes * width / unit, -np.ones(len(points))]),
            b_ub=-below / unit,
            bounds=[
                *zip((low - best) / width, (high - best) / width, strict=True),
                (None, None),
            ],
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if not master.success:
            raise BudgetError(f"the limits' prices could not be found: {master.message}")
        gap = max(0.0, -float(master.x[-1]) * unit)
        shares = np.maximum(-master.ineqlin.marginals, 0.0)
        shares /= shares.sum()
        worth = max(abs(least + fixed.reward), 1e-9)
        over = (shares @ np.array(usages) - sides.bound) / sides.allowance
        # At an edge of the box the mixture may break a limit: then the optimum lies beyond it.
        if gap <= _TOLERANCE * worth and (over.max() <= 0.1 or gap <= _FINEST * worth):
            break
        at = np.clip(best + master.x[:-1] * width, low, high)
    return _Solved(
        best,
        least + fixed.reward,
        np.array(points),
        shares,
        shares @ np.array(usages) + fixed.usage,
        float(shares @ np.array(rewards)) + fixed.reward,
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
