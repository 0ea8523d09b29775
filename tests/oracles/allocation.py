"""Slow, obvious allocation: try every assignment."""

from itertools import product

import numpy as np


def best_assignment_value(reward, cost, eligible, budget):
    """Return the most reward of any assignment within the budget."""
    n, k = reward.shape
    best = -np.inf
    for chosen in product(range(k), repeat=n):
        rows = np.arange(n)
        if eligible[rows, chosen].all() and cost[rows, chosen].sum() <= budget + 1e-12:
            best = max(best, reward[rows, chosen].sum())
    return best
