"""The interactor search as published (NEXIS): ordinary t-tests, a forward and a backward gate.

For comparison and as a preset; its tests reject far too often where candidates are rare and
outcomes skewed (docs/methods.md).
"""

import numpy as np
from scipy import stats

from ml.interactors.randomisation import Trial

_MOST_ROUNDS = 20


def regress_candidates(
    trial: Trial, candidates: np.ndarray, selected: list[int], *, is_robust: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Test each candidate's interaction with the offer in a regression that holds those selected.

    Y = b0 + bT T + b_S'Z_S + g_S'(T Z_S) + b_j Z_j + g_j (T Z_j) + e; the test is of g_j.

    Parameters
    ----------
    trial
        n decisions.
    candidates : shape (n, m)
        Dense.
    selected
        Columns of the model.
    is_robust
        HC1 errors; else those of equal variances, the published default.

    Returns
    -------
    tuple
        t statistics and two-sided p-values, shape (m,); 0 and 1 of those selected.
    """
    n, offered = trial.n_decisions, trial.offered.astype(float)[:, None]
    base = np.column_stack([np.ones(n), candidates[:, selected]])
    factor = np.linalg.qr(np.hstack([base, offered * base]))[0]

    def rest(values: np.ndarray) -> np.ndarray:
        return values - factor @ (factor.T @ values)

    plain, crossed = rest(candidates), rest(offered * candidates)
    outcome = rest(trial.outcome[:, None])[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        own = (plain * crossed).sum(axis=0) / (plain**2).sum(axis=0)
        crossed = crossed - plain * own
        power = (crossed**2).sum(axis=0)
        size = crossed.T @ outcome / power
        main = plain.T @ outcome / (plain**2).sum(axis=0)
        errors = outcome[:, None] - plain * main - crossed * size
        left = n - factor.shape[1] - 2
        if is_robust:
            variance = ((crossed * errors) ** 2).sum(axis=0) / power**2 * n / left
        else:
            variance = (errors**2).sum(axis=0) / left / power
        statistic = size / np.sqrt(variance)
    statistic = np.where(np.isfinite(statistic), statistic, 0.0)
    statistic[selected] = 0.0
    return statistic, 2 * stats.t.sf(np.abs(statistic), left)


def search_as_published(
    trial: Trial,
    candidates: np.ndarray,
    *,
    alpha: float = 0.05,
    gate: float = 0.5,
    is_robust: bool = False,
) -> list[int]:
    """Search forward and backward by t-tests, as published.

    Forward: p below alpha over the number left (Bonferroni), and a statistic of at least ``gate``
    times the least at admission (the spectral gate, rho). Backward: p above alpha over the number
    selected is dropped, a looser gate.

    Parameters
    ----------
    trial
        n decisions.
    candidates : shape (n, m)
        Dense.
    alpha, gate, is_robust
        As published: .05, .5, errors of equal variances.

    Returns
    -------
    list
        Columns, in order of selection.
    """
    selected: list[int] = []
    admitted: dict[int, float] = {}
    for _ in range(_MOST_ROUNDS):
        before = list(selected)
        statistic, p_value = regress_candidates(trial, candidates, selected, is_robust=is_robust)
        p_value[selected] = 1.0
        best = int(np.abs(statistic).argmax())
        strength = float(np.abs(statistic[best]))
        is_clear = strength >= gate * min((admitted[each] for each in selected), default=0.0)
        n_left = candidates.shape[1] - len(selected)
        if p_value[best] <= alpha / n_left and is_clear:
            selected.append(best)
            admitted[best] = strength
        for each in list(selected) if len(selected) > 1 else []:
            others = [other for other in selected if other != each]
            _, again = regress_candidates(trial, candidates, others, is_robust=is_robust)
            if again[each] > alpha / len(selected):
                selected.remove(each)
        if selected == before:
            break
    return selected
