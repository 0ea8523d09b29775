"""Depths of an incentive: a deeper one brings and costs at least as much as a shallower one."""

from collections.abc import Sequence

import numpy as np


def group_depths(
    families: Sequence[str], channels: Sequence[str], face_values: np.ndarray
) -> tuple[tuple[int, ...], ...]:
    """Return the actions that are depths of one incentive, shallow first.

    Parameters
    ----------
    families, channels : K names
        Depths share both; control is in none.
    face_values : shape (K,), currency
        Their order.

    Returns
    -------
    tuple
        Indices; only of incentives with at least two depths.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for action in range(1, len(families)):
        if face_values[action] > 0:
            members.setdefault((families[action], channels[action]), []).append(action)
    return tuple(
        tuple(sorted(each, key=lambda action: (face_values[action], action)))
        for each in members.values()
        if len(each) > 1
    )


def order_by_depth(
    effect: np.ndarray, depths: Sequence[Sequence[int]], known: np.ndarray
) -> np.ndarray:
    """Return effects that do not fall with depth: the nearest ones by least squares.

    Isotonic regression of each customer's effects over the depths, by its max-min formula
    (Robertson, Wright and Dykstra 1988, theorem 1.4.4).

    Parameters
    ----------
    effect : shape (n, K), currency
        Expected effects.
    depths
        Of ``group_depths``.
    known : shape (n, K), bool
        Which effects are estimates; an incentive of which one is not stays as it is.

    Returns
    -------
    np.ndarray
        Shape (n, K); a copy.
    """
    ordered = np.array(effect, dtype=float)
    for actions in depths:
        columns = np.array(actions)
        rows = np.flatnonzero(known[:, columns].all(axis=1))
        own = ordered[np.ix_(rows, columns)]  # (n', m)
        total = np.concatenate([np.zeros((len(own), 1)), np.cumsum(own, axis=1)], axis=1)
        m = len(actions)
        fitted = np.full(own.shape, -np.inf)
        for first in range(m):
            # The least mean of first..last over last >= place, for every place >= first.
            means = (total[:, first + 1 :] - total[:, first : first + 1]) / np.arange(
                1, m - first + 1
            )
            least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
            fitted[:, first:] = np.maximum(fitted[:, first:], least)
        ordered[np.ix_(rows, columns)] = fitted
    return ordered
