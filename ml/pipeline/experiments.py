"""Identify: what the log's randomisation says about each offer, before any model."""

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.logged import LoggedDecisions
from ml.core.schemas import ExperimentEffects
from ml.ope.compliance import estimate_complier_effect
from ml.ope.estimators import contrast_actions
from ml.ope.intervals import Estimate, estimate_mean


def estimate_experiment_effects(logged: LoggedDecisions, *, actions: ActionSet) -> pl.DataFrame:
    """Estimate each offer's unadjusted effect on spend, visits, value and cost.

    Of assignment, which policies decide on; beside it of receipt, where deliveries say what went
    out (``estimate_complier_effect``).

    Self-normalised by the logged propensities, so with constant propensities it is exactly the
    difference of the arms' means. Intervals are clustered by customer.

    Parameters
    ----------
    logged
        Matured decisions whose contexts carry the outcome columns.
    actions
        Names.

    Returns
    -------
    pl.DataFrame
        ExperimentEffects.
    """
    frame = logged.contexts.frame
    outcomes = {
        "spend": frame["spend"].to_numpy(),
        "visit": (frame["visits"] > 0).to_numpy().astype(float),
        "value": logged.value,
        "cost": logged.cost,
    }
    rows = []
    for action, name in enumerate(actions.action_ids):
        keep = logged.contexts.eligible[:, action] & logged.contexts.eligible[:, 0]
        possible = logged.take(keep)
        is_reached = None
        if "realised_action_id" in frame.columns:
            is_reached = (frame["realised_action_id"] == name).to_numpy()
        n_offered = int((possible.action == action).sum())
        n_control = int((possible.action == 0).sum())
        if action == 0 or not n_offered or not n_control:
            continue
        for outcome, values in outcomes.items():
            difference = contrast_actions(
                values[keep], possible.action, possible.propensity, chosen=action, against=0
            )
            estimate = estimate_mean(difference, possible.customer)
            complier = None
            if is_reached is not None:
                complier = _find_complier_effect(
                    values[keep], is_reached[keep], possible, action=action
                )
            rows.append(
                {
                    "action_id": name,
                    "outcome": outcome,
                    "n_offered": n_offered,
                    "n_control": n_control,
                    "effect": estimate.value,
                    "standard_error": estimate.standard_error,
                    "low": estimate.low,
                    "high": estimate.high,
                    "complier_effect": None if complier is None else complier.value,
                    "complier_low": None if complier is None else complier.low,
                    "complier_high": None if complier is None else complier.high,
                }
            )
    return ExperimentEffects.validate(
        pl.DataFrame(rows, schema=ExperimentEffects.create_empty().schema)
    )


def _find_complier_effect(
    outcome: np.ndarray, is_reached: np.ndarray, possible: LoggedDecisions, *, action: int
) -> Estimate | None:
    """Return the effect on those whom an offer reaches, None where assignment hardly moves that."""
    try:
        return estimate_complier_effect(
            outcome,
            is_reached,
            action=possible.action,
            propensity=possible.propensity,
            customer=possible.customer,
            chosen=action,
            against=0,
        )
    except SupportError:
        return None
