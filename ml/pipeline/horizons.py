"""Horizon sensitivity: whether effects learned over days hold over the weeks accounted for."""

import numpy as np
import polars as pl

from ml.core.logged import LoggedDecisions
from ml.ope.intervals import estimate_mean
from ml.pipeline.objective import expect_rewards
from ml.pipeline.policies import BudgetedPolicy
from ml.uplift.calibration import doubly_robust_effect
from ml.uplift.diagnostics import fit_best_linear_predictor

HORIZONS = {
    "action_id": pl.String,
    "outcome": pl.String,
    "n_rows": pl.Int64,
    **dict.fromkeys(
        (
            *("learning", "learning_low", "learning_high"),
            *("accounting", "accounting_low", "accounting_high"),
            *("slope", "slope_low", "slope_high"),
        ),
        pl.Float64,
    ),
}

_FEWEST_CUSTOMERS = 2


def compare_horizons(candidate: BudgetedPolicy, logged: LoggedDecisions) -> pl.DataFrame:
    """Compare each offer's effects over the learning and over the accounting horizon.

    On the same decisions: those whose accounting horizon has passed. Later decisions about the
    same customer fall into the longer horizon; they were made alike after an offer and after none,
    so the comparison is of assignments, and holds for the policies that were logged.

    Parameters
    ----------
    candidate
        Fitted on other customers; its predictions are the outcome model and are put to the test.
    logged
        Evaluation decisions, with the columns of RealisedOutcomes.

    Returns
    -------
    pl.DataFrame
        ``HORIZONS``: mean effects per decision with 95 % intervals clustered by customer, and the
        slope of accounting effects on predicted ones (1: as predicted; at or below 0: the ranking
        doesn't last; null where predictions don't vary). No rows before a horizon has passed, or
        for fewer than two customers.
    """
    is_matured = logged.contexts.frame["is_accounting_matured"].to_numpy()
    passed = logged.take(is_matured & logged.has_vector)
    if not passed.n_decisions:
        return pl.DataFrame(schema=HORIZONS)
    frame = passed.contexts.frame
    expected = expect_rewards(candidate, passed)
    expected["net_value"] = expected["value"] - expected["cost"]
    realised = {
        "value": (passed.value, frame["accounting_value"].to_numpy()),
        "cost": (passed.cost, frame["accounting_cost"].to_numpy()),
    }
    realised["net_value"] = (
        realised["value"][0] - realised["cost"][0],
        realised["value"][1] - realised["cost"][1],
    )
    rows = []
    for action, name in enumerate(candidate.actions.action_ids):
        possible = (passed.logging_policy[:, action] > 0) & (passed.logging_policy[:, 0] > 0)
        if not action or not possible.any():
            continue
        customer = passed.customer[possible]
        if len(np.unique(customer)) < _FEWEST_CUSTOMERS:
            continue
        for outcome, by_horizon in realised.items():
            mean = expected[outcome][possible]
            pseudo = [
                doubly_robust_effect(
                    each[possible],
                    is_action=passed.action[possible] == action,
                    is_control=passed.action[possible] == 0,
                    action_propensity=passed.logging_policy[possible, action],
                    control_propensity=passed.logging_policy[possible, 0],
                    action_mean=mean[:, action],
                    control_mean=mean[:, 0],
                )
                for each in by_horizon
            ]
            learning, accounting = (estimate_mean(each, customer) for each in pseudo)
            slope = fit_best_linear_predictor(pseudo[1], mean[:, action] - mean[:, 0], customer)
            rows.append(
                {
                    "action_id": name,
                    "outcome": outcome,
                    "n_rows": len(customer),
                    "learning": learning.value,
                    "learning_low": learning.low,
                    "learning_high": learning.high,
                    "accounting": accounting.value,
                    "accounting_low": accounting.low,
                    "accounting_high": accounting.high,
                    "slope": slope.value,
                    "slope_low": slope.low,
                    "slope_high": slope.high,
                }
            )
    return pl.DataFrame(rows, schema=HORIZONS).with_columns(
        pl.selectors.starts_with("slope").fill_nan(None)
    )
