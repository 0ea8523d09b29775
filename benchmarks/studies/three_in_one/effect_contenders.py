"""Estimators of one action's effect, all given the same inputs, the propensity among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from econml.dml import CausalForestDML
from econml.dr import DRLearner
from econml.metalearners import XLearner
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, ClassifierMixin

from ml.world_model.chance import seed_generator
from ml.world_model.counterfactual import Logged, fit_counterfactual
from ml.world_model.prediction import PredictionConfig, fit_prediction

FLOOR = 0.02
N_TREES = 200
_BOOSTED, _RATE = 100, 0.1
_FOREST_ROWS, _FOREST_SHARE = 20_000, 0.1
_TARNET_EPOCHS, _TARNET_BATCH = 8, 1024


@dataclass(frozen=True)
class Log:
    """Rows of all consumer-days.

    ``state`` (n, d), of which ``moderators`` (n, k) are the columns that say what a consumer was so
    far; ``others`` (n, q) today's other actions, ``action`` and ``outcome`` (n,) 0 or 1,
    ``propensity`` (n,), ``customer`` (n,); ``scored`` (m,) are the rows whose effects are asked
    for; ``n_trees`` is how many a contender's forest has.
    """

    state: np.ndarray
    moderators: np.ndarray
    others: np.ndarray
    action: np.ndarray
    outcome: np.ndarray
    propensity: np.ndarray
    customer: np.ndarray
    scored: np.ndarray
    n_trees: int = N_TREES

    @cached_property
    def inputs(self) -> np.ndarray:
        """State, the other actions and the propensity, (n, d + q + 1), float32."""
        columns = (self.state, self.others, self.propensity)
        return np.column_stack([each.astype(np.float32) for each in columns])

    @cached_property
    def asked(self) -> np.ndarray:
        """Inputs of the scored rows."""
        return self.inputs[self.scored]


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


def estimate_all(log: Log, seed: int, learners: Sequence[str]) -> dict[str, np.ndarray]:
    """Return contenders' estimates of the scored rows' effects, differences of probabilities.

    Parameters
    ----------
    log
        Rows.
    seed
        Of chance.
    learners
        Of S, T, X, DR, forest and TARNet, those that are asked: keys of ``LEARNERS``.

    Returns
    -------
    dict
        Name to effects, shape (m,): zero, constant (AIPW), adapter (ours), toggle (the adapter's
        outcome model, toggled), and the learners.
    """
    without, with_it = _cross_fit(log, seed)
    a, e, y = log.action, log.propensity, log.outcome
    score = with_it - without + a / e * (y - with_it) - (1 - a) / (1 - e) * (y - without)
    mean = without + e * (with_it - without)
    moderators = np.column_stack([log.moderators, log.others, e])
    ours = fit_counterfactual(moderators, Logged(y, mean, a, e, log.customer), floor=FLOOR)
    found = {
        "zero": np.zeros(len(log.scored)),
        "constant": np.full(len(log.scored), score.mean()),
        "adapter": ours.predict(moderators[log.scored], mean[log.scored]),
        "toggle": (with_it - without)[log.scored],
    }
    for name in learners:
        found[name] = LEARNERS[name](log, seed)
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
        "n_estimators": min(_BOOSTED, log.n_trees),
        "learning_rate": _RATE * max(1.0, _BOOSTED / log.n_trees),
        "num_leaves": 15,
        "min_child_samples": 200,
        "max_bin": 63,
        "colsample_bytree": 0.3,
        "n_jobs": 1,
        "verbose": -1,
        "random_state": seed,
    }


def _fit_s(log: Log, seed: int) -> np.ndarray:
    model = LGBMClassifier(**_grow(log, seed))
    model.fit(np.column_stack([log.inputs, log.action]), log.outcome)
    chances = [
        model.predict_proba(np.column_stack([log.asked, np.full(len(log.asked), taken)]))[:, 1]
        for taken in (1.0, 0.0)
    ]
    return np.asarray(chances[0] - chances[1])


def _fit_t(log: Log, seed: int) -> np.ndarray:
    chances = []
    for taken in (1, 0):
        rows = log.action == taken
        model = LGBMClassifier(**_grow(log, seed)).fit(log.inputs[rows], log.outcome[rows])
        chances.append(model.predict_proba(log.asked)[:, 1])
    return np.asarray(chances[0] - chances[1])


def _fit_x(log: Log, seed: int) -> np.ndarray:
    model = XLearner(models=LGBMRegressor(**_grow(log, seed)), propensity_model=Known())
    model.fit(log.outcome, log.action, X=log.inputs)
    return np.asarray(model.effect(log.asked)).ravel()


def _fit_dr(log: Log, seed: int) -> np.ndarray:
    model = DRLearner(
        model_propensity=Known(),
        model_regression=LGBMRegressor(**_grow(log, seed)),
        model_final=LGBMRegressor(**_grow(log, seed)),
        cv=2,
        random_state=seed,
    )
    model.fit(log.outcome, log.action, X=log.inputs)
    return np.asarray(model.effect(log.asked)).ravel()


def _fit_forest(log: Log, seed: int) -> np.ndarray:
    """Athey, Tibshirani and Wager (2019), EconML's; columns tried at a split as in its R package.

    Trees of a tenth of the rows each: on other seeds less in error than EconML's .45.
    """
    rows = np.random.default_rng(seed).permutation(len(log.action))[:_FOREST_ROWS]
    inputs = log.inputs
    model = CausalForestDML(
        model_y=LGBMRegressor(**_grow(log, seed)),
        model_t=Known(),
        discrete_treatment=True,
        n_estimators=log.n_trees,
        min_samples_leaf=5,
        max_features=min(inputs.shape[1], int(inputs.shape[1] ** 0.5 + 20)),
        max_samples=_FOREST_SHARE,
        inference=False,
        cv=2,
        n_jobs=1,
        random_state=seed,
    )
    model.fit(log.outcome[rows], log.action[rows], X=inputs[rows])
    return np.asarray(model.effect(log.asked)).ravel()


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
        seen = shared(inputs[torch.from_numpy(log.scored)])
        without, with_it = (torch.sigmoid(head(seen)).squeeze(1) for head in heads)
    return np.asarray((with_it - without).numpy(), dtype=np.float64)


LEARNERS: dict[str, Callable[[Log, int], np.ndarray]] = {
    "s_learner": _fit_s,
    "t_learner": _fit_t,
    "x_learner": _fit_x,
    "dr_learner": _fit_dr,
    "forest": _fit_forest,
    "tarnet": _fit_tarnet,
}
