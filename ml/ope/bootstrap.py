"""Studentised bootstrap intervals of means, whole customers drawn in blocks.

Blocks make the cost the same for any number of customers.
"""

from collections.abc import Sequence

import numpy as np

from ml.core.errors import SupportError
from ml.ope.intervals import LEVEL, Estimate, sum_by_customer

N_RESAMPLES = 1_000
N_BLOCKS = 1_000


def bootstrap_mean(
    values: np.ndarray,
    customer: np.ndarray,
    *,
    seed: int,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
) -> Estimate:
    """Return the mean of contributions with a studentised bootstrap interval.

    Customers are drawn with replacement, in blocks of whole customers where there are more than
    ``N_BLOCKS``, so that the cost does not grow with them.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.
    seed
        Of the draws.
    level
        Of the interval.
    n_resamples
        Draws.

    Returns
    -------
    Estimate
        Mean and interval.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    (estimate,) = bootstrap_means(
        [values], customer, seed=seed, level=level, n_resamples=n_resamples
    )
    return estimate


def bootstrap_means(
    contributions: Sequence[np.ndarray],
    customer: np.ndarray,
    *,
    seed: int,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
) -> list[Estimate]:
    """Return several means over the same decisions, as ``bootstrap_mean`` does one.

    The resamples are drawn once for all of them.

    Parameters
    ----------
    contributions : E arrays of shape (n,)
        To average, each for itself.
    customer : shape (n,), int
        Cluster of each decision.
    seed
        Of the draws.
    level
        Of the intervals.
    n_resamples
        Draws.

    Returns
    -------
    list
        E estimates.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    every = [sum_by_customer(values, customer) for values in contributions]
    block = _spread(len(every[0].count), np.random.default_rng([seed, 73]))
    low, high = bootstrap_blocks(
        np.column_stack([np.bincount(block, weights=sums.total) for sums in every]),
        np.bincount(block, weights=every[0].count),
        seed=seed,
        level=level,
        n_resamples=n_resamples,
    )
    return [
        sums.describe(float(low[place]), float(high[place]), level)
        for place, sums in enumerate(every)
    ]


def bootstrap_blocks(
    totals: np.ndarray,
    counts: np.ndarray,
    *,
    seed: int,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
    """Return studentised bootstrap limits of several means over the same blocks.

    t* = (m* - m) / se* over resampled blocks, limits m - t*_high se and m - t*_low se (Efron and
    Tibshirani 1993, 12.5).

    Parameters
    ----------
    totals : shape (B, E)
        Contributions to E means, summed by block of customers.
    counts : shape (B,)
        Decisions of each block.
    seed
        Of the draws, which all means share.
    level
        Of the intervals.
    n_resamples
        Draws.

    Returns
    -------
    tuple
        Lower and upper limits, shape (E,) each.

    Raises
    ------
    SupportError
        With fewer than two blocks.
    """
    n_blocks, n_means = totals.shape
    if n_blocks < 2:
        raise SupportError(f"{n_blocks} blocks of customers: an interval needs at least two")
    chosen = np.random.default_rng([seed, 75]).integers(n_blocks, size=(n_resamples, n_blocks))
    chosen += n_blocks * np.arange(n_resamples)[:, None]
    drawn = np.bincount(chosen.ravel(), minlength=n_resamples * n_blocks)
    mean = totals.sum(axis=0) / counts.sum()  # (E,)
    # Centred first: the squares below would cancel where the mean is large beside the spread.
    deviation = totals - mean * counts[:, None]  # (B, E)
    error = np.sqrt((deviation**2).sum(axis=0) * n_blocks / (n_blocks - 1)) / counts.sum()
    moments = np.column_stack(
        [counts, counts**2, deviation, deviation**2, deviation * counts[:, None]]
    )
    sums = drawn.reshape(n_resamples, n_blocks).astype(float) @ moments  # (R, 2 + 3 E)
    count, count_squared = sums[:, :1], sums[:, 1:2]
    first, second, crossed = np.split(sums[:, 2:], [n_means, 2 * n_means], axis=1)  # (R, E)
    away = first / count  # m* - m
    spread = second - 2 * away * crossed + away**2 * count_squared
    resampled_error = np.sqrt(np.maximum(spread, 0.0)) / count
    t = np.divide(away, resampled_error, out=np.zeros_like(away), where=resampled_error > 0)
    below, above = np.quantile(t, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return mean - above * error, mean - below * error


def _spread(n_customers: int, random: np.random.Generator) -> np.ndarray:
    """Return every customer's block: their own, or one of ``N_BLOCKS`` by chance."""
    if n_customers <= N_BLOCKS:
        return np.arange(n_customers)
    return np.asarray(random.permutation(n_customers) % N_BLOCKS)
