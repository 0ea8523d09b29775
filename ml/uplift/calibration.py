"""Shrinking predicted effects to what an independent fold supports."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """effect(x) = mean_effect + slope (tau(x) - tau_mean), the best linear predictor.

    ``slope`` lies in [0, 1]; 0 means that the head abstains and uses the constant effect.
    """

    mean_effect: float
    tau_mean: float
    slope: float

    def apply(self, tau: np.ndarray) -> np.ndarray:
        """Return calibrated effects, shape (n,)."""
        return self.mean_effect + self.slope * (tau - self.tau_mean)


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


def calibrate_effect(pseudo: np.ndarray, tau: np.ndarray, *, trust: float = 1.0) -> Calibration:
    """Fit the best linear predictor of pseudo-outcomes by predicted effects.

    The slope is shrunk by its signal-to-noise, slope (1 - se^2 / slope^2)_+, then kept within
    [0, 1], so a head whose ranking an independent fold does not support abstains.

    Parameters
    ----------
    pseudo : shape (n,)
        Doubly robust pseudo-outcomes of customers that fitted nothing.
    tau : shape (n,)
        Predicted effects of the same rows.
    trust
        Multiplies the slope; 0 forces the constant effect.

    Returns
    -------
    Calibration
        With slope 0 where tau does not vary.
    """
    mean_effect, tau_mean = float(pseudo.mean()), float(tau.mean())
    centred = tau - tau_mean
    spread = float(centred @ centred)
    if spread <= 1e-12 * len(tau):
        return Calibration(mean_effect, tau_mean, 0.0)
    raw = float(centred @ (pseudo - mean_effect)) / spread
    residual = pseudo - mean_effect - raw * centred
    squared_error = float((centred**2) @ (residual**2)) / spread**2
    shrunk = raw * max(0.0, 1 - squared_error / raw**2) if raw > 0 else 0.0
    return Calibration(mean_effect, tau_mean, trust * min(1.0, shrunk))
