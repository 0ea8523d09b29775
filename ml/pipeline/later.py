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
LEAST_DECISIONS = 100
_COLUMNS = ("accounting_value", "accounting_cost", "is_accounting_matured")


@dataclass(frozen=True)
class LaterEffects:
    """``per_action``, shape (K,), currency per decision: what the objective counts; 0 for control.

    ``table`` has the columns of ``LATER``, a row per family.
    """

    per_action: np.ndarray
    table: pl.DataFrame


def take_accounted(logged: LoggedDecisions) -> LoggedDecisions:
    """Return the decisions whose accounting horizon has passed, none where a log lacks it.

    Parameters
    ----------
    logged
        With the columns of RealisedOutcomes.

    Returns
    -------
    LoggedDecisions
        In the same order.
    """
    frame = logged.contexts.frame
    if not set(_COLUMNS) <= set(frame.columns):
        return logged.take(np.zeros(logged.n_decisions, dtype=bool))
    return logged.take(frame["is_accounting_matured"].fill_null(value=False).to_numpy())


def realise_later(accounted: LoggedDecisions) -> np.ndarray:
    """Return each decision's net value between the two horizons, shape (n,), currency.

    Cost is the decision's own offer's; what the customer's later decisions cost is not in it.

    Parameters
    ----------
    accounted
        Of ``take_accounted``.

    Returns
    -------
    np.ndarray
        Accounting horizon's net value less the learning horizon's.
    """
    frame = accounted.contexts.frame
    value = frame["accounting_value"].to_numpy() - accounted.value
    return np.asarray(value - (frame["accounting_cost"].to_numpy() - accounted.cost))


def estimate_later_effects(
    logged: LoggedDecisions, *, actions: ActionSet, weight: float
) -> LaterEffects:
    """Estimate each family's mean effect on net value between the two horizons.

    Of assigning any of its offers against none: the offers' self-normalised contrasts, weighted by
    how often each was taken, as one vector of contributions clustered by customer, so that what
    they share, the decisions without an offer, is counted once. Counted as far as it is proven,

        counted = weight (1 - se^2 / effect^2)_+ effect

    A mean of a family, since a month's noise drowns differences between offers and customers
    (docs/methods.md). Later decisions about the customer lie within: the effect is that under the
    policies that took them.

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
        Zeros where no accounting horizon has passed; offers taken, or left for none, fewer than
        100 times tell nothing, and share their family's effect.
    """
    per_action, rows = np.zeros(actions.n_actions), []
    accounted = take_accounted(logged)
    if weight == 0 or not accounted.n_decisions:
        return LaterEffects(per_action, pl.DataFrame(schema=LATER))
    later = realise_later(accounted)
    for family in sorted(set(actions.families[1:])):
        members = [k for k in range(1, actions.n_actions) if actions.families[k] == family]
        contributions, n_taken = np.zeros(len(later)), 0
        for action in members:
            own = _contrast(later, accounted, action)
            if own is not None:
                taken = int((accounted.action == action).sum())
                contributions += taken * own
                n_taken += taken
        if not n_taken:
            continue
        try:
            found = estimate_mean(contributions / n_taken, accounted.customer)
        except SupportError:
            continue
        shrink = 0.0
        if found.value != 0:
            shrink = max(0.0, 1 - found.standard_error**2 / found.value**2)
        counted = weight * shrink * found.value
        per_action[members] = counted
        rows.append((family, n_taken, found.value, found.standard_error, counted))
    return LaterEffects(per_action, pl.DataFrame(rows, schema=LATER, orient="row"))


def _contrast(later: np.ndarray, logged: LoggedDecisions, action: int) -> np.ndarray | None:
    """Return contributions to an offer's effect, whose mean over all rows it is; None if thin."""
    possible = logged.contexts.eligible[:, action] & logged.contexts.eligible[:, 0]
    taken = logged.action[possible]
    if min((taken == action).sum(), (taken == 0).sum()) < LEAST_DECISIONS:
        return None
    spread = np.zeros(len(later))
    spread[possible] = contrast_actions(
        later[possible], taken, logged.propensity[possible], chosen=action, against=0
    )
    return spread * len(later) / possible.sum()
