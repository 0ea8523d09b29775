"""Scores of candidates one at a time, by loops over clusters: slow and obvious."""

import numpy as np


def score_one(trial, candidate, selected, drawn):
    """One candidate's studentised score of (A - e) r, shape (n,), given those selected."""
    weight = trial.propensity * (1 - trial.propensity)
    base = np.column_stack([np.ones(len(candidate)), selected])
    root = np.sqrt(weight)
    said = np.linalg.lstsq(root[:, None] * base, root * candidate, rcond=None)[0]
    left = candidate - base @ said
    sums = [float((left * drawn)[trial.cluster == each].sum()) for each in np.unique(trial.cluster)]
    return sum(sums) / np.sqrt(sum(each**2 for each in sums))


def find_rest(trial, selected):
    """The outcome with the selected candidates' effect imputed, less what the base says of it."""
    n, chance = trial.n_decisions, trial.offered - trial.propensity
    base = np.column_stack([np.ones(n), selected])
    design = np.column_stack([base, chance[:, None] * base])
    effect = np.linalg.lstsq(design, trial.outcome, rcond=None)[0][base.shape[1] :]
    rest = trial.outcome - chance * (base @ effect)
    known = np.column_stack([base, trial.propensity])
    return rest - known @ np.linalg.lstsq(known, rest, rcond=None)[0]
