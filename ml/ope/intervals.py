"""Intervals for the mean of per-decision contributions, clustered by customer.

The mean over decisions is a ratio of customer sums, sum_g s_g / sum_g n_g. All intervals take the
customer as the unit that is drawn anew.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from ml.core.errors import SupportError

LEVEL = 0.95
_SPARSENESS = 4


@dataclass(frozen=True)
class Estimate:
    """A mean with its customer-clustered interval.

    ``value``, ``standard_error``, ``low`` and ``high`` in currency per decision.
    """

    value: float
    standard_error: float
    low: float
    high: float
    level: float
    n_decisions: int
    n_customers: int


@dataclass(frozen=True)
class CustomerSums:
    """Contributions summed by customer: ``total`` s_g and ``count`` n_g, shape (G,)."""

    total: np.ndarray
    count: np.ndarray

    @property
    def mean(self) -> float:
        """The mean over decisions."""
        return float(self.total.sum() / self.count.sum())

    @property
    def deviation(self) -> np.ndarray:
        """s_g - mean n_g, shape (G,)."""
        return self.total - self.mean * self.count

    @property
    def standard_error(self) -> float:
        """Of the mean, by linearising the ratio."""
        deviation, n_customers = self.deviation, len(self.total)
        variance = float(deviation @ deviation) * n_customers / (n_customers - 1)
        return float(np.sqrt(variance) / self.count.sum())

    def describe(self, low: float, high: float, level: float) -> Estimate:
        """Return the mean with an interval."""
        return Estimate(
            self.mean,
            self.standard_error,
            low,
            high,
            level,
            int(self.count.sum()),
            len(self.total),
        )


def sum_by_customer(values: np.ndarray, customer: np.ndarray) -> CustomerSums:
    """Sum contributions by customer.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.

    Returns
    -------
    CustomerSums
        Of G customers.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    if not len(customer):
        raise SupportError("no decision: an interval needs at least two customers")
    first, last = int(customer.min()), int(customer.max())
    cluster = customer - first
    if last - first > _SPARSENESS * len(customer):
        cluster = np.unique(customer, return_inverse=True)[1]
    count = np.bincount(cluster)
    is_seen = count > 0
    sums = CustomerSums(np.bincount(cluster, weights=values)[is_seen], count[is_seen].astype(float))
    if len(sums.total) < 2:
        raise SupportError(f"{len(sums.total)} customers: an interval needs at least two")
    return sums


def estimate_mean(values: np.ndarray, customer: np.ndarray, *, level: float = LEVEL) -> Estimate:
    """Return the mean of contributions with a t interval.

    Linearised ratio of customer sums, t quantile with G - 1 degrees of freedom for G customers.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.
    level
        Of the interval.

    Returns
    -------
    Estimate
        Mean and interval.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    sums = sum_by_customer(values, customer)
    reach = _reach(sums, level)
    return sums.describe(sums.mean - reach, sums.mean + reach, level)


def bound_by_likelihood(
    values: np.ndarray, customer: np.ndarray, *, level: float = LEVEL
) -> Estimate:
    """Return the mean of contributions with an empirical-likelihood interval (Owen 2001).

    All means whose likelihood ratio, maximised over weights of the customers, is not rejected; its
    limits follow the skewness of the contributions and never leave their range. The ratio is
    compared with F(1, G - 1), which is chi-squared for many customers.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.
    level
        Of the interval.

    Returns
    -------
    Estimate
        Mean and interval.

    Raises
    ------
    SupportError
        With fewer than two customers.
    """
    sums = sum_by_customer(values, customer)
    limit = float(stats.f.ppf(level, 1, len(sums.total) - 1))
    reach = _reach(sums, level)
    each = sums.total / sums.count
    low = _find_end(sums, -reach, float(each.min()), limit)
    high = _find_end(sums, reach, float(each.max()), limit)
    return sums.describe(low, high, level)


def bound_by_bernstein(
    values: np.ndarray,
    customer: np.ndarray,
    *,
    lowest: float,
    highest: float,
    level: float = LEVEL,
) -> Estimate:
    """Return the mean of contributions with an empirical Bernstein interval.

    It holds for any number of customers, if their contributions are bounded (Maurer and Pontil
    2009, theorem 4, both sides): sqrt(2 V log(4/d) / G) + 7 R log(4/d) / (3 (G - 1)) for the mean
    of G customer sums with variance V and range R, per mean number of decisions.

    Parameters
    ----------
    values : shape (n,)
        Contributions to average.
    customer : shape (n,), int
        Cluster of each decision.
    lowest, highest
        Bounds of one contribution that hold for any log, not the seen extremes.
    level
        Of the interval.

    Returns
    -------
    Estimate
        Mean and interval.

    Raises
    ------
    SupportError
        With fewer than two customers, or a contribution outside the bounds.
    """
    if values.min() < lowest or values.max() > highest:
        raise SupportError(
            f"contributions lie in [{values.min():.4g}, {values.max():.4g}], outside of the bounds "
            f"[{lowest:.4g}, {highest:.4g}]: state bounds that hold for every decision"
        )
    sums = sum_by_customer(values, customer)
    n_customers, most = len(sums.total), float(sums.count.max())
    log = float(np.log(4 / (1 - level)))
    variance = float(sums.deviation @ sums.deviation) / (n_customers - 1)
    reach = np.sqrt(2 * variance * log / n_customers) + 7 * most * (highest - lowest) * log / (
        3 * (n_customers - 1)
    )
    reach = float(reach) / float(sums.count.mean())
    return sums.describe(sums.mean - reach, sums.mean + reach, level)


def _reach(sums: CustomerSums, level: float) -> float:
    quantile = float(stats.t.ppf((1 + level) / 2, len(sums.total) - 1))
    return quantile * sums.standard_error


def _find_end(sums: CustomerSums, reach: float, extreme: float, limit: float) -> float:
    """Return the mean at which the likelihood ratio meets the limit, from the estimate outwards."""
    centre = sums.mean
    if reach == 0 or extreme == centre:
        return centre

    def excess(share: float) -> float:
        return _ratio(sums.total - (centre + share * reach) * sums.count) - limit

    most = (extreme - centre) / reach
    inner, outer = 0.0, min(1.0, 0.5 * most)
    while excess(outer) < 0:
        # Beyond the extreme no weights have that mean; the ratio grows without bound towards it.
        inner, outer = outer, min(1.5 * outer, outer + 0.5 * (most - outer))
        if most - outer < 1e-9 * most:
            return extreme
    share = optimize.brentq(excess, inner, outer, xtol=1e-6)
    return float(centre + share * reach)


def _ratio(deviation: np.ndarray) -> float:
    """Return -2 log of the empirical likelihood ratio of a mean deviation of 0.

    2 max over l of sum log(1 + l z), concave in l where every 1 + l z > 0.
    """
    scale = float(np.abs(deviation).max())
    z = deviation / scale
    low, high = -1 / float(z.max()), -1 / float(z.min())
    multiplier = 0.0
    for _ in range(100):
        terms = 1.0 + multiplier * z
        each = z / terms
        slope, bend = float(each.sum()), float(each @ each)
        if slope > 0:
            low = multiplier
        else:
            high = multiplier
        if abs(slope) <= 1e-10 * np.sqrt(bend * len(z)):
            break
        step = multiplier + slope / bend
        multiplier = step if low < step < high else 0.5 * (low + high)
    return 2.0 * float(np.log1p(multiplier * z).sum())
