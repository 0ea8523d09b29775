"""Published learners on one log, alone in a process: what the study sets selected heads against.

It needs nothing of ours: numpy, LightGBM and the peer.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Effects = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
"""(log, outcome (n,)) to effects of the test rows, shape (m, K)."""

FOREST_ROWS = 5_000


def main(file: str, *names: str) -> None:
    """Fit peers on a log's file and print each one's error.

    Parameters
    ----------
    file
        An .npz with context (n, d), action (n,), policy (n, K), value, cost (n,), test (m, d),
        eligible (m, K), value_effect and cost_effect (m, K).
    names
        Of ``PEERS``.
    """
    warnings.filterwarnings("ignore")
    log = dict(np.load(file))
    judged = log["eligible"].copy()
    judged[:, 0] = False
    for name in names:
        started = time.process_time()
        errors = {}
        for outcome in ("value", "cost"):
            effects = PEERS[name](log, log[outcome])
            gap = (effects - log[f"{outcome}_effect"])[judged]
            errors[f"{outcome}_error"] = float(np.sqrt((gap**2).mean()))
        seconds = time.process_time() - started
        print(json.dumps({"peer": name, **errors, "cpu_seconds": seconds}), flush=True)


def _make_regressor() -> Any:
    from lightgbm import LGBMRegressor

    return LGBMRegressor(
        n_estimators=200, num_leaves=31, learning_rate=0.05, n_jobs=1, verbose=-1, random_state=1
    )


def _with_econml(make: Callable[[int], Any]) -> Effects:
    def fit(log: dict[str, np.ndarray], outcome: np.ndarray) -> np.ndarray:
        context = np.nan_to_num(log["context"])
        learner = make(log["policy"].shape[1]).fit(outcome, log["action"], X=context)
        effects = learner.const_marginal_effect(np.nan_to_num(log["test"]))
        return np.column_stack([np.zeros(len(effects)), effects.reshape(len(effects), -1)])

    return fit


def _econml_s(k: int) -> Any:
    from econml.metalearners import SLearner

    return SLearner(overall_model=_make_regressor(), categories=list(range(k)))


def _econml_t(k: int) -> Any:
    from econml.metalearners import TLearner

    return TLearner(models=_make_regressor(), categories=list(range(k)))


def _econml_x(k: int) -> Any:
    from econml.metalearners import XLearner
    from sklearn.dummy import DummyClassifier

    return XLearner(
        models=_make_regressor(), propensity_model=DummyClassifier(), categories=list(range(k))
    )


def _econml_dr(k: int) -> Any:
    from econml.dr import DRLearner
    from sklearn.dummy import DummyClassifier

    return DRLearner(
        model_propensity=DummyClassifier(),
        model_regression=_make_regressor(),
        model_final=_make_regressor(),
        min_propensity=0.01,
        categories=list(range(k)),
        random_state=1,
    )


def _econml_forest(log: dict[str, np.ndarray], outcome: np.ndarray) -> np.ndarray:
    from econml.dml import CausalForestDML
    from sklearn.dummy import DummyClassifier

    def make(k: int) -> Any:
        return CausalForestDML(
            model_y=_make_regressor(),
            model_t=DummyClassifier(),
            discrete_treatment=True,
            categories=list(range(k)),
            n_estimators=200,
            inference=False,
            n_jobs=1,
            random_state=1,
        )

    few = {**log, "context": log["context"][:FOREST_ROWS], "action": log["action"][:FOREST_ROWS]}
    return _with_econml(make)(few, outcome[:FOREST_ROWS])


def _with_causalml(name: str) -> Effects:
    def fit(log: dict[str, np.ndarray], outcome: np.ndarray) -> np.ndarray:
        from causalml.inference import meta

        k = log["policy"].shape[1]
        names = np.array(["control", *(f"offer_{each:02}" for each in range(1, k))])
        shares = log["policy"].mean(axis=0)

        def assume(n: int) -> dict[str, np.ndarray]:
            return {
                names[each]: np.full(n, shares[each] / (shares[0] + shares[each]))
                for each in range(1, k)
            }

        learner = getattr(meta, name)(learner=_make_regressor(), control_name="control")
        context, test = np.nan_to_num(log["context"]), np.nan_to_num(log["test"])
        treatment = names[log["action"]]
        if name == "BaseXRegressor":
            learner.fit(X=context, treatment=treatment, y=outcome, p=assume(len(context)))
            effects = learner.predict(X=test, p=assume(len(test)))
        else:
            learner.fit(X=context, treatment=treatment, y=outcome)
            effects = learner.predict(X=test)
        return np.column_stack([np.zeros(len(test)), effects])

    return fit


ECONML = ("econml_s", "econml_t", "econml_x", "econml_dr", "econml_forest")
CAUSALML = ("causalml_s", "causalml_t", "causalml_x")
PEERS: dict[str, Effects] = {
    "econml_s": _with_econml(_econml_s),
    "econml_t": _with_econml(_econml_t),
    "econml_x": _with_econml(_econml_x),
    "econml_dr": _with_econml(_econml_dr),
    "econml_forest": _econml_forest,
    "causalml_s": _with_causalml("BaseSRegressor"),
    "causalml_t": _with_causalml("BaseTRegressor"),
    "causalml_x": _with_causalml("BaseXRegressor"),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
