"""Estimators of one action's effect, all given the same inputs, the propensity among them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from econml.dml import CausalForestDML
from econml.dr import DRLearner
from econml.metalearners import XLearner
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin

from ml.world_model.chance import seed_generator
from ml.world_model.counterfactual import Residuals, fit_counterfactual
from ml.world_model.prediction import PredictionConfig, fit_prediction

FLOOR = 0.02
N_TREES = 200
_FOREST_ROWS = 20_000
_TARNET_EPOCHS, _TARNET_BATCH = 8, 1024


@dataclass(frozen=True)
class Log:
    """Rows of all consumer-days.

    ``state`` (n, d), ``others`` (n, q) today's other actions, ``action`` and ``outcome`` (n,) 0 or
    1, ``propensity`` (n,), ``customer`` (n,); ``n_trees`` is how many a contender's forest has.
    """

    state: np.ndarray
    others: np.ndarray
    action: np.ndarray
    outcome: np.ndarray
    propensity: np.ndarray
    customer: np.ndarray
    n_trees: int = N_TREES

    @property
    def inputs(self) -> np.ndarray:
        """State, the other actions and the propensity, (n, d + q + 1)."""
        return np.column_stack([self.state, self.others, self.propensity])


class Known(ClassifierMixin, BaseEstimator):
    """The propensity that the inputs' last column holds: there is nothing to fit."""

    def fit(self, inputs: np.ndarray, action: np.ndarray) -> "Known":
        """Return itself."""
        self.classes_ = np.unique(action)
        return self

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return the likelier action."""
        return self.classes_[(inputs[:, -1] > 0.5).astype(int)]

    def predict_proba(self, inputs: np.ndarray) -> np.ndarray:
        """Return both probabilities, shape (n, 2)."""
        return np.column_stack([1 - inputs[:, -1], inputs[:, -1]])


def estimate_all(log: Log, seed: int) -> dict[str, np.ndarray]:
    """Return every contender's estimate of each row's effect, a difference of probabilities.

    Parameters
    ----------
    log
        Rows.
    seed
        Of chance.

    Returns
    -------
    dict
        Name to effects, shape (n,): zero, constant (AIPW), adapter (ours), toggle (the adapter's
        outcome model, toggled), and S, T, X, DR, forest, TARNet.
    """
    without, with_it = _cross_fit(log, seed)
    a, e, y = log.action, log.propensity, log.outcome
    score = with_it - without + a / e * (y - with_it) - (1 - a) / (1 - e) * (y - without)
    mean = without + e * (with_it - without)
    slope = mean * (1 - mean)
    ours = fit_counterfactual(
        log.inputs, Residuals(y - mean, a - e, slope, log.customer), e, floor=FLOOR
    )
    found = {
        "zero": np.zeros(len(a)),
        "constant": np.full(len(a), score.mean()),
        "adapter": ours.predict(log.inputs, slope),
        "toggle": with_it - without,
    }
    for name, estimate in _CONTENDERS.items():
        found[name] = estimate(log, seed)
    return found


def _cross_fit(log: Log, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the outcome's probability without and with the action, by models of others."""
    fold = np.random.default_rng(seed).integers(2, size=log.customer.max() + 1)[log.customer]
    actions = np.column_stack([log.action, log.others])
    expected = np.empty((2, len(fold)))
    for k in (0, 1):
        seen, own = fold != k, fold == k
        adapter = fit_prediction(
            log.state[seen],
            actions[seen],
            {"outcome": log.outcome[seen] > 0},
            log.customer[seen],
            PredictionConfig(seed=seed),
        )
        toggled = actions[own].copy()
        for taken in (0, 1):
            toggled[:, 0] = taken
            expected[taken, own] = adapter.predict(log.state[own], toggled)["outcome"]
    return expected[0], expected[1]


def _grow(log: Log, seed: int) -> dict[str, Any]:
    """Return the settings of boosted trees, the same for all contenders."""
    return {
        "n_estimators": log.n_trees,
        "learning_rate": 0.05 * N_TREES / log.n_trees,
        "num_leaves": 15,
        "min_child_samples": 200,
        "n_jobs": 1,
        "verbose": -1,
        "random_state": seed,
    }


def _fit_s(log: Log, seed: int) -> np.ndarray:
    inputs = log.inputs
    model = LGBMClassifier(**_grow(log, seed))
    model.fit(np.column_stack([inputs, log.action]), log.outcome)
    chances = [
        model.predict_proba(np.column_stack([inputs, np.full(len(inputs), taken)]))[:, 1]
        for taken in (1.0, 0.0)
    ]
    return np.asarray(chances[0] - chances[1])


def _fit_t(log: Log, seed: int) -> np.ndarray:
    inputs, chances = log.inputs, []
    for taken in (1, 0):
        rows = log.action == taken
        model = LGBMClassifier(**_grow(log, seed)).fit(inputs[rows], log.outcome[rows])
        chances.append(model.predict_proba(inputs)[:, 1])
    return np.asarray(chances[0] - chances[1])


def _fit_x(log: Log, seed: int) -> np.ndarray:
    model = XLearner(
        models=LGBMRegressor(**_grow(log, seed)),
        propensity_model=Known(),
    )
    model.fit(log.outcome, log.action, X=log.inputs)
    return np.asarray(model.effect(log.inputs)).ravel()


def _fit_dr(log: Log, seed: int) -> np.ndarray:
    model = DRLearner(
        model_propensity=Known(),
        model_regression=LGBMRegressor(**_grow(log, seed)),
        model_final=LGBMRegressor(**_grow(log, seed)),
        cv=2,
        random_state=seed,
    )
    model.fit(log.outcome, log.action, X=log.inputs)
    return np.asarray(model.effect(log.inputs)).ravel()


def _fit_forest(log: Log, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).permutation(len(log.action))[:_FOREST_ROWS]
    inputs = log.inputs
    model = CausalForestDML(
        model_y=LGBMRegressor(**_grow(log, seed)),
        model_t=Known(),
        discrete_treatment=True,
        n_estimators=log.n_trees,
        min_samples_leaf=5,
        cv=2,
        n_jobs=1,
        random_state=seed,
    )
    model.fit(log.outcome[rows], log.action[rows], X=inputs[rows])
    return np.asarray(model.effect(inputs)).ravel()


def _fit_tarnet(log: Log, seed: int) -> np.ndarray:
    """Shalit, Johansson and Sontag (2017): a shared representation, a head per arm (64 and 32)."""
    inputs = torch.from_numpy(log.inputs.astype(np.float32))
    inputs = (inputs - inputs.mean(dim=0)) / inputs.std(dim=0).clamp_min(0.25)
    outcome = torch.from_numpy(log.outcome.astype(np.float32))
    action = torch.from_numpy(log.action.astype(np.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shared = torch.nn.Sequential(
            torch.nn.Linear(inputs.shape[1], 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
        )
        heads = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
            for _ in range(2)
        )
    optimiser = torch.optim.Adam(
        [*shared.parameters(), *heads.parameters()], lr=1e-3, weight_decay=1e-4
    )
    generator = seed_generator(seed, 0, 0, torch.device("cpu"))
    for _ in range(_TARNET_EPOCHS):
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), _TARNET_BATCH):
            with torch.enable_grad():
                seen = shared(inputs[rows])
                both = torch.cat([head(seen) for head in heads], dim=1)
                scores = both.gather(1, action[rows, None]).squeeze(1)
                loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, outcome[rows])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
            optimiser.step()
    with torch.no_grad():
        seen = shared(inputs)
        without, with_it = (torch.sigmoid(head(seen)).squeeze(1) for head in heads)
    return np.asarray((with_it - without).numpy(), dtype=np.float64)


_CONTENDERS: dict[str, Callable[[Log, int], np.ndarray]] = {
    "s_learner": _fit_s,
    "t_learner": _fit_t,
    "x_learner": _fit_x,
    "dr_learner": _fit_dr,
    "forest": _fit_forest,
    "tarnet": _fit_tarnet,
}
