"""Whether a curve would calibrate better than the line: isotonic cross-calibration."""

from dataclasses import replace

import numpy as np
from scipy.optimize import isotonic_regression

from ml.uplift.calibration import group_offers
from ml.uplift.selection import CONFIRMING_FOLD, N_FOLDS, Judged, compare_risks


def cross_calibrate(tau: np.ndarray, judged: Judged) -> np.ndarray:
    """Return effects mapped by an increasing curve per family, each fold by the others' curve.

    As with the line, predictions and pseudo-outcomes are centred within lifecycle and action, and
    the mean effect of each is the pseudo-outcomes'.

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
    lifecycles = np.unique(judged.lifecycle)
    for members in group_offers(judged.families).values():
        for held in range(N_FOLDS):
            learned = (judged.fold != held) & (judged.fold != CONFIRMING_FOLD)
            scores, outcomes, cells = [], [], []
            for action in members:
                for name in lifecycles:
                    is_own = (judged.lifecycle == name) & judged.possible[:, action]
                    rows = is_own & learned
                    if not rows.any():
                        continue
                    centre = float(tau[rows, action].mean())
                    effect = float(judged.pseudo[rows, action].mean())
                    scores.append(tau[rows, action] - centre)
                    outcomes.append(judged.pseudo[rows, action] - effect)
                    cells.append((action, is_own & (judged.fold == held), centre, effect))
            if not cells:
                continue
            score = np.concatenate(scores)
            order = np.argsort(score, kind="stable")
            curve = isotonic_regression(np.concatenate(outcomes)[order]).x
            for action, rows, centre, effect in cells:
                mapped[rows, action] = effect + np.interp(
                    tau[rows, action] - centre, score[order], curve
                )
    return mapped


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
