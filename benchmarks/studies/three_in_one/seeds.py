"""One seed of a world: what adapters predict, and how far effects are from the truth."""

import numpy as np
import polars as pl
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.studies.three_in_one.effect_contenders import N_TREES, Log, estimate_all
from benchmarks.studies.three_in_one.states import TEST, Seen, flatten, see_world
from ml.world_model.prediction import PredictionConfig, fit_prediction
from ml.world_model.training import TrainingConfig

PUBLISHED = "purchase_world_as_published"
IDENTIFIED, HIDDEN = "purchase_world_identified_25", "purchase_world_hidden_25"
_EVERY = slice(0, 365)
_TRAINING = TrainingConfig(hidden=(64, 16), n_epochs=12, batch_size=512)
_QUICK_TRAINING = TrainingConfig(hidden=(16, 8), n_epochs=2, batch_size=512)


def run_seed(seed: int, world: str, n_customers: int, is_quick: bool) -> pl.DataFrame:
    """Return one seed's figures: part, subject, contender and value.

    Parameters
    ----------
    seed, world, n_customers
        Of the world.
    is_quick
        A smaller network, trained less.

    Returns
    -------
    pl.DataFrame
        Parts 'auc' by outcome and contender; 'error', 'rank' and 'bias' of effects by action.
    """
    torch.set_num_threads(1)
    seen = see_world(world, seed, n_customers, _QUICK_TRAINING if is_quick else _TRAINING)
    rows = [("auc", *each) for each in _predict(seen, seed)]
    if world != PUBLISHED:
        rows += _compare_effects(seen, seed, n_trees=20 if is_quick else N_TREES)
    return pl.DataFrame(
        rows, schema=["part", "subject", "contender", "value"], orient="row"
    ).with_columns(pl.lit(seed).alias("seed"))


def _predict(seen: Seen, seed: int) -> list[tuple[str, str, float]]:
    """Return test areas under the curve: outcome, contender, value."""
    history, truth = seen.history, seen.truth
    outcomes = {"visit": history.visits, "purchase": history.purchases}
    oracle = {
        "visit": _take(truth.visit, history.push),
        "purchase": _take(truth.purchase, history.sale1),
    }
    found = [
        (name, "oracle", _area(flatten(outcomes[name], TEST), flatten(oracle[name], TEST)))
        for name in outcomes
    ]
    days = slice(0, TEST.start)
    config = PredictionConfig(seed=seed)
    for label, state in seen.states.items():
        jobs = [("adapter", list(outcomes)), *(("mlp", [name]) for name in outcomes)]
        for kind, names in jobs:
            adapter = fit_prediction(
                flatten(state, days),
                flatten(seen.actions, days),
                {name: flatten(outcomes[name], days) for name in names},
                flatten(seen.customer, days),
                config,
            )
            predicted = adapter.predict(flatten(state, TEST), flatten(seen.actions, TEST))
            found += [
                (name, f"{label}_{kind}", _area(flatten(outcomes[name], TEST), predicted[name]))
                for name in names
            ]
    return found


def _compare_effects(seen: Seen, seed: int, n_trees: int) -> list[tuple[str, str, str, float]]:
    """Return errors, ranks and biases of every estimator, with and without history."""
    history, truth, found = seen.history, seen.truth, []
    shape = history.push.shape
    actions = {
        "push": (
            0,
            history.visits,
            np.full(shape, seen.config.push_probability),
            truth.push_effect,
        ),
        "sale": (1, history.purchases, history.sale_propensity, truth.sale_effect),
    }
    is_hidden = seen.config.sale == "hidden"
    for subject, (column, outcome, propensity, effect) in actions.items():
        if is_hidden and subject == "push":
            continue
        true = flatten(effect, _EVERY).astype(float)
        for label in ("raw", "belief_history") if is_hidden else ("belief_history",):
            everything = flatten(seen.actions, _EVERY)
            known = flatten(propensity, _EVERY).astype(float)
            if is_hidden:
                # Nobody logged what the sale depended on: it is taken for its mean.
                known = np.full(len(known), float(everything[:, column].mean()))
            log = Log(
                flatten(seen.states[label], _EVERY),
                np.delete(everything, column, axis=1),
                everything[:, column].astype(float),
                flatten(outcome, _EVERY).astype(float),
                known,
                flatten(seen.customer, _EVERY),
                n_trees,
            )
            for name, estimate in estimate_all(log, seed).items():
                contender = f"{name}_raw" if label == "raw" else name
                error = float(np.sqrt(np.mean((estimate - true) ** 2)) / true.std())
                found.append(("error", subject, contender, error))
                found.append(("bias", subject, contender, float((estimate - true).mean())))
                if estimate.std() > 0:
                    rank = float(stats.spearmanr(estimate, true).statistic)
                    found.append(("rank", subject, contender, rank))
    return found


def _take(chances: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return the true probability under the action taken, shape (n_days, n)."""
    return np.take_along_axis(chances, taken[..., None].astype(int), axis=2)[..., 0]


def _area(outcome: np.ndarray, chance: np.ndarray) -> float:
    return float(roc_auc_score(outcome, chance))
