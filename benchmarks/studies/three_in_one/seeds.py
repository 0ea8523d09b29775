"""One seed of a world: what adapters predict, how far effects are from the truth, what is odd."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.studies.three_in_one.effect_contenders import (
    FLOOR,
    LEARNERS,
    N_TREES,
    Log,
    estimate_all,
)
from benchmarks.studies.three_in_one.plausibility import compare_plausibility
from benchmarks.studies.three_in_one.states import TEST, Seen, flatten, see_world
from ml.core.errors import SupportError
from ml.world_model.counterfactual import guard_identification
from ml.world_model.learning import TrainingConfig
from ml.world_model.prediction import PredictionConfig, fit_prediction

PUBLISHED = "purchase_world_as_published"
IDENTIFIED, HIDDEN = "purchase_world_identified_25", "purchase_world_hidden_25"
SMALL_EFFECT = "purchase_world_identified"
OUR_TRAINING = TrainingConfig(hidden=(64,), n_epochs=20, batch_size=512)
QUICK_TRAINING = TrainingConfig(hidden=(16,), n_epochs=2, batch_size=512)
PREDICTION = PredictionConfig(n_epochs=15, patience=2)
_EVERY = slice(0, 365)
_SCORED = 20_000
_FEW_LEARNERS = ("s_learner", "dr_learner")

Row = tuple[str, str, str, float]


def run_seed(seed: int, world: str, n_customers: int, is_quick: bool) -> pl.DataFrame:
    """Return one seed's figures: part, subject, contender and value.

    Parameters
    ----------
    seed, world, n_customers
        Of the world.
    is_quick
        A smaller network, trained less, and few trees.

    Returns
    -------
    pl.DataFrame
        Parts 'auc' by outcome and contender; 'error', 'rank' and 'bias' of effects by action;
        'consistency'; and 'refused' where the log doesn't identify the sale.
    """
    torch.set_num_threads(1)
    seen = see_world(world, seed, n_customers, QUICK_TRAINING if is_quick else OUR_TRAINING)
    rows: list[Row] = [("auc", *each) for each in _predict(seen, seed)]
    rows += [("consistency", *each) for each in compare_plausibility(seen, seen.network, seed)]
    rows += _compare_effects(seen, seed, n_trees=20 if is_quick else N_TREES)
    return tabulate(rows, seed)


def run_sale(
    seed: int, world: str, n_customers: int, has_all_learners: bool, is_quick: bool
) -> pl.DataFrame:
    """Return the figures of the sale's effect alone: of all learners, or of two."""
    torch.set_num_threads(1)
    seen = see_world(world, seed, n_customers, QUICK_TRAINING if is_quick else OUR_TRAINING)
    asked = {"belief_history": tuple(LEARNERS) if has_all_learners else _FEW_LEARNERS}
    n_trees = 20 if is_quick else N_TREES
    return tabulate(_compare_action(seen, seed, "sale", asked, n_trees), seed)


def measure_area(outcome: np.ndarray, chance: np.ndarray) -> float:
    """Return the area under the curve."""
    return float(roc_auc_score(outcome, chance))


def tabulate(rows: list[Row], seed: int) -> pl.DataFrame:
    """Return figures as a table: part, subject, contender, value and seed."""
    return pl.DataFrame(
        rows, schema=["part", "subject", "contender", "value"], orient="row"
    ).with_columns(pl.lit(seed).alias("seed"))


def _predict(seen: Seen, seed: int) -> list[tuple[str, str, float]]:
    """Return test areas under the curve: outcome, contender, value.

    The plain network (mlp) is given state and actions side by side, as published; the adapter has
    what each action adds apart.
    """
    history, truth = seen.history, seen.truth
    outcomes = {"visit": history.visits, "purchase": history.purchases}
    oracle = {
        "visit": _take(truth.visit, history.push),
        "purchase": _take(truth.purchase, history.sale1),
    }
    found = [
        (name, "oracle", measure_area(flatten(outcomes[name], TEST), flatten(oracle[name], TEST)))
        for name in outcomes
    ]
    days = slice(0, TEST.start)
    no_actions = seen.actions[..., :0]
    jobs = [
        ("adapter", "belief", True),
        ("belief_mlp", "belief", False),
        ("raw_mlp", "raw", False),
        ("history_adapter", "belief_history", True),
        ("belief_history_mlp", "belief_history", False),
        ("raw_history_mlp", "raw_history", False),
    ]
    for contender, label, has_effects in jobs:
        state = seen.states[label]
        actions = seen.actions if has_effects else no_actions
        if not has_effects:
            state = np.concatenate([state, seen.actions], axis=2)
        adapter = fit_prediction(
            flatten(state, days),
            flatten(actions, days),
            {name: flatten(values, days) for name, values in outcomes.items()},
            flatten(seen.customer, days),
            PREDICTION,
        )
        predicted = adapter.predict(flatten(state, TEST), flatten(actions, TEST))
        found += [
            (name, contender, measure_area(flatten(values, TEST), predicted[name]))
            for name, values in outcomes.items()
        ]
    return found


def _compare_effects(seen: Seen, seed: int, n_trees: int) -> list[Row]:
    """Return errors, ranks and biases of every estimator that the world has a question for."""
    every = tuple(LEARNERS)
    if seen.config.sale == "published":
        return [_refuse_sale(seen)]
    if seen.config.sale == "hidden":
        asked = {"raw": _FEW_LEARNERS, "belief_history": every}
        return _compare_action(seen, seed, "sale", asked, n_trees)
    return [
        row
        for subject in ("push", "sale")
        for row in _compare_action(seen, seed, subject, {"belief_history": every}, n_trees)
    ]


def _refuse_sale(seen: Seen) -> Row:
    """Return that the sale's effect is refused where every Sunday has it and no other day."""
    propensity = flatten(seen.history.sale_propensity, _EVERY)
    try:
        guard_identification(propensity, floor=FLOOR, action="sale")
    except SupportError as error:
        print(f"    {error}", flush=True)
        return ("refused", "sale", "adapter", 1.0)
    return ("refused", "sale", "adapter", 0.0)


def _compare_action(
    seen: Seen,
    seed: int,
    subject: str,
    asked: Mapping[str, tuple[str, ...]],
    n_trees: int = N_TREES,
) -> list[Row]:
    """Return every estimator's error, rank and bias for an action, by the state it is given."""
    history, truth = seen.history, seen.truth
    column, outcome, propensity, effect = {
        "push": (
            0,
            history.visits,
            np.full(history.push.shape, seen.config.push_probability),
            truth.push_effect,
        ),
        "sale": (1, history.purchases, history.sale_propensity, truth.sale_effect),
    }[subject]
    everything = flatten(seen.actions, _EVERY)
    known = flatten(propensity, _EVERY).astype(float)
    if seen.config.sale == "hidden":
        # Nobody logged what the sale depended on: it is taken for its mean.
        known = np.full(len(known), float(everything[:, column].mean()))
    scored = np.random.default_rng(seed).permutation(len(known))[:_SCORED]
    true = flatten(effect, _EVERY)[scored].astype(float)
    found: list[Row] = []
    for label, learners in asked.items():
        state = seen.states[label]
        log = Log(
            flatten(state, _EVERY),
            flatten(seen.moderators if label == "belief_history" else state, _EVERY),
            np.delete(everything, column, axis=1),
            everything[:, column].astype(float),
            flatten(outcome, _EVERY).astype(float),
            known,
            flatten(seen.customer, _EVERY),
            scored,
            n_trees,
        )
        for name, estimate in estimate_all(log, seed, learners).items():
            contender = f"{name}_raw" if label == "raw" else name
            error = float(np.sqrt(np.mean((estimate - true) ** 2)) / true.std())
            found.append(("error", subject, contender, error))
            found.append(("bias", subject, contender, float((estimate - true).mean())))
            if np.ptp(estimate) > 0:
                rank = float(stats.spearmanr(estimate, true).statistic)
                found.append(("rank", subject, contender, rank))
    return found


def _take(chances: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return the true probability under the action taken, shape (n_days, n)."""
    return np.take_along_axis(chances, taken[..., None].astype(int), axis=2)[..., 0]
