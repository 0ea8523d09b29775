"""Logs of a world's experiment, with the true effects of every decision."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from benchmarks.studies.nightly_loop.marts import LoopMarts
from ml.core.actions import ActionSet
from ml.pipeline.snapshots import Snapshot, take_snapshot
from ml.simulate.config import WorldConfig
from ml.simulate.population import Population
from ml.simulate.truth import compute_truth
from ml.simulate.world import World

_SETTLING = 9


@dataclass(frozen=True)
class KnownLog:
    """A snapshot, and per evaluation decision the true effects, shape (m, K), currency.

    ``population``: who the customers are; ``tokens``: what events were about; ``states``: where
    the customer stood at every decision.
    """

    snapshot: Snapshot
    actions: ActionSet
    value_effect: np.ndarray
    cost_effect: np.ndarray
    population: Population
    tokens: pl.DataFrame
    states: pl.DataFrame


def draw_log(config: WorldConfig, *, n_decisions: int) -> KnownLog:
    """Live a world's experiment until its training customers have had enough decisions.

    Parameters
    ----------
    config
        The world; its population is sized for the number of decisions.
    n_decisions
        Of training customers; the log has at most so many of theirs.

    Returns
    -------
    KnownLog
        Evaluation customers' decisions are all there.
    """
    programme = config.programme
    weeks = config.warm_start_days / programme.learning_horizon_days
    share = 1 - programme.evaluation_share - programme.holdout_share
    # Joiners and opt-outs leave some customers without a decision a week.
    config = replace(config, n_customers=int(1.45 * n_decisions / weeks / share))
    world = World(config)
    marts = LoopMarts(
        config, world.population.customer_id, n_days=config.warm_start_days + _SETTLING + 1
    )
    awaiting: dict[int, tuple[pl.DataFrame, pl.DataFrame]] = {}
    rows, tokens, states = [], [], []
    state, tables = world.open_day()
    marts.absorb(tables, 0)
    tokens.append(read_tokens(tables["events"]))
    while state.day < config.warm_start_days + _SETTLING:
        if state.day < config.warm_start_days:
            truth = compute_truth(world, state)
            effects = pl.DataFrame(
                {
                    "customer_id": world.population.customer_id.gather(truth.rows),
                    "true_value_effect": truth.value_effect.astype(float),
                    "true_cost_effect": truth.cost_effect.astype(float),
                }
            )
            decisions = world.randomise(state)
            stood = state.customers.to_frame().with_columns(world.population.customer_id)
            states.append(
                decisions.select("decision_id", "customer_id").join(stood, on="customer_id")
            )
            features = marts.build_features(state.day)
            awaiting[state.day] = decisions, features.join(effects, on="customer_id", how="left")
        else:
            decisions = world.decide_nothing(state)
        matured = state.day - programme.matured_after_days
        if matured in awaiting:
            decided, known = awaiting.pop(matured)
            outcomes = marts.build_outcomes(decided, matured)
            rows.append(outcomes.join(known, on="customer_id", how="inner"))
        state, tables = world.step(state, decisions)
        tables["assignments"] = pl.concat([tables["assignments"], decisions])
        marts.absorb(tables, state.day)
        tokens.append(read_tokens(tables["events"]))
    log = pl.concat(rows)
    is_training = ~pl.col("is_evaluation") & ~pl.col("is_holdout")
    kept = log.filter(is_training).sort("decision_id").head(n_decisions)
    log = pl.concat([kept, log.filter(~is_training)])
    snapshot = take_snapshot(log, programme=programme, actions=marts.actions)
    truth_of = snapshot.evaluation.contexts.frame
    return KnownLog(
        snapshot,
        marts.actions,
        truth_of["true_value_effect"].to_numpy(),
        truth_of["true_cost_effect"].to_numpy(),
        world.population,
        pl.concat(tokens),
        pl.concat(states),
    )


def read_tokens(events: pl.DataFrame) -> pl.DataFrame:
    """Return what events were about, as the mart customer_tokens holds it."""
    return events.filter(pl.col("item").is_not_null()).select(
        "customer_id", "available_at", pl.col("type").alias("kind"), "item"
    )
