"""A small loyalty programme whose every probability is written down, and its exact values."""

import numpy as np

N_TIERS = 4
PURCHASE = np.array(
    [[0.20, 0.26, 0.62], [0.30, 0.42, 0.54], [0.42, 0.50, 0.56], [0.60, 0.61, 0.62]]
)
"""Of tier and action (nothing, a message, a discount)."""
TICKET = np.array([6.0, 7.0, 8.0, 9.0])
COST = np.array([0.0, 0.3, 2.2])
UP, DOWN = 0.35, 0.20


def expect():
    """Return expected rewards, shape (4, 3), and transition probabilities, shape (4, 3, 4)."""
    reward = PURCHASE * TICKET[:, None] - COST
    moves = np.zeros((N_TIERS, 3, N_TIERS))
    for tier in range(N_TIERS):
        for action in range(3):
            buys = PURCHASE[tier, action]
            moves[tier, action, min(tier + 1, 3)] += buys * UP
            moves[tier, action, max(tier - 1, 0)] += (1 - buys) * DOWN
            moves[tier, action, tier] += buys * (1 - UP) + (1 - buys) * (1 - DOWN)
    return reward, moves


def iterate_values(discount):
    """Return the best policy's values, shape (4,), and actions, shape (4,), by value iteration."""
    reward, moves = expect()
    value = np.zeros(N_TIERS)
    for _ in range(5_000):
        value = (reward + discount * moves @ value).max(axis=1)
    return value, (reward + discount * moves @ value).argmax(axis=1)


def evaluate(actions, discount):
    """Return a policy's values, shape (4,), solved exactly."""
    reward, moves = expect()
    rows = np.arange(N_TIERS)
    return np.linalg.solve(np.eye(N_TIERS) - discount * moves[rows, actions], reward[rows, actions])
