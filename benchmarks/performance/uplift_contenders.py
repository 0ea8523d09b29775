"""One learner fitted and scored in a process of its own: what benchmarks.performance.uplift runs.

Alone, so that a peer's environment needs nothing of ours: numpy, and the peer.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
_SHARES = (0.4, 0.2, 0.2, 0.2)
_MEMBERS = 10


def main(name: str, file: str) -> None:
    """Fit a contender on a trial's file, score its test rows, print what it took.

    CPU seconds are the process's own by the operating system's account, all threads; imports and
    compiling don't count, binning does. Effects are written beside the file.

    Parameters
    ----------
    name
        A key of ``CONTENDERS``.
    file
        An .npz with context, action, value, cost, test (context to score).
    """
    warnings.filterwarnings("ignore")
    data = dict(np.load(file))
    fit = CONTENDERS[name]
    _warm_up(fit, data)
    started = time.process_time()
    score, n_members, extra = fit(data)
    fitted = time.process_time()
    value, cost = score(data["test"])
    scored = time.process_time()
    np.savez(Path(file).with_name(f"{name}.npz"), value=value, cost=cost)
    figures = {
        "fit_cpu": (fitted - started - extra.get("selection_cpu", 0.0)) / n_members,
        "score_cpu": (scored - fitted) / n_members,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **extra,
    }
    print(json.dumps(figures))


def _warm_up(fit: Callable[[dict[str, np.ndarray]], Any], data: dict[str, np.ndarray]) -> None:
    """Run once on few rows, so that imports and compiling are over."""
    few = {key: each[:3_000] for key, each in data.items()}
    fit(few)[0](few["test"])


def _fit_ours(data: dict[str, np.ndarray]) -> tuple[Score, int, dict[str, Any]]:
    """Choose a learner per outcome by trial, fit it as resamples of customers."""
    return _choose_and_fit(data)


def _fit_ours_like_peers(data: dict[str, np.ndarray]) -> tuple[Score, int, dict[str, Any]]:
    """Fit the same learners with the peers' trees and leaves, to show where the gain is from."""
    return _choose_and_fit(data, n_trees=200, n_leaves=31, learning_rate=0.05)


def _choose_and_fit(data: dict[str, np.ndarray], **trees: Any) -> tuple[Score, int, dict[str, Any]]:
    from ml.uplift.fitting import LearningSettings

    settings = LearningSettings()
    started = time.process_time()
    samples, mixtures = _choose(data, settings)
    selection = time.process_time() - started
    score = _fit_ensembles(samples, mixtures, replace(settings.trees, **trees))
    named = [
        " + ".join(f"{weight:.2f} {name}" for name, weight in mixture.items())
        for mixture in mixtures.values()
    ]
    return score, _MEMBERS, {"selection_cpu": selection, "learners": named}


def _choose(
    data: dict[str, np.ndarray], settings: Any
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    from ml.uplift.sample import Sample
    from ml.uplift.selection import N_FOLDS, Judged
    from ml.uplift.trial import run_trial

    n = len(data["action"])
    fold = np.random.default_rng(7).integers(0, N_FOLDS, n)
    value = Sample(
        context=data["context"],
        descriptors=data["descriptors"],
        action=data["action"],
        logging_policy=np.tile(_SHARES, (n, 1)),
        outcome=data["value"],
        fold=np.random.default_rng(8).integers(0, 2, n),
        is_in_scope=np.ones(n, dtype=bool),
        is_zero_without_offer=False,
    )
    samples = {"value": value, "cost": value.with_outcome(data["cost"], is_zero_without_offer=True)}
    judged = Judged(
        pseudo=np.zeros((n, 4)),
        possible=value.is_possible,
        fold=fold,
        customer=np.arange(n),
        lifecycle=np.full(n, "all"),
        families=("none", "offer", "offer", "offer"),
    )
    mixtures = {}
    for outcome, sample in samples.items():
        trial = run_trial(
            outcome,
            sample,
            judged,
            settings.list_candidates(outcome),
            settings=settings.trees,
            progress=lambda line: None,
        )
        mixtures[outcome] = trial.resolve("all", trial.choose(["all"])[0]["all"])
    return samples, mixtures


def _fit_ensembles(
    samples: dict[str, Any], mixtures: dict[str, dict[str, float]], trees: Any
) -> Score:
    from ml.uplift.ensemble import fit_ensemble, resample_customers
    from ml.uplift.learners import find_learner
    from ml.uplift.stacking import mix

    n = samples["value"].n_rows
    resamples = resample_customers(np.arange(n), n_members=_MEMBERS, seed=1)
    fitted = {
        outcome: {
            name: fit_ensemble(find_learner(name), sample, settings=trees, resamples=resamples)
            for name in mixtures[outcome]
        }
        for outcome, sample in samples.items()
    }
    descriptors = samples["value"].descriptors

    def score(context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, cost = (
            mix(
                {
                    name: each.predict(context, descriptors).mean
                    for name, each in fitted[outcome].items()
                },
                mixtures[outcome],
            )
            for outcome in ("value", "cost")
        )
        return value, cost

    return score


def _make_regressor() -> Any:
    from lightgbm import LGBMRegressor

    return LGBMRegressor(
        n_estimators=200, num_leaves=31, learning_rate=0.05, n_jobs=1, verbose=-1, random_state=1
    )


def _fit_econml(learner: Callable[[], Any]) -> Any:
    def fit(data: dict[str, np.ndarray]) -> tuple[Score, int, dict[str, Any]]:
        rows = np.random.default_rng(1).integers(0, len(data["action"]), len(data["action"]))
        context, action = data["context"][rows], data["action"][rows]
        models = [
            learner().fit(data[outcome][rows], action, X=context) for outcome in ("value", "cost")
        ]

        def score(test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            value, cost = (
                np.column_stack(
                    [np.zeros(len(test)), model.const_marginal_effect(test).reshape(len(test), -1)]
                )
                for model in models
            )
            return value, cost

        return score, 1, {}

    return fit


def _econml_x() -> Any:
    from econml.metalearners import XLearner
    from sklearn.dummy import DummyClassifier

    return XLearner(models=_make_regressor(), propensity_model=DummyClassifier())


def _econml_s() -> Any:
    from econml.metalearners import SLearner

    return SLearner(overall_model=_make_regressor())


def _fit_causalml_x(data: dict[str, np.ndarray]) -> tuple[Score, int, dict[str, Any]]:
    from causalml.inference.meta import BaseXRegressor

    rows = np.random.default_rng(1).integers(0, len(data["action"]), len(data["action"]))
    context, action = data["context"][rows], data["action"][rows]
    names = ["control", "offer_1", "offer_2", "offer_3"]
    treatment = np.array(names)[action]

    def shares(n: int) -> dict[str, np.ndarray]:
        return {names[k]: np.full(n, _SHARES[k] / (_SHARES[0] + _SHARES[k])) for k in range(1, 4)}

    models = []
    for outcome in ("value", "cost"):
        model = BaseXRegressor(learner=_make_regressor(), control_name="control")
        model.fit(X=context, treatment=treatment, y=data[outcome][rows], p=shares(len(rows)))
        models.append(model)

    def score(test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, cost = (
            np.column_stack([np.zeros(len(test)), model.predict(X=test, p=shares(len(test)))])
            for model in models
        )
        return value, cost

    return score, 1, {}


CONTENDERS: dict[str, Callable[[dict[str, np.ndarray]], tuple[Score, int, dict[str, Any]]]] = {
    "ours": _fit_ours,
    "ours_200x31": _fit_ours_like_peers,
    "econml_x": _fit_econml(_econml_x),
    "econml_s": _fit_econml(_econml_s),
    "causalml_x": _fit_causalml_x,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
