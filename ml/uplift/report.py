"""What a training found out about its heads: why each learner serves, and how right it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.uplift.diagnostics import (
    check_efficiency,
    fit_best_linear_predictor,
    group_effects,
    measure_calibration_error,
    rank_average,
)
from ml.uplift.isotonic import compare_with_line
from ml.uplift.personas import PERSONAS, sort_into_personas
from ml.uplift.trial import OutcomeTrial

RANKING = {
    "outcome": pl.String,
    "action_id": pl.String,
    "n_rows": pl.Int64,
    **dict.fromkeys(
        (
            *("p_value", "blp_slope", "blp_low", "blp_high", "calibration_error"),
            *("autoc", "autoc_low", "autoc_high", "qini", "qini_low", "qini_high"),
        ),
        pl.Float64,
    ),
}
BINS = {
    "outcome": pl.String,
    "action_id": pl.String,
    "bin": pl.Int64,
    "n_rows": pl.Int64,
    **dict.fromkeys(("predicted", "realised", "low", "high"), pl.Float64),
}
EFFICIENCY = {
    "action_id": pl.String,
    "decile": pl.Int64,
    "n_rows": pl.Int64,
    **dict.fromkeys(("predicted", "value", "cost", "cost_per_value"), pl.Float64),
    "failure": pl.String,
}
CURVES = {
    "outcome": pl.String,
    "family": pl.String,
    "risk_difference": pl.Float64,
    "standard_error": pl.Float64,
}
CAUTION = {
    "caution": pl.Float64,
    "policy_value": pl.Float64,
    "difference": pl.Float64,
    "standard_error": pl.Float64,
    "is_chosen": pl.Boolean,
}


@dataclass(frozen=True)
class HeadReport:
    """Tables of a training, on customers that the judged models didn't see.

    ``evidence``: columns of ``ml.uplift.trial.EVIDENCE``. ``ranking``: per outcome and action,
    ``RANKING``; p_value is its family's, of constant effects, adjusted by Holm. ``bins``: predicted
    against realised by fifth of the prediction, ``BINS``. ``efficiency``: cost per incremental
    value by decile of the predicted one, ``EFFICIENCY``. ``personas``: who is persuaded by each
    offer, ``ml.uplift.personas.PERSONAS``. ``curves``: whether an increasing curve would calibrate
    better than the line that serves, per family, ``CURVES``; below 0, beyond twice its error: yes.
    ``caution``: what policies are worth that take so many standard deviations over resamples off
    value effects, incremental net value per decision, beside the usual caution's, ``CAUTION``.
    """

    evidence: pl.DataFrame
    ranking: pl.DataFrame
    bins: pl.DataFrame
    efficiency: pl.DataFrame
    personas: pl.DataFrame
    curves: pl.DataFrame
    caution: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CAUTION))


def report_heads(
    trials: Mapping[str, OutcomeTrial],
    chosen: Mapping[str, Mapping[str, str]],
    *,
    evidence: pl.DataFrame,
    p_values: Mapping[tuple[str, str], float],
    actions: ActionSet,
    seed: int,
) -> HeadReport:
    """Diagnose the chosen candidates, each offer over all lifecycles.

    Predictions are calibrated with other folds' slopes, whether or not the family will abstain.

    Parameters
    ----------
    trials, chosen
        Outcome to its trial, and to the candidate per lifecycle.
    evidence
        Of the choice.
    p_values
        Outcome and family to the adjusted p-value of constant effects.
    actions
        K actions.
    seed
        Of the half-samples.

    Returns
    -------
    HeadReport
        An offer that the log never could compare with control has no rows.
    """
    effects = {outcome: trial.stitch(chosen[outcome]) for outcome, trial in trials.items()}
    ranking, bins, efficiency, personas = [], [], [], []
    for action, name in enumerate(actions.action_ids):
        for outcome, trial in trials.items():
            rows = trial.judged.possible[:, action] & np.isin(
                trial.judged.lifecycle, list(chosen[outcome])
            )
            if not action or not rows.any():
                continue
            judged = (
                trial.judged.pseudo[rows, action],
                effects[outcome][rows, action],
                trial.judged.customer[rows],
            )
            key = {"outcome": outcome, "action_id": name}
            slope = fit_best_linear_predictor(*judged)
            autoc, qini = rank_average(*judged, seed=seed)
            ranking.append(
                {
                    **key,
                    "n_rows": int(rows.sum()),
                    "p_value": p_values[outcome, actions.families[action]],
                    "blp_slope": slope.value,
                    "blp_low": slope.low,
                    "blp_high": slope.high,
                    "calibration_error": measure_calibration_error(*judged),
                    "autoc": autoc.value,
                    "autoc_low": autoc.low,
                    "autoc_high": autoc.high,
                    "qini": qini.value,
                    "qini_low": qini.low,
                    "qini_high": qini.high,
                }
            )
            bins += [{**key, **each} for each in group_effects(*judged).to_dicts()]
            if outcome == "cost":
                table, failure = check_efficiency(
                    trials["value"].judged.pseudo[rows, action],
                    judged[0],
                    effects["value"][rows, action],
                    np.maximum(judged[1], 0.0),
                    judged[2],
                )
                efficiency += [
                    {"action_id": name, **each, "failure": failure} for each in table.to_dicts()
                ]
                personas += sort_into_personas(
                    trials["value"].control[rows],
                    effects["value"][rows, action],
                    judged[1],
                    trials["value"].judged.pseudo[rows, action],
                    judged[0],
                    judged[2],
                    action_id=name,
                )
    return HeadReport(
        evidence,
        pl.DataFrame(ranking, schema=RANKING),
        pl.DataFrame(bins, schema=BINS),
        pl.DataFrame(efficiency, schema=EFFICIENCY),
        pl.DataFrame(personas, schema=PERSONAS),
        pl.DataFrame(
            [
                {"outcome": outcome, **each}
                for outcome, trial in trials.items()
                for each in compare_with_line(
                    trial.stitch(chosen[outcome], is_calibrated=False),
                    effects[outcome],
                    trial.judged,
                )
            ],
            schema=CURVES,
        ),
    )
