"""Fitting the winners of a trial on resamples of customers."""

from collections.abc import Callable, Mapping

import numpy as np

from ml.uplift.ensemble import Ensemble, fit_ensemble, resample_customers
from ml.uplift.learners import find_learner
from ml.uplift.trees import TreeSettings
from ml.uplift.trial import OutcomeTrial

Progress = Callable[[str], None]


def name_ensemble(outcome: str, lifecycle: str, candidate: str) -> str:
    """Return the name of a fitted ensemble; pooled ones are shared by lifecycles."""
    learner, _, own = candidate.partition(", ")
    return f"{outcome}-{learner}-{lifecycle if own else 'pooled'}"


def fit_winners(
    trials: Mapping[str, OutcomeTrial],
    chosen: Mapping[str, Mapping[str, str]],
    customer: np.ndarray,
    *,
    trees: TreeSettings,
    n_members: int,
    n_threads: int,
    seed: int,
    progress: Progress,
    within: np.ndarray | None = None,
) -> dict[str, Ensemble]:
    """Fit the chosen candidates on resamples of customers.

    Parameters
    ----------
    trials
        By outcome.
    chosen
        Outcome to lifecycle to candidate.
    customer : shape (n,), int
        Of each row: resampled whole.
    trees, n_members, n_threads
        Settings.
    seed
        Of the resamples.
    progress
        Called with a line per ensemble.
    within : shape (n,), bool, optional
        Rows to fit on; default all.

    Returns
    -------
    dict
        Name to ensemble.
    """
    resamples = resample_customers(customer, n_members=n_members, seed=seed)
    ensembles: dict[str, Ensemble] = {}
    for outcome, trial in trials.items():
        for lifecycle, winner in chosen[outcome].items():
            for candidate in trial.resolve(lifecycle, winner):
                name = name_ensemble(outcome, lifecycle, candidate)
                if name in ensembles:
                    continue
                learner, _, own = candidate.partition(", ")
                sample = trial.sample if within is None else trial.sample.restrict(within)
                if own:
                    sample = sample.restrict(trial.judged.lifecycle == lifecycle)
                ensembles[name] = fit_ensemble(
                    find_learner(learner),
                    sample,
                    settings=trees,
                    resamples=resamples,
                    n_threads=n_threads,
                )
                progress(f"{outcome}: {candidate} fitted on {n_members} resamples")
    return ensembles
