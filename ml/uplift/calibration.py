"""Shrinking predicted effects to what an independent fold supports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

PROOF_LEVEL = 0.95


@dataclass(frozen=True)
class Calibration:
    """effect(x) = mean_effect + slope (tau(x) - tau_mean), the best linear predictor.

    ``slope`` is 0 where the head abstains and uses the constant effect; trees that shrink may need
    one above 1.
    """

    mean_effect: float
    tau_mean: float
    slope: float

    def abstain(self) -> "Calibration":
        """Return the constant effect."""
        return replace(self, slope=0.0)


def doubly_robust_effect(
    outcome: np.ndarray,
    *,
    is_action: np.ndarray,
    is_control: np.ndarray,
    action_propensity: np.ndarray,
    control_propensity: np.ndarray,
    action_mean: np.ndarray,
    control_mean: np.ndarray,
) -> np.ndarray:
    """Return the doubly robust pseudo-outcome of an action's effect, one per row.

    psi = mu_a - mu_0 + 1{A=a}(Y - mu_a)/e_a - 1{A=0}(Y - mu_0)/e_0; its mean given x is the
    effect when the propensities are the logged ones. Means must come from other customers.

    Parameters
    ----------
    outcome : shape (n,)
        Realised, in its unit.
    is_action, is_control : shape (n,), bool
        Which rows took the action, or control.
    action_propensity, control_propensity : shape (n,), in (0, 1]
        Logged.
    action_mean, control_mean : shape (n,)
        Outcome models' means, from other customers.

    Returns
    -------
    np.ndarray
        Shape (n,), outcome's unit.

    References
    ----------
    Kennedy (2023), Electronic Journal of Statistics 17(2), eq. 2.
    """
    treated_part = is_action * (outcome - action_mean) / action_propensity
    control_part = is_control * (outcome - control_mean) / control_propensity
    return np.asarray(action_mean - control_mean + treated_part - control_part)


def calibrate_effects(
    pseudo: np.ndarray,
    tau: np.ndarray,
    possible: np.ndarray,
    *,
    families: Sequence[str],
    lifecycle: np.ndarray,
    customer: np.ndarray,
    shrinks_means: bool,
    prior_slope: float = 0.0,
) -> dict[str, tuple[Calibration, ...]]:
    """Fit the best linear predictor of pseudo-outcomes by predicted effects.

    Within each lifecycle and action both are centred, then one slope per family is fitted through
    all its rows. It is shrunk by its signal-to-noise to the prior slope p, which is
    p + (b - p) (1 - se^2 / (b - p)^2)_+, the error clustered by customer; where that exceeds 1,
    the prior is 1. It is never below 0. A lifecycle's mean effect of an action is the
    pseudo-outcomes'; with ``shrinks_means`` it is the prediction's, moved towards theirs by
    (1 - se^2 / gap^2)_+ of the gap.

    Parameters
    ----------
    pseudo : shape (n, K)
        Doubly robust pseudo-outcomes.
    tau : shape (n, K)
        Predicted effects of the same rows, by models fitted on other customers.
    possible : shape (n, K), bool
        Where the comparison with control has common ground.
    families : K names
        Of the actions; column 0 is control.
    lifecycle : shape (n,)
        Of the decision.
    customer : shape (n,), int
        Dense customer number.
    shrinks_means
        For noisy outcomes such as value; a cost's mean is precise.
    prior_slope
        0: nothing is known of the predictions; 1: they were calibrated before.

    Returns
    -------
    dict
        Lifecycle to one calibration per action; control's is 0.

    References
    ----------
    Chernozhukov, Demirer, Duflo, Fernandez-Val (2018), best linear predictor; docs/methods.md.
    """
    names = sorted(set(lifecycle.tolist()))
    cells = {name: lifecycle == name for name in names}
    calibrations = {name: [Calibration(0.0, 0.0, 0.0)] * len(families) for name in names}
    for members in group_offers(families).values():
        scores, outcomes, customers = [], [], []
        means: dict[tuple[str, int], tuple[float, float]] = {}
        for action in members:
            for name, is_own in cells.items():
                rows = possible[:, action] & is_own
                if not rows.any():
                    means[name, action] = 0.0, 0.0
                    continue
                centre = float(tau[rows, action].mean())
                effect, error = mean_by_customer(pseudo[rows, action], customer[rows])
                gap = effect - centre
                kept = max(0.0, 1 - error**2 / gap**2) if shrinks_means and gap else 1.0
                means[name, action] = centre + kept * gap, centre
                scores.append(tau[rows, action] - centre)
                outcomes.append(pseudo[rows, action] - effect)
                customers.append(customer[rows])
        slope = prior_slope
        if scores:
            slope = _fit_slope(
                *(np.concatenate(each) for each in (scores, outcomes, customers)), prior=prior_slope
            )
        for (name, action), (mean, centre) in means.items():
            calibrations[name][action] = Calibration(mean, centre, slope)
    return {name: tuple(each) for name, each in calibrations.items()}


def apply_calibrations(
    tau: np.ndarray, calibrations: Mapping[str, Sequence[Calibration]], lifecycle: np.ndarray
) -> np.ndarray:
    """Return calibrated effects of shape (n, K); 0 in a lifecycle that has none.

    Parameters
    ----------
    tau : shape (n, K)
        Predicted effects.
    calibrations
        Lifecycle to one per action.
    lifecycle : shape (n,)
        Of the rows.

    Returns
    -------
    np.ndarray
        Currency.
    """
    calibrated = np.zeros_like(tau)
    for name, each in calibrations.items():
        rows = lifecycle == name
        mean, centre, slope = np.array(
            [(one.mean_effect, one.tau_mean, one.slope) for one in each]
        ).T
        calibrated[rows] = mean + slope * (tau[rows] - centre)
    return calibrated


def mean_by_customer(values: np.ndarray, customer: np.ndarray) -> tuple[float, float]:
    """Return the mean of values, shape (n,), and its standard error, clustered by customer."""
    mean = float(values.mean())
    sums = np.bincount(customer, weights=values - mean)
    return mean, float(np.sqrt(sums @ sums)) / len(values)


def group_offers(families: Sequence[str]) -> dict[str, list[int]]:
    """Return the offers' indices by family; control is in none."""
    return {
        family: [k for k in range(1, len(families)) if families[k] == family]
        for family in sorted(set(families[1:]))
    }


def prove_means(
    pseudo: np.ndarray, possible: np.ndarray, *, families: Sequence[str], customer: np.ndarray
) -> np.ndarray:
    """Return which actions' family has a mean effect proven positive.

    One-sided at ``PROOF_LEVEL``, all actions of a family together, clustered by customer. A
    message that brings nothing still tires its reader, so doubt speaks against sending.

    Parameters
    ----------
    pseudo : shape (n, K), currency
        Doubly robust pseudo-outcomes of the net value effect.
    possible : shape (n, K), bool
        Where the comparison with control has common ground.
    families : K names
        Of the actions; column 0 is control.
    customer : shape (n,), int
        Dense customer number.

    Returns
    -------
    np.ndarray
        Shape (K,), bool; control always.
    """
    is_proven = np.zeros(len(families), dtype=bool)
    is_proven[0] = True
    quantile = float(stats.norm.ppf(PROOF_LEVEL))
    for members in group_offers(families).values():
        counts = possible[:, members].sum(axis=1)
        total = max(int(counts.sum()), 1)
        sums = np.where(possible[:, members], pseudo[:, members], 0.0).sum(axis=1)
        mean = float(sums.sum()) / total
        per_customer = np.bincount(customer, weights=sums - mean * counts)
        error = float(np.sqrt(per_customer @ per_customer)) / total
        is_proven[members] = mean > quantile * error
    return is_proven


def _fit_slope(
    score: np.ndarray, outcome: np.ndarray, customer: np.ndarray, *, prior: float
) -> float:
    """Return the slope of outcome on score, both centred, shrunken to a prior; beyond 1, to 1."""
    spread = float(score @ score)
    if spread <= 1e-12 * max(len(score), 1):
        return prior
    raw = float(score @ outcome) / spread
    per_customer = np.bincount(customer, weights=score * (outcome - raw * score))
    squared_error = float(per_customer @ per_customer) / spread**2

    def shrink(towards: float) -> float:
        gap = raw - towards
        return towards + (gap * max(0.0, 1 - squared_error / gap**2) if gap else 0.0)

    slope = max(0.0, shrink(prior))
    return slope if slope <= 1 else shrink(1.0)
