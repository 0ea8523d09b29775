"""A search for tree settings: tried on the tuning folds, pinned only if a fold unseen agrees."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.core.actions import ActionSet
from ml.core.logged import LoggedDecisions
from ml.uplift.calibration import mean_by_customer
from ml.uplift.fitting import LearningSettings, hold_trials
from ml.uplift.selection import CONFIRMING_FOLD, calibrate_across, cross_predict, lose_by_row
from ml.uplift.stacking import STACK, stack_across
from ml.uplift.trees import TreeSettings
from ml.uplift.trial import CONSTANT, OutcomeTrial

if TYPE_CHECKING:
    import optuna

_SPACE = {
    "n_trees": (20, 200),
    "n_leaves": (4, 31),
    "minimum_leaf_rows": (50, 1_000),
    "learning_rate": (0.03, 0.3),
    "ridge": (1.0, 300.0),
}
"""Bounds of each field of TreeSettings that is searched, on a logarithmic scale."""

Effects = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    ``trees`` are the best tried. ``risk_difference`` is their doubly robust risk, value plus cost,
    over the present settings', squared currency per decision, on the tuning folds; the confirmed
    one with its standard error on the fold that no trial saw. ``is_pinned``: lower there by more
    than a standard error.
    """

    trees: TreeSettings
    risk_difference: float
    confirmed_difference: float
    confirmed_error: float
    is_pinned: bool
    n_trials: int


def search_trees(
    logged: LoggedDecisions,
    *,
    actions: ActionSet,
    seed: int,
    n_trials: int,
    settings: LearningSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> SearchResult:
    """Search tree settings by the cross-fitted risk of the stack of pooled candidates.

    Pseudo-outcomes stay those of the present settings, so that risks compare.

    Parameters
    ----------
    logged, actions
        Matured decisions of training customers, and the action set.
    seed
        Of folds, trees and the sampler.
    n_trials
        Settings to try.
    settings
        The present ones; None takes the defaults.
    progress
        Called with a line per trial.

    Returns
    -------
    SearchResult
        The best settings tried, and whether they are to be pinned.
    """
    # Every process of the loop imports this module, and one a month searches.
    import optuna

    settings = replace(settings or LearningSettings(), tries_own_lifecycles=False)
    settings = replace(settings, trees=replace(settings.trees, seed=seed % 2**31))
    trials = hold_trials(logged, actions, seed=seed, settings=settings)
    present = {outcome: trial.calibrated[STACK] for outcome, trial in trials.items()}
    tried: dict[int, tuple[TreeSettings, Effects]] = {}

    def try_settings(trial: optuna.Trial) -> float:
        trees = replace(settings.trees, **_suggest(trial))
        effects = {
            outcome: _predict(each, settings, trees, outcome) for outcome, each in trials.items()
        }
        difference, _ = _compare(effects, present, trials, is_confirming=False)
        best = min((each.value for each in study.trials if each.value is not None), default=np.inf)
        if difference < best:
            tried.clear()
            tried[trial.number] = trees, effects
        progress(
            f"trial {trial.number + 1} of {n_trials}: risk {difference:+.4f} {_describe(trees)}"
        )
        return difference

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(try_settings, n_trials=n_trials)
    trees, effects = tried[study.best_trial.number]
    confirmed, error = _compare(effects, present, trials, is_confirming=True)
    return SearchResult(
        trees, float(study.best_value), confirmed, error, confirmed < -error, n_trials
    )


def _suggest(trial: "optuna.Trial") -> dict[str, Any]:
    """Draw one value of each searched field."""
    return {
        name: trial.suggest_int(name, low, high, log=True)
        if isinstance(low, int) and isinstance(high, int)
        else trial.suggest_float(name, low, high, log=True)
        for name, (low, high) in _SPACE.items()
    }


def _describe(trees: TreeSettings) -> str:
    return ", ".join(f"{name} {asdict(trees)[name]:.3g}" for name in _SPACE)


def _predict(
    trial: OutcomeTrial, settings: LearningSettings, trees: TreeSettings, outcome: str
) -> np.ndarray:
    """Return the calibrated effects of the stack, candidates fitted with other trees."""
    raw = {CONSTANT: trial.raw[CONSTANT]}
    for candidate in settings.list_candidates(outcome):
        if candidate.name != CONSTANT and candidate.name in trial.raw:
            raw[candidate.name], _ = cross_predict(
                candidate,
                trial.sample,
                fold=trial.judged.fold,
                lifecycle=trial.judged.lifecycle,
                settings=trees,
                n_threads=settings.threads,
            )
    mixed, _ = stack_across(raw, trial.judged)
    return calibrate_across(mixed, trial.judged)


def _compare(
    effects: Effects,
    present: Effects,
    trials: Mapping[str, OutcomeTrial],
    *,
    is_confirming: bool,
) -> tuple[float, float]:
    """Return the risk of effects over the present ones', value plus cost, and its error."""
    total, customer = 0.0, np.zeros(0, dtype=np.int64)
    for outcome, trial in trials.items():
        rows = (trial.judged.fold == CONFIRMING_FOLD) == is_confirming
        judged = trial.judged.take(rows)
        tried, now = (lose_by_row(each[outcome][rows], judged) for each in (effects, present))
        total = total + tried - now
        customer = judged.customer
    return mean_by_customer(np.asarray(total), customer)
