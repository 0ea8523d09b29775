"""Learn: what offers do after the learning horizon, as far as it is proven, by family."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.logged import LoggedDecisions
from ml.ope.estimators import contrast_actions
from ml.ope.intervals import estimate_mean

LATER = {
    "family": pl.String,
    "n_decisions": pl.Int64,
    "effect": pl.Float64,
    "standard_error": pl.Float64,
    "counted": pl.Float64,
}
_COLUMNS = ("accounting_value", "accounting_cost", "is_accounting_matured")


@dataclass(frozen=True)
class LaterEffects:
    """``per_action``, shape (K,), currency per decision: what the objective counts; 0 for control.

    ``table`` has the columns of ``LATER``, a row per family.
    """

    per_action: np.ndarray
    table: pl.DataFrame


def estimate_later_effects(
    logged: LoggedDecisions, *, actions: ActionSet, weight: float
) -> LaterEffects:
    """Estimate each family's mean effect on net value between the two horizons.

    Of assigning any of its offers against none, self-normalised, clustered by customer; the offers'
    effects are pooled by their precision and counted as far as they are proven,

        counted = weight (1 - se^2 / effect^2)_+ effect

    A mean of a family, since a month's noise drowns differences between offers and customers
    (docs/methods.md). Later decisions about the customer lie within; they were made alike after an
    offer and after none.

    Parameters
    ----------
    logged
        Training decisions, with the columns of RealisedOutcomes; without them nothing is counted.
    actions
        K actions.
    weight
        Of later net value, 0 to leave it out.

    Returns
    -------
    LaterEffects
        Zeros where no accounting horizon has passed.
    """
    nothing = LaterEffects(np.zeros(actions.n_actions), pl.DataFrame(schema=LATER))
    frame = logged.contexts.frame
    if weight == 0 or not set(_COLUMNS) <= set(frame.columns):
        return nothing
    passed = logged.take(frame["is_accounting_matured"].fill_null(value=False).to_numpy())
    if not passed.n_decisions:
        return nothing
    frame = passed.contexts.frame
    later = frame["accounting_value"].to_numpy() - passed.value
    later -= frame["accounting_cost"].to_numpy() - passed.cost
    per_action, rows = np.zeros(actions.n_actions), []
    for family in sorted(set(actions.families[1:])):
        members = [k for k in range(1, actions.n_actions) if actions.families[k] == family]
        found = [each for k in members if (each := _estimate(later, passed, k)) is not None]
        if not found:
            continue
        effects, errors, counts = (np.array(each) for each in zip(*found, strict=True))
        precision = 1 / errors**2
        effect = float((precision * effects).sum() / precision.sum())
        error = float(precision.sum() ** -0.5)
        counted = weight * effect * max(0.0, 1 - error**2 / effect**2)
        per_action[members] = counted
        rows.append((family, int(counts.sum()), effect, error, counted))
    return LaterEffects(per_action, pl.DataFrame(rows, schema=LATER, orient="row"))


def _estimate(
    later: np.ndarray, logged: LoggedDecisions, action: int
) -> tuple[float, float, int] | None:
    """Return an offer's effect, its error and how often it was taken; None where it never was."""
    possible = logged.contexts.eligible[:, action] & logged.contexts.eligible[:, 0]
    taken = logged.action[possible]
    if not possible.any():
        return None
    try:
        contrast = contrast_actions(
            later[possible], taken, logged.propensity[possible], chosen=action, against=0
        )
        estimate = estimate_mean(contrast, logged.customer[possible])
    except SupportError:
        return None
    if not estimate.standard_error > 0 or estimate.value == 0:
        return None
    return estimate.value, estimate.standard_error, int((taken == action).sum())
