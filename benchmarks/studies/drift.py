"""How soon monitoring notices a drift, and how often it cries wolf: -m benchmarks.studies.drift.

Every seed's bakery is lived up to its first champion once, then 60 nights as it is and under each
drift, which begins ten nights in (lost propensities: in the experiment). The champion stays, so
that nothing but the drift changes. Finished seeds are kept and not lived again.
"""

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.studies.nightly_loop.living import _warm_up
from benchmarks.studies.nightly_loop.marts import LoopMarts
from benchmarks.studies.resuming import run_missing
from ml.core.schemas import AssignmentTable
from ml.pipeline.decide import decide_night, to_contract
from ml.pipeline.experiments import estimate_experiment_effects
from ml.pipeline.monitor import Watched, monitor_night
from ml.pipeline.policies import BudgetedPolicy
from ml.pipeline.snapshots import take_snapshot
from ml.simulate.config import WorldConfig
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import DRIFT_DAYS, find_world

_WEEK = 7
_EXPERIMENT_DAYS = 8
STATED_NIGHTS = {"costs": 12, "tastes": 15, "wear_out": 45, "propensities": 2}
"""Nights within which a drift is to be alarmed; eight of them are an outcome's maturing."""
_EMPTY = AssignmentTable.create_empty().with_columns(
    visits=pl.lit(0, dtype=pl.Int64),
    value=pl.lit(0.0),
    cost=pl.lit(0.0),
)


def main() -> int:
    """Run the study, print its table and its line."""
    parsed = _parse()
    started, out = time.monotonic(), Path(parsed.out)
    out.mkdir(parents=True, exist_ok=True)
    n_seeds, n_nights, n_customers = (1, 24, 3_000) if parsed.quick else (parsed.seeds, 60, 12_000)
    parts = {
        out / f"{n_customers}-{n_nights}-{seed}.parquet": partial(
            live_seed, seed, n_nights, n_customers
        )
        for seed in range(1, n_seeds + 1)
    }
    run_missing(parts)
    alarms = pl.concat([pl.read_parquet(file) for file in parts])
    figures = _report(alarms, n_nights=n_nights)
    print(f"\n{time.monotonic() - started:.0f} s")
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))
    return 0


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
        seed, drift ('none' too), signal, subject, statistic, limit, nights since the drift: a row
        per alarm, and one without signal per life.
    """
    calm = replace(find_world("bakery"), n_customers=n_customers, seed=seed)
    morning, marts, system = _warm_up(World(calm), n_nights=n_nights)
    system.train(morning.day, marts)
    if system.champion is None:
        raise AssertionError("training sets a champion")
    snapshot = take_snapshot(
        pl.concat(system._log), programme=calm.programme, actions=marts.actions
    )
    reference = estimate_experiment_effects(snapshot.everything, actions=marts.actions)
    frames = [_watch_experiment(replace(calm, drifts=find_world("bakery+propensities").drifts))]
    for drift in ("none", "costs", "tastes", "wear_out"):
        config = calm
        if drift != "none":
            config = replace(calm, drifts=find_world(f"bakery+{drift}").drifts)
        frames.append(
            _watch_nights(
                World(config), morning, marts.branch(), system.champion, reference, n_nights
            ).with_columns(pl.lit(drift).alias("drift"))
        )
    return pl.concat(frames, how="diagonal").with_columns(pl.lit(seed).alias("seed"))


def _watch_nights(
    world: World,
    state: WorldState,
    marts: LoopMarts,
    champion: BudgetedPolicy,
    reference: pl.DataFrame,
    n_nights: int,
) -> pl.DataFrame:
    """Return the alarms of a life under one policy, and a row that says it was lived."""
    programme, first, fitted = world.config.programme, state.day, marts.actions
    decided: dict[int, pl.DataFrame] = {}
    due: dict[int, pl.DataFrame] = {}
    matured: list[pl.DataFrame] = []
    began = DRIFT_DAYS["costs"]
    frames = [pl.DataFrame({"since": [n_nights]}, schema={"since": pl.Int64})]
    while state.day < first + n_nights:
        day = state.day
        due[day] = marts.build_features(day)
        night = decide_night(
            due[day],
            policy=champion,
            policy_version="1",
            catalogue=marts.actions,
            programme=programme,
            decision_date=world.date_of(day),
        ).assignments
        decided[day] = night
        assignments = to_contract(night, programme)
        signals = monitor_night(
            Watched(
                delivered=decided.get(day - 1, _EMPTY),
                matured=pl.concat([_EMPTY, *matured], how="diagonal"),
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
                    outcomes.select("decision_id", "visits", "value", "cost"), on="decision_id"
                )
            )
    return pl.concat(frames, how="diagonal")


def _watch_experiment(config: WorldConfig) -> pl.DataFrame:
    """Return the alarms of the experiment's first nights without propensities."""
    world, began = World(config), DRIFT_DAYS["propensities"]
    state, _ = world.open_day()
    frames = [pl.DataFrame({"since": [_EXPERIMENT_DAYS]}, schema={"since": pl.Int64})]
    while state.day < began + _EXPERIMENT_DAYS:
        decisions = world.randomise(state)
        state, _ = world.step(state, decisions)
        # Delivered the night after.
        signals = monitor_night(
            Watched(
                delivered=decisions,
                matured=_EMPTY,
                this_week=_EMPTY,
                last_week=_EMPTY,
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
    )


def _gather(due: dict[int, pl.DataFrame], day: int) -> pl.DataFrame:
    """Return the features of the customers due in the week up to a day."""
    week = [due[each] for each in range(day - _WEEK + 1, day + 1) if each in due]
    return pl.concat(week) if week else _EMPTY


def _report(alarms: pl.DataFrame, *, n_nights: int) -> dict[str, float]:
    """Print how soon each drift was noticed, and return the line's figures."""
    n_seeds = alarms["seed"].n_unique()
    # The night that an alarm begins counts, not those that it lasts.
    onsets = (
        alarms.filter(pl.col("signal").is_not_null())
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
    return figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="drift", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="a minute: one small life, 24 nights")
    parser.add_argument("--out", default=".liftloop-drift", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
