"""How soon monitoring notices a drift, how often it cries wolf, and what recalibration mends.

Every seed's bakery is lived up to its first training once, then
60 nights as it is and under each drift, which begins ten nights in (lost propensities: in the
experiment). The policy that the training fitted decides them all, proven or not, so that nothing
but the drift changes. In the end it is recalibrated on the newest 28 nights that matured, and the
true effects of the last night are regressed on what it predicted before and after.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from benchmarks.studies.nightly_loop.living import warm_up
from benchmarks.studies.nightly_loop.marts import LoopMarts
from ml.core.contexts import build_contexts
from ml.core.schemas import AssignmentTable
from ml.pipeline.decide import decide_night, to_contract
from ml.pipeline.experiments import estimate_experiment_effects
from ml.pipeline.monitor import WINDOW_DAYS, Watched, monitor_night
from ml.pipeline.policies import BudgetedPolicy
from ml.pipeline.recalibrate import recalibrate_policy
from ml.pipeline.snapshots import take_snapshot
from ml.simulate.config import WorldConfig
from ml.simulate.truth import compute_truth
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import DRIFT_DAYS, find_world

_WEEK = 7
_EXPERIMENT_DAYS = 8
STATED_NIGHTS = {"costs": 2, "tastes": 14, "wear_out": 30, "propensities": 2}
"""Nights within which a drift is to be alarmed; eight of them are an outcome's maturing."""
NOTHING = AssignmentTable.create_empty().with_columns(
    visits=pl.lit(0, dtype=pl.Int64),
    value=pl.lit(0.0),
    cost=pl.lit(0.0),
)


def live_seed(seed: int, n_nights: int, n_customers: int) -> pl.DataFrame:
    """Live one seed under every drift.

    Parameters
    ----------
    seed
        Of the world.
    n_nights
        After the first champion.
    n_customers
        Of the world.

    Returns
    -------
    pl.DataFrame
        seed, drift ('none' too), kind, signal, subject, statistic, limit, nights since the drift: a
        row of kind 'alarm' per alarm, 'slope' per outcome and stage of calibration.
    """
    calm = replace(find_world("bakery"), n_customers=n_customers, seed=seed)
    morning, marts, system = warm_up(World(calm), n_nights=n_nights)
    system.train(morning.day, marts)
    policy = system.candidate
    if policy is None:
        raise AssertionError("training fits a candidate")
    snapshot = take_snapshot(system.read_log(), programme=calm.programme, actions=marts.actions)
    reference = estimate_experiment_effects(snapshot.everything, actions=marts.actions)
    frames = [_watch_experiment(replace(calm, drifts=find_world("bakery+propensities").drifts))]
    for drift in ("none", "costs", "tastes", "wear_out"):
        config = calm
        if drift != "none":
            config = replace(calm, drifts=find_world(f"bakery+{drift}").drifts)
        frames.append(
            _watch_nights(
                World(config), morning, marts.branch(), policy, reference, n_nights
            ).with_columns(pl.lit(drift).alias("drift"))
        )
    return pl.concat(frames, how="diagonal").with_columns(pl.lit(seed).alias("seed"))


def _watch_nights(
    world: World,
    state: WorldState,
    marts: LoopMarts,
    policy: BudgetedPolicy,
    reference: pl.DataFrame,
    n_nights: int,
) -> pl.DataFrame:
    """Return the alarms of a life under one policy, and its slopes before and after."""
    programme, first, fitted = world.config.programme, state.day, marts.actions
    decided: dict[int, pl.DataFrame] = {}
    due: dict[int, pl.DataFrame] = {}
    matured: list[pl.DataFrame] = []
    began = DRIFT_DAYS["costs"]
    frames = [
        _find_slopes(world, state, marts.build_features(first), policy).with_columns(
            pl.lit("before").alias("subject")
        )
    ]
    while state.day < first + n_nights:
        day = state.day
        due[day] = marts.build_features(day)
        night = decide_night(
            due[day],
            policy=policy,
            policy_version="1",
            catalogue=marts.actions,
            programme=programme,
            decision_date=world.date_of(day),
        ).assignments
        decided[day] = night
        assignments = to_contract(night, programme)
        signals = monitor_night(
            Watched(
                delivered=decided.get(day - 1, NOTHING),
                matured=pl.concat([NOTHING, *matured], how="diagonal"),
                this_week=_gather(due, day),
                last_week=_gather(due, day - _WEEK),
                reference=reference,
                catalogue=marts.actions,
                fitted=fitted,
            ),
            programme=programme,
        )
        frames.append(_note_alarms(signals, day - began))
        state, tables = world.step(state, assignments)
        tables["assignments"] = pl.concat([tables["assignments"], assignments])
        marts.absorb(tables, state.day)
        due_back = state.day - programme.matured_after_days
        if due_back in decided:
            outcomes = marts.build_outcomes(to_contract(decided[due_back], programme), due_back)
            matured.append(
                decided[due_back].join(
                    outcomes.select(pl.exclude(set(night.columns) - {"decision_id"})),
                    on="decision_id",
                )
            )
    recent = pl.concat(
        [
            night.join(due[day], on="customer_id", suffix="_features")
            for day, night in list(zip(sorted(decided), matured, strict=False))[-WINDOW_DAYS:]
        ]
    )
    recalibrated = recalibrate_policy(
        policy,
        take_snapshot(recent, programme=programme, actions=fitted),
        programme=programme,
    )
    features = marts.build_features(state.day)
    for stage, each in (("drifted", policy), ("recalibrated", recalibrated)):
        frames.append(
            _find_slopes(world, state, features, each).with_columns(pl.lit(stage).alias("subject"))
        )
    return pl.concat(frames, how="diagonal")


def _find_slopes(
    world: World, state: WorldState, features: pl.DataFrame, policy: BudgetedPolicy
) -> pl.DataFrame:
    """Return the slope of a night's true effects on the policy's, by outcome, of all its offers."""
    decided = features.filter(pl.col("is_due") & ~pl.col("is_holdout")).sort("customer_id")
    contexts = build_contexts(decided, programme=world.config.programme, actions=policy.actions)
    scores = policy.scorer.score(contexts)
    position = pl.DataFrame({"customer_id": world.population.customer_id}).with_row_index("row")
    rows = decided.join(position, on="customer_id", how="left", maintain_order="left")["row"]
    truth = compute_truth(world, state, rows.to_numpy())
    offered = contexts.eligible & (scores.value_effect != 0)
    offered[:, 0] = False
    pairs = (
        ("value", scores.value_effect[offered], truth.value_effect[offered]),
        ("cost", scores.cost_effect[offered], truth.cost_effect[offered]),
    )
    return pl.DataFrame(
        {
            "kind": "slope",
            "signal": [outcome for outcome, _, _ in pairs],
            "statistic": [
                float(np.polyfit(predicted, actual, 1)[0]) for _, predicted, actual in pairs
            ],
        }
    )


def _watch_experiment(config: WorldConfig) -> pl.DataFrame:
    """Return the alarms of the experiment's first nights without propensities."""
    world, began = World(config), DRIFT_DAYS["propensities"]
    state, _ = world.open_day()
    frames = []
    while state.day < began + _EXPERIMENT_DAYS:
        decisions = world.randomise(state)
        state, _ = world.step(state, decisions)
        # Delivered the night after.
        signals = monitor_night(
            Watched(
                delivered=decisions,
                matured=NOTHING,
                this_week=NOTHING,
                last_week=NOTHING,
                reference=None,
                catalogue=world.actions,
                fitted=None,
            ),
            programme=config.programme,
        )
        frames.append(_note_alarms(signals, state.day - began))
    return pl.concat(frames, how="diagonal").with_columns(pl.lit("propensities").alias("drift"))


def _note_alarms(signals: pl.DataFrame, since: int) -> pl.DataFrame:
    """Return the alarms of a night, so many nights after the drift (before it: negative)."""
    return signals.filter("is_alarm").select(
        pl.col("signal").cast(pl.String),
        "subject",
        "statistic",
        "limit",
        pl.lit(since, dtype=pl.Int64).alias("since"),
        pl.lit("alarm").alias("kind"),
    )


def _gather(due: dict[int, pl.DataFrame], day: int) -> pl.DataFrame:
    """Return the features of the customers due in the week up to a day."""
    week = [due[each] for each in range(day - _WEEK + 1, day + 1) if each in due]
    return pl.concat(week) if week else NOTHING


def report_noticing(lived: pl.DataFrame, *, n_nights: int) -> dict[str, float]:
    """Print how soon each drift was noticed and what was mended; return the line's figures."""
    n_seeds = lived["seed"].n_unique()
    # The night that an alarm begins counts, not those that it lasts.
    onsets = (
        lived.filter(pl.col("kind") == "alarm")
        .group_by("drift", "seed", "signal", "subject")
        .agg(pl.col("since").min())
    )
    figures: dict[str, float] = {"seeds": n_seeds}
    print(f"\n{'drift':<14}{'stated':>8}{'alarmed':>9}{'median':>8}{'slowest':>9}   nights")
    # What alarms without the drift too is not the drift's.
    calm = onsets.filter(pl.col("drift") == "none")
    noticed = onsets.join(calm, on=["seed", "signal", "subject"], how="anti")
    for drift, stated in STATED_NIGHTS.items():
        first = (
            noticed.filter((pl.col("drift") == drift) & (pl.col("since") >= 0))
            .group_by("seed")
            .agg(pl.col("since").min())["since"]
            .to_list()
        )
        share = sum(each <= stated for each in first) / n_seeds
        median = sorted(first)[len(first) // 2] if first else float("nan")
        slowest = max(first, default=float("nan"))
        print(f"{drift:<14}{stated:>8}{share:>9.0%}{median:>8}{slowest:>9}")
        figures[f"{drift}_alarmed_share"] = share
    figures["false_alarms_per_90_nights"] = 90 * calm.height / (n_seeds * n_nights)
    print(f"\nfalse alarms in {n_seeds * n_nights:,} nights without drift: {calm.height}")
    for row in calm.sort("signal", "subject").iter_rows(named=True):
        print(f"  seed {row['seed']}: {row['signal']}, {row['subject']}")
    print("\nslope of true on predicted effects, median of seeds (10 %, 90 %)")
    slopes = (
        lived.filter(pl.col("kind") == "slope")
        .group_by("drift", "signal", "subject")
        .agg(
            pl.col("statistic").median().alias("median"),
            pl.col("statistic").quantile(0.1).alias("low"),
            pl.col("statistic").quantile(0.9).alias("high"),
        )
    )
    print(f"{'drift':<12}{'outcome':<9}{'before':>22}{'drifted':>22}{'recalibrated':>22}")
    for drift in ("none", "costs", "tastes", "wear_out"):
        for outcome in ("value", "cost"):
            cells = []
            for stage in ("before", "drifted", "recalibrated"):
                row = slopes.filter(drift=drift, signal=outcome, subject=stage).row(0, named=True)
                cells.append(f"{row['median']:.2f} ({row['low']:+.2f}, {row['high']:+.2f})")
                figures[f"{drift}_{outcome}_slope_{stage}"] = row["median"]
            print(f"{drift:<12}{outcome:<9}" + "".join(f"{cell:>22}" for cell in cells))
    return figures
