"""What an offer does to those whom it reaches: assignment as instrumental variable."""

import numpy as np

from ml.core.errors import SupportError
from ml.ope.estimators import contrast_actions
from ml.ope.intervals import LEVEL, Estimate, estimate_mean

WEAK_DEVIATIONS = 10.0


def estimate_complier_effect(
    outcome: np.ndarray,
    is_reached: np.ndarray,
    *,
    action: np.ndarray,
    propensity: np.ndarray,
    customer: np.ndarray,
    chosen: int,
    against: int,
    level: float = LEVEL,
) -> Estimate:
    """Return the effect of receiving an offer among those who receive it when it is assigned.

    Wald's ratio: the effect of assignment on the outcome over that on receipt, each self-normalised
    by assignment propensities; its interval is the linearised ratio's, clustered by customer
    (Imbens and Angrist 1994). Assumes that an offer that doesn't arrive has no effect, and that
    nobody receives it because it was not assigned. Policies are valued by assignment, not by this.

    Parameters
    ----------
    outcome : shape (n,)
        Of decisions where both actions were possible.
    is_reached : shape (n,), bool
        Whether the offer really went out.
    action : shape (n,), int
        The action assigned.
    propensity : shape (n,), in (0, 1]
        Of the assignment.
    customer : shape (n,), int
        Cluster of each decision.
    chosen, against
        The offer and its control.
    level
        Of the interval.

    Returns
    -------
    Estimate
        Effect per offer received.

    Raises
    ------
    SupportError
        If one of the two was never assigned, or assignment moves receipt by less than 10 standard
        errors: a weak instrument, whose ratio means nothing.
    """
    effect, receipt = (
        contrast_actions(values, action, propensity, chosen=chosen, against=against)
        for values in (outcome, is_reached.astype(float))
    )
    uptake = estimate_mean(receipt, customer, level=level)
    if uptake.value < WEAK_DEVIATIONS * uptake.standard_error or uptake.value <= 0:
        raise SupportError(
            f"assignment hardly moves what is received ({uptake.value:.3f}, standard error "
            f"{uptake.standard_error:.3f}): no complier effect"
        )
    ratio = float(effect.mean()) / uptake.value
    return estimate_mean(ratio + (effect - ratio * receipt) / uptake.value, customer, level=level)
