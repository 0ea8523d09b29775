"""Every estimator in one pass over the log: sums by block of customers, and what follows.

A log larger than memory is read in parts; parts add up. Resampling blocks instead of customers
makes intervals that cost the same for any number of decisions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numba
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml.core.compiling import IS_KEPT
from ml.core.errors import SupportError
from ml.ope.bootstrap import N_BLOCKS, N_RESAMPLES, bootstrap_blocks
from ml.ope.intervals import LEVEL, CustomerSums, Estimate

ROWS_AT_ONCE = 4_096
_TERMS = (
    "count",
    "weight",
    "weight_squared",
    "ips",
    "clipped_ips",
    "direct",
    "correction",
    "switched",
    "shrunk",
)


@dataclass(frozen=True)
class LogPart:
    """n decisions of a log and a policy's probabilities of them.

    ``customer``, ``action``: shape (n,), int; ``propensity``, ``reward``: shape (n,); ``policy``
    and ``expected_reward``: shape (n, K).
    """

    customer: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    reward: np.ndarray
    policy: np.ndarray
    expected_reward: np.ndarray


@dataclass(frozen=True)
class PolicySums:
    """Sums over decisions by block of customers, shape (blocks, 9), and the largest weight.

    ``limit`` is that of clipping and switching, ``shrinkage`` that of shrinking.
    """

    sums: np.ndarray
    largest_weight: float
    limit: float
    shrinkage: float

    @cached_property
    def values(self) -> dict[str, float]:
        """Every estimator's value, currency; a self-normalised one is NaN if every weight is 0."""
        return {
            name: float(totals.sum() / self.sums[:, 0].sum())
            for name, totals in _contribute(self.sums).items()
        }

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2."""
        _, weight, squared, *_ = self.sums.sum(axis=0)
        return float(weight**2 / squared) if squared > 0 else 0.0

    def bootstrap(
        self, *, seed: int, level: float = LEVEL, n_resamples: int = N_RESAMPLES
    ) -> dict[str, Estimate]:
        """Return every estimator's value with its studentised interval over resampled blocks.

        Parameters
        ----------
        seed
            Of the draws.
        level
            Of the intervals.
        n_resamples
            Draws.

        Returns
        -------
        dict
            Estimator to estimate. Customers are counted as the blocks that stand for them.

        Raises
        ------
        SupportError
            With fewer than two blocks that hold a customer.
        """
        filled = self.sums[self.sums[:, 0] > 0]
        contributions = _contribute(filled)
        counts = filled[:, 0]
        low, high = bootstrap_blocks(
            np.column_stack(list(contributions.values())),
            counts,
            seed=seed,
            level=level,
            n_resamples=n_resamples,
        )
        return {
            name: CustomerSums(totals, counts).describe(
                float(low[place]), float(high[place]), level
            )
            for place, (name, totals) in enumerate(contributions.items())
        }


def sum_log(
    parts: Iterable[LogPart], *, limit: float, shrinkage: float, n_blocks: int = N_BLOCKS
) -> PolicySums:
    """Sum a log in one pass.

    Parameters
    ----------
    parts
        The log's parts, in any order; a customer's decisions may lie in several.
    limit
        Of clipped IPS and Switch-DR.
    shrinkage
        Of DRos.
    n_blocks
        Customers are spread over so many blocks by their number.

    Returns
    -------
    PolicySums
        Of all parts.

    Raises
    ------
    SupportError
        If there is no decision, a propensity is outside (0, 1], or an action is none of K.
    """
    sums, largest = np.zeros((n_blocks, len(_TERMS))), 0.0
    for part in parts:
        seen = _add(
            part.reward,
            part.action,
            part.propensity,
            part.policy,
            part.expected_reward,
            part.customer,
            limit,
            shrinkage,
            sums,
        )
        if seen < 0:
            raise SupportError(
                "propensities must lie in (0, 1], actions among the policy's: the log cannot be "
                "weighted"
            )
        largest = max(largest, seen)
    if not sums[:, 0].any():
        raise SupportError("the log holds no decision")
    return PolicySums(sums, largest, limit, shrinkage)


def read_parts(file: Path, *, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[LogPart]:
    """Read a log from Parquet, part by part.

    Parameters
    ----------
    file
        Columns customer, action (integers), propensity, reward (floats), policy and
        expected_reward (lists of K floats).
    rows_at_once
        Decisions in memory at a time.

    Yields
    ------
    LogPart
        In the file's order.
    """
    # Buffered ahead, the file would be in memory as a whole.
    log = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 16)
    for batch in log.iter_batches(rows_at_once, use_threads=False):
        columns = {
            name: batch.column(name).to_numpy()
            for name in ("customer", "action", "propensity", "reward")
        }
        matrices = {
            name: pc.list_flatten(batch.column(name)).to_numpy().reshape(batch.num_rows, -1)
            for name in ("policy", "expected_reward")
        }
        yield LogPart(**columns, **matrices)


def _contribute(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return every estimator's contributions by block, shape (B, 9) to (B,) each.

    Their sum over the count is the estimator's value; a self-normalised one is linearised.
    """
    term = dict(zip(_TERMS, sums.T, strict=True))
    count, weight, direct = term["count"], term["weight"], term["direct"]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ips": term["ips"],
            "clipped_ips": term["clipped_ips"],
            "snips": _normalise(term["ips"], weight, count),
            "dm": direct,
            "dr": direct + term["correction"],
            "sndr": direct + _normalise(term["correction"], weight, count),
            "switch_dr": direct + term["switched"],
            "dros": direct + term["shrunk"],
        }


def _normalise(weighted: np.ndarray, weight: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return linearised contributions to sum(w v) / sum(w) by block."""
    value = weighted.sum() / weight.sum()
    return np.asarray(value * count + (weighted - value * weight) * count.sum() / weight.sum())


@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}, cache=IS_KEPT)
def _add(
    reward: np.ndarray,
    action: np.ndarray,
    propensity: np.ndarray,
    policy: np.ndarray,
    expected: np.ndarray,
    customer: np.ndarray,
    limit: float,
    shrinkage: float,
    sums: np.ndarray,
) -> float:
    """Add decisions to their blocks' sums; return the largest weight, -1 if one is impossible."""
    largest = 0.0
    n_actions, n_blocks = policy.shape[1], np.uint64(len(sums))
    for row in range(len(reward)):
        taken = action[row]
        if not (0.0 < propensity[row] <= 1.0 and 0 <= taken < n_actions):
            return -1.0
        weight = policy[row, taken] / propensity[row]
        direct = 0.0
        for each in range(n_actions):
            direct += policy[row, each] * expected[row, each]
        residual = reward[row] - expected[row, taken]
        # A multiplicative hash: neighbours go to blocks of their own.
        spread = np.uint64(customer[row]) * np.uint64(0x9E3779B97F4A7C15)
        of_block = sums[(spread >> np.uint64(32)) % n_blocks]
        of_block[0] += 1.0
        of_block[1] += weight
        of_block[2] += weight * weight
        of_block[3] += weight * reward[row]
        of_block[4] += min(weight, limit) * reward[row]
        of_block[5] += direct
        of_block[6] += weight * residual
        if weight <= limit:
            of_block[7] += weight * residual
        of_block[8] += weight / (1.0 + weight * weight / shrinkage) * residual
        largest = max(largest, weight)
    return largest
