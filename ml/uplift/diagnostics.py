"""Whether predicted effects are right: calibration, ranking and efficiency, clustered by customer.

Everything is judged on pseudo-outcomes of customers that the predicting models didn't see.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from ml.uplift.calibration import mean_by_customer

LEVEL = 0.95
N_BINS = 5
N_DECILES = 10
N_HALF_SAMPLES = 200
_QUANTILE = float(stats.norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval at ``LEVEL``."""

    value: float
    low: float
    high: float


def fit_best_linear_predictor(
    pseudo: np.ndarray, effect: np.ndarray, customer: np.ndarray
) -> Interval:
    """Return the slope of pseudo-outcomes on predicted effects: 1 if calibrated, 0 if noise.

    Parameters
    ----------
    pseudo : shape (n,)
        Doubly robust pseudo-outcomes.
    effect : shape (n,)
        Predicted.
    customer : shape (n,), int
        The cluster.

    Returns
    -------
    Interval
        NaN where predictions don't vary.

    References
    ----------
    Chernozhukov, Demirer, Duflo, Fernandez-Val (2018), theorem 2.1.
    """
    score, outcome = effect - effect.mean(), pseudo - pseudo.mean()
    spread = float(score @ score)
    if spread <= 1e-12 * len(score):
        return Interval(np.nan, np.nan, np.nan)
    slope = float(score @ outcome) / spread
    sums = np.bincount(customer, weights=score * (outcome - slope * score))
    half = _QUANTILE * float(np.sqrt(sums @ sums)) / spread
    return Interval(slope, slope - half, slope + half)


def group_effects(
    pseudo: np.ndarray, effect: np.ndarray, customer: np.ndarray, *, n_bins: int = N_BINS
) -> pl.DataFrame:
    """Return predicted against realised effects by quantile of the prediction.

    Parameters
    ----------
    pseudo, effect, customer : shape (n,)
        As for ``fit_best_linear_predictor``.
    n_bins
        Bins of equal size; ties stay in the order of rows.

    Returns
    -------
    pl.DataFrame
        bin (1: lowest), n_rows, predicted, realised, low, high; currency per decision.

    References
    ----------
    Chernozhukov, Demirer, Duflo, Fernandez-Val (2018), sorted group average effects.
    """
    order = np.argsort(effect, kind="stable")
    rows = []
    for number, members in enumerate(np.array_split(order, n_bins), start=1):
        if not len(members):
            continue
        realised, error = mean_by_customer(pseudo[members], customer[members])
        rows.append(
            {
                "bin": number,
                "n_rows": len(members),
                "predicted": float(effect[members].mean()),
                "realised": realised,
                "low": realised - _QUANTILE * error,
                "high": realised + _QUANTILE * error,
            }
        )
    return pl.DataFrame(rows)


def measure_calibration_error(
    pseudo: np.ndarray, effect: np.ndarray, customer: np.ndarray, *, n_bins: int = 10
) -> float:
    """Return the root of the debiased mean squared gap between predicted and realised by bin.

    A bin's squared gap is too large by its own sampling variance, which is taken off; below 0 in
    sum, the error is 0.

    Parameters
    ----------
    pseudo, effect, customer : shape (n,)
        As for ``fit_best_linear_predictor``.
    n_bins
        Bins of equal size.

    Returns
    -------
    float
        Currency per decision.

    References
    ----------
    Xu, Yadlowsky (2022), Calibration error for heterogeneous treatment effects, eq. 6.
    """
    bins = group_effects(pseudo, effect, customer, n_bins=n_bins)
    error = (bins["high"] - bins["low"]).to_numpy() / (2 * _QUANTILE)
    gap = (bins["realised"] - bins["predicted"]).to_numpy()
    return float(np.sqrt(max(0.0, np.average(gap**2 - error**2, weights=bins["n_rows"]))))


def rank_average(
    pseudo: np.ndarray, effect: np.ndarray, customer: np.ndarray, *, seed: int
) -> tuple[Interval, Interval]:
    """Return AUTOC and Qini coefficient of a ranking: 0 if it sorts nothing.

    TOC(q) is the mean effect of the share q ranked highest over everybody's; AUTOC is its integral
    over q, Qini that of q TOC(q). Intervals are half-samples' of customers.

    Parameters
    ----------
    pseudo, effect, customer : shape (n,)
        As for ``fit_best_linear_predictor``.
    seed
        Of the half-samples.

    Returns
    -------
    tuple
        AUTOC and Qini, currency per decision.

    References
    ----------
    Yadlowsky, Fleming, Shah, Brunskill, Wager (2025), JASA, definitions 1 and 2, theorem 3.
    """
    order = np.argsort(-effect, kind="stable")
    ordered, who = pseudo[order], customer[order]
    n_customers = int(customer.max(initial=-1)) + 1
    random = np.random.default_rng([seed, 73])
    whole = np.array(_average_ranks(ordered))
    halves = np.empty((N_HALF_SAMPLES, 2))
    for number in range(N_HALF_SAMPLES):
        # A half-sample deviates from the whole as the whole does from the truth.
        is_in = random.permutation(n_customers) < n_customers // 2
        halves[number] = _average_ranks(ordered[is_in[who]])
    half = _QUANTILE * np.sqrt(((halves - whole) ** 2).mean(axis=0))
    autoc, qini = (
        Interval(float(value), float(value - width), float(value + width))
        for value, width in zip(whole, half, strict=True)
    )
    return autoc, qini


def _average_ranks(ordered: np.ndarray) -> tuple[float, float]:
    """Return AUTOC and Qini of pseudo-outcomes in order of rank."""
    n = len(ordered)
    share = np.arange(1, n + 1) / n
    toc = ordered.cumsum() / np.arange(1, n + 1) - ordered.mean()
    return float(toc.mean()), float((share * toc).mean())


def check_efficiency(
    value_pseudo: np.ndarray,
    cost_pseudo: np.ndarray,
    value_effect: np.ndarray,
    cost_effect: np.ndarray,
    customer: np.ndarray,
) -> tuple[pl.DataFrame, str]:
    """Return realised cost per incremental value by decile of the predicted one, and what fails.

    Deciles run from the cheapest increment to the dearest. Strict monotonicity almost never holds
    by chance; what fails is an inversion between neighbours that is significant (Holm over the
    nine, 5 %), or a dearest decile that is provably cheaper than the cheapest.

    Parameters
    ----------
    value_pseudo, cost_pseudo : shape (n,)
        Pseudo-outcomes of one action's effects.
    value_effect, cost_effect : shape (n,)
        Predicted; rows whose predicted value effect is not positive come last.
    customer : shape (n,), int
        The cluster.

    Returns
    -------
    tuple
        decile, n_rows, predicted, value, cost, cost_per_value (NaN unless value > 0); and the
        failure, empty if there is none.
    """
    predicted = np.where(
        value_effect > 0, cost_effect / np.where(value_effect > 0, value_effect, 1), np.inf
    )
    parts = np.array_split(np.argsort(predicted, kind="stable"), N_DECILES)
    rows = []
    for number, members in enumerate(parts, start=1):
        value, cost = float(value_pseudo[members].mean()), float(cost_pseudo[members].mean())
        promised = float(value_effect[members].sum())
        rows.append(
            {
                "decile": number,
                "n_rows": len(members),
                "predicted": float(cost_effect[members].sum()) / promised
                if promised > 0
                else np.nan,
                "value": value,
                "cost": cost,
                "cost_per_value": cost / value if value > 0 else np.nan,
            }
        )
    pairs = [(first, first + 1) for first in range(N_DECILES - 1)]
    p_values = [
        _test_inversion(value_pseudo, cost_pseudo, parts[first], parts[second], customer)
        for first, second in pairs
    ]
    order = np.argsort(p_values)
    worst = int(order[0])
    failure = ""
    if p_values[worst] * len(pairs) < 1 - LEVEL:
        failure = f"decile {worst + 2} is cheaper than decile {worst + 1} (p {p_values[worst]:.4f})"
    extreme = _test_inversion(value_pseudo, cost_pseudo, parts[0], parts[-1], customer)
    if not failure and extreme < (1 - LEVEL) / 2:
        failure = f"the dearest decile is cheaper than the cheapest (p {extreme:.4f})"
    return pl.DataFrame(rows), failure


def _test_inversion(
    value: np.ndarray,
    cost: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    customer: np.ndarray,
) -> float:
    """Return the one-sided p-value of cost_1 / value_1 <= cost_2 / value_2.

    As cost_1 value_2 <= cost_2 value_1, which holds for small values too; by the delta method.
    """
    means = [float(each[part].mean()) for part in (first, second) for each in (value, cost)]
    value_1, cost_1, value_2, cost_2 = means
    contrast = cost_1 * value_2 - cost_2 * value_1
    sums = np.zeros(int(customer.max()) + 1)
    for part, by_value, by_cost in ((first, -cost_2, value_2), (second, cost_1, -value_1)):
        deviation = by_value * (value[part] - value[part].mean())
        deviation += by_cost * (cost[part] - cost[part].mean())
        sums += np.bincount(customer[part], weights=deviation / len(part), minlength=len(sums))
    error = float(np.sqrt(sums @ sums))
    return float(stats.norm.sf(contrast / error)) if error > 0 else 1.0
