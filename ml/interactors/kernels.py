"""Compiled sums over clusters, for many draws of the offers at once."""

import numba
import numpy as np

from ml.core.compiling import IS_KEPT


@numba.njit(nogil=True, parallel=True, error_model="numpy", cache=IS_KEPT)
def sum_clusters(
    starts: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    cluster: np.ndarray,
    drawn: np.ndarray,
    by_cluster: np.ndarray,
    total: np.ndarray,
    square: np.ndarray,
    cross: np.ndarray,
) -> None:
    """Sum a candidate's products with each draw, and their squares cluster by cluster.

    Candidates are columns, compressed: column j's entries are ``starts[j] : starts[j + 1]`` of
    ``rows`` and ``values``, rows rising and of one ``cluster``, shape (n,), next to each other.
    ``drawn`` has shape (n, B), ``by_cluster`` (k, C, B). Written: ``total`` and ``square``, shape
    (m, B), and ``cross``, shape (k, m, B), the sum over clusters of a candidate's own sum times
    ``by_cluster``.
    """
    n_draws, n_base = drawn.shape[1], len(by_cluster)
    for column in numba.prange(len(starts) - 1):
        run = np.zeros(n_draws)
        first, last = starts[column], starts[column + 1]
        for entry in range(first, last):
            row, value = rows[entry], values[entry]
            for draw in range(n_draws):
                run[draw] += value * drawn[row, draw]
            if entry + 1 < last and cluster[rows[entry + 1]] == cluster[row]:
                continue
            own = cluster[row]
            for draw in range(n_draws):
                total[column, draw] += run[draw]
                square[column, draw] += run[draw] * run[draw]
            for base in range(n_base):
                for draw in range(n_draws):
                    cross[base, column, draw] += run[draw] * by_cluster[base, own, draw]
            run[:] = 0.0
