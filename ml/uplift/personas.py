"""Who is persuaded by an offer, who buys anyway: a picture for people, never a rule."""

from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from ml.uplift.calibration import mean_by_customer

NAMES = ("persuadable", "sure thing", "lost cause", "do not disturb")
PERSONAS = {
    "action_id": pl.String,
    "persona": pl.String,
    "n_rows": pl.Int64,
    "share": pl.Float64,
    **dict.fromkeys(("predicted", "realised", "low", "high", "realised_cost"), pl.Float64),
}
FEWEST_DECISIONS = 30
_QUANTILE = float(stats.norm.ppf(0.975))


def sort_into_personas(
    control_value: np.ndarray,
    value_effect: np.ndarray,
    cost_effect: np.ndarray,
    value_pseudo: np.ndarray,
    cost_pseudo: np.ndarray,
    customer: np.ndarray,
    *,
    action_id: str,
) -> list[dict[str, Any]]:
    """Sort decisions by what an offer is predicted to do, and say what it did.

    Persuadable: the value effect exceeds the cost effect. Do not disturb: it is below 0. Of those
    between, sure things are worth at least the median without the offer, lost causes less.

    Parameters
    ----------
    control_value, value_effect, cost_effect : shape (n,)
        Predicted for customers that the models didn't see, currency per decision.
    value_pseudo, cost_pseudo : shape (n,)
        Pseudo-outcomes of the offer's effects.
    customer : shape (n,), int
        The cluster.
    action_id
        The offer.

    Returns
    -------
    list
        One row per persona that anybody is, with the columns of ``PERSONAS``: predicted and
        realised are value effects, the interval is at 95 %; NaN for fewer than 30 decisions.
    """
    is_rich = control_value >= np.median(control_value)
    persona = np.select(
        [value_effect < 0, value_effect > cost_effect, is_rich], [3, 0, 1], default=2
    )
    rows = []
    for number, name in enumerate(NAMES):
        own = persona == number
        if not own.any():
            continue
        realised, error = mean_by_customer(value_pseudo[own], customer[own])
        if own.sum() < FEWEST_DECISIONS:
            realised = error = np.nan
        rows.append(
            {
                "action_id": action_id,
                "persona": name,
                "n_rows": int(own.sum()),
                "share": float(own.mean()),
                "predicted": float(value_effect[own].mean()),
                "realised": realised,
                "low": realised - _QUANTILE * error,
                "high": realised + _QUANTILE * error,
                "realised_cost": float(cost_pseudo[own].mean()),
            }
        )
    return rows
