"""Whether a curve would calibrate better than the line: isotonic cross-calibration."""

from dataclasses import replace

import numpy as np
from scipy.optimize import isotonic_regression

from ml.uplift.calibration import group_offers
from ml.uplift.selection import CONFIRMING_FOLD, N_FOLDS, Judged, compare_risks

_DIGITS = 9


def cross_calibrate(tau: np.ndarray, judged: Judged) -> np.ndarray:
    """Return effects mapped by an increasing curve per family, each fold by the others' curve.

    As with the line, predictions and pseudo-outcomes are centred within lifecycle and action; mean
    effects are the line's.

    Parameters
    ----------
    tau : shape (n, K)
        Predicted by models of other customers.
    judged
        The same rows; the confirming fold shapes no curve.

    Returns
    -------
    np.ndarray
        Shape (n, K), currency.

    References
    ----------
    van der Laan, Ulloa-Perez, Carone, Luedtke (2023), ICML, Causal isotonic calibration,
    algorithm 2.
    """
    mapped = np.zeros_like(tau)
    for held in range(N_FOLDS):
        learned = (judged.fold != held) & (judged.fold != CONFIRMING_FOLD)
        calibrations = judged.take(learned).calibrate(tau[learned])
        for members in group_offers(judged.families).values():
            scores, outcomes, cells = [], [], []
            for action in members:
                for name, each in calibrations.items():
                    is_own = (judged.lifecycle == name) & judged.possible[:, action]
                    rows = is_own & learned
                    if rows.any():
                        pseudo = judged.pseudo[rows, action]
                        scores.append(tau[rows, action] - each[action].tau_mean)
                        outcomes.append(pseudo - pseudo.mean())
                        cells.append((action, is_own & (judged.fold == held), each[action]))
            if not cells:
                continue
            steps, curve = _fit_curve(np.concatenate(scores), np.concatenate(outcomes))
            for action, rows, line in cells:
                risen = np.interp(tau[rows, action] - line.tau_mean, steps, curve)
                mapped[rows, action] = line.mean_effect + risen
    return mapped


def _fit_curve(score: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an increasing curve's steps and values; equal scores have one value."""
    steps, place = np.unique(np.round(score, _DIGITS), return_inverse=True)
    counts = np.bincount(place)
    means = np.bincount(place, weights=outcome) / counts
    return steps, isotonic_regression(means, weights=counts).x


def compare_with_line(
    tau: np.ndarray, calibrated: np.ndarray, judged: Judged
) -> list[dict[str, object]]:
    """Return, per family, the curve's doubly robust risk over the line's.

    Parameters
    ----------
    tau, calibrated : shape (n, K)
        Predicted effects, and mapped by the line.
    judged
        The same rows.

    Returns
    -------
    list
        family, risk_difference (below 0: the curve is better), standard_error.
    """
    mapped = cross_calibrate(tau, judged)
    rows: list[dict[str, object]] = []
    for family, members in group_offers(judged.families).items():
        is_member = np.isin(np.arange(tau.shape[1]), members)
        part = replace(judged, possible=judged.possible & is_member)
        risk = compare_risks({"line": calibrated, "curve": mapped}, part, against="line")
        _, difference, error = risk.row(1)
        rows.append({"family": family, "risk_difference": difference, "standard_error": error})
    return rows
