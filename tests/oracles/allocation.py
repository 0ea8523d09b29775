"""Slow, obvious allocation: try every assignment."""

from itertools import product

import numpy as np
from scipy.optimize import linprog


def best_assignment_value(reward, cost, eligible, budget):
    """Return the most reward of any assignment within the budget."""
    n, k = reward.shape
    best = -np.inf
    for chosen in product(range(k), repeat=n):
        rows = np.arange(n)
        if eligible[rows, chosen].all() and cost[rows, chosen].sum() <= budget + 1e-12:
            best = max(best, reward[rows, chosen].sum())
    return best


def solve_linear_programme(reward, cost, eligible, budget):
    """Return the best reward of fractional assignments, by HiGHS."""
    n, k = reward.shape
    allowed = np.flatnonzero(eligible)
    each = np.zeros((n, len(allowed)))
    each[allowed // k, np.arange(len(allowed))] = 1
    found = linprog(
        -reward.ravel()[allowed],
        A_ub=cost.ravel()[allowed][None],
        b_ub=[budget],
        A_eq=each,
        b_eq=np.ones(n),
        method="highs",
    )
    assert found.success, found.message
    return -found.fun


def solve_limited_programme(reward, cost, eligible, limits, segment):
    """Return the best reward of fractional assignments within limits, by HiGHS; None if none is."""
    n, k = reward.shape
    allowed = np.flatnonzero(eligible)
    row, action = allowed // k, allowed % k
    each = np.zeros((n, len(allowed)))
    each[row, np.arange(len(allowed))] = 1
    rows, bounds = [], []
    for limit in limits:
        counted = limit.segments[segment[row]] & limit.actions[action]
        usage = counted * (cost[row, action] if limit.measure == "cost" else 1.0)
        if np.isfinite(limit.most):
            rows.append(usage)
            bounds.append(limit.most)
        if np.isfinite(limit.least):
            rows.append(-usage)
            bounds.append(-limit.least)
    found = linprog(
        -reward[row, action],
        A_ub=np.array(rows),
        b_ub=bounds,
        A_eq=each,
        b_eq=np.ones(n),
        method="highs",
    )
    return -found.fun if found.success else None
