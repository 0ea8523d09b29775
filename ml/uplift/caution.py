"""How far value effects are trusted: a policy of lower bounds, judged by what it is worth."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl
from scipy import stats

from ml.uplift.calibration import mean_by_customer
from ml.uplift.ensemble import EffectEstimate
from ml.uplift.heads import UpliftHeads
from ml.uplift.report import CAUTION
from ml.uplift.selection import CONFIRMING_FOLD
from ml.uplift.trees import TreeSettings
from ml.uplift.trial import WORTH_LEVEL, Confirm, OutcomeTrial
from ml.uplift.winners import Progress, fit_winners

CAUTIONS = (0.0, 0.25, 0.5, 1.0)
USUAL_CAUTION = 0.5
_N_MEMBERS = 5


def choose_caution(
    value: EffectEstimate, confirm: Callable[[np.ndarray], np.ndarray], customer: np.ndarray
) -> tuple[float, pl.DataFrame]:
    """Choose how many standard deviations to take off value effects before they are spent on.

    An optimiser picks what was overestimated; lower bounds pick less of it. What a bound is worth
    is seen on customers that neither effects nor spread were fitted on. The usual caution serves
    unless another's policy is proven worth more (one-sided, 10 % over all others): a small log
    would else choose by chance.

    Parameters
    ----------
    value
        Effects of m rows and their spread, by models of other customers; shape (m, K).
    confirm
        Value effects, shape (m, K), to each row's incremental net value under their policy, (m,).
    customer : shape (m,), int
        Cluster of each row.

    Returns
    -------
    tuple
        The caution, and a table of ``CAUTION`` columns.
    """
    worth = {each: confirm(value.mean - each * value.spread) for each in (USUAL_CAUTION, *CAUTIONS)}
    rows = []
    for caution in CAUTIONS:
        difference, error = mean_by_customer(worth[caution] - worth[USUAL_CAUTION], customer)
        rows.append((caution, float(worth[caution].mean()), difference, error))
    needed = float(stats.norm.ppf(1 - WORTH_LEVEL / (len(CAUTIONS) - 1)))
    proven = [(row[2], row[0]) for row in rows if row[2] > needed * row[3] > 0]
    chosen = max(proven)[1] if proven else USUAL_CAUTION
    table = [(*row, row[0] == chosen) for row in rows]
    return chosen, pl.DataFrame(table, schema=CAUTION, orient="row")


def settle_caution(
    heads: UpliftHeads,
    trial: OutcomeTrial,
    chosen: Mapping[str, str],
    confirm: Confirm,
    *,
    trees: TreeSettings,
    n_members: int,
    n_threads: int,
    seed: int,
    progress: Progress,
) -> UpliftHeads:
    """Return heads with the caution that is worth most on the confirming fold.

    Effects and their spread come from resamples without that fold's customers there; the slopes,
    one per family, and the choice of candidates knew them.

    Parameters
    ----------
    heads
        Fitted.
    trial, chosen
        Of value effects, and each lifecycle's candidate.
    confirm
        What value effects are worth on rows.
    trees, n_members, n_threads, seed
        As the heads were fitted; at most five members are.
    progress
        Called with a line per step.

    Returns
    -------
    UpliftHeads
        Else the same.
    """
    within = trial.judged.fold != CONFIRMING_FOLD
    rows = np.flatnonzero(~within)
    if not len(rows) or not within.any():
        return heads
    ensembles = fit_winners(
        {"value": trial},
        {"value": chosen},
        trial.judged.customer,
        trees=trees,
        n_members=min(n_members, _N_MEMBERS),
        n_threads=n_threads,
        seed=seed,
        progress=progress,
        within=within,
    )
    lifecycle = trial.judged.lifecycle[rows]
    apart = replace(heads, ensembles=ensembles)
    effects = apart.predict_outcome("value", trial.sample.context[rows], lifecycle)
    supported = np.zeros(effects.mean.shape, dtype=bool)
    for head in heads.heads:
        supported[lifecycle == head.lifecycle] = head.is_supported
    value = EffectEstimate(
        np.where(supported, effects.mean, 0.0), np.where(supported, effects.spread, 0.0)
    )
    caution, table = choose_caution(
        value, lambda bound: confirm(bound, rows), trial.judged.customer[rows]
    )
    progress(f"value effects are taken {caution:g} standard deviations lower")
    return replace(heads, caution=caution, report=replace(heads.report, caution=table))
