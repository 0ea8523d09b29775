"""The rule that updates by drift and by new evidence, beside updates every week and none."""

from dataclasses import replace

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.studies.drift.noticing import NOTHING
from benchmarks.studies.nightly_loop.contenders import System, Updater, Weekly
from benchmarks.studies.nightly_loop.living import live_nights, warm_up
from benchmarks.studies.nightly_loop.marts import LoopMarts
from ml.core.programme import Programme
from ml.pipeline.experiments import estimate_experiment_effects
from ml.pipeline.monitor import Watched, monitor_night
from ml.pipeline.updates import (
    RECALIBRATION,
    TRAINING,
    Update,
    choose_update,
    measure_information,
)
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import find_world

DRIFTS = ("none", "costs", "tastes", "wear_out")
UPDATERS = ("weekly", "rule", "never")


class Never:
    """Keeps what the first training left."""

    def choose(self, system: System, world: World, state: WorldState, marts: LoopMarts) -> Update:
        """Return nothing."""
        return Update(None, "never")


class Rule:
    """The pipeline's rule, fed every night as the lake feeds it."""

    def __init__(self) -> None:
        self._learned_from: float | None = None
        self._is_mended = False

    def choose(self, system: System, world: World, state: WorldState, marts: LoopMarts) -> Update:
        """Return what the rule says."""
        control = marts.actions.action_ids[0]
        log = system.read_log()
        information = measure_information(log.lazy(), control=control)
        if self._learned_from is None:
            self._learned_from = information
        has_heads = system.champion is not None and system.champion.scorer.uplift is not None
        passed = [gate.night for gate in system.gates if gate.is_passed]
        update = choose_update(
            self._watch(system, world.config.programme, marts),
            days_since=state.day - system.gates[-1].night,
            days_decided=state.day - max(passed, default=system.gates[0].night),
            can_recalibrate=has_heads and not self._is_mended,
            matured_after_days=world.config.programme.matured_after_days,
            learned_from=self._learned_from,
            gained=information - self._learned_from,
        )
        if update.job == TRAINING:
            self._learned_from, self._is_mended = information, False
        self._is_mended |= update.job == RECALIBRATION
        return update

    def _watch(self, system: System, programme: Programme, marts: LoopMarts) -> pl.DataFrame:
        """Return tonight's signals of what matured against what was expected."""
        matured: pl.DataFrame = NOTHING
        if system.arms:
            outcomes = system.read_log().select("decision_id", "visits", "value", "cost")
            matured = pl.concat(system.arms).join(outcomes, on="decision_id")
        reference = None
        if system.judged_on is not None:
            reference = estimate_experiment_effects(
                system.judged_on.everything, actions=marts.actions
            )
        return monitor_night(
            Watched(
                delivered=NOTHING,
                matured=matured,
                this_week=NOTHING,
                last_week=NOTHING,
                reference=reference,
                catalogue=marts.actions,
                fitted=None if system.champion is None else system.champion.actions,
            ),
            programme=programme,
        )


def live_updates(seed: int, n_nights: int, n_customers: int) -> pl.DataFrame:
    """Live one seed under every drift and every way to update; chance is the same for all.

    Parameters
    ----------
    seed
        Of the world.
    n_nights
        After the first training.
    n_customers
        Of the world.

    Returns
    -------
    pl.DataFrame
        seed, drift, updater, net_value (currency per customer, with what costs settle later),
        n_trainings, n_recalibrations, n_promotions, seconds (of the processor, in updates).
    """
    calm = replace(find_world("bakery"), n_customers=n_customers, seed=seed)
    morning, marts, warm = warm_up(World(calm), n_nights=n_nights)
    warm.train(morning.day, marts)
    rows = []
    for drift in DRIFTS:
        config = calm
        if drift != "none":
            config = replace(calm, drifts=find_world(f"bakery+{drift}").drifts)
        updaters: dict[str, Updater] = {"weekly": Weekly(), "rule": Rule(), "never": Never()}
        for name, updater in updaters.items():
            system = warm.branch()
            system.name, system.updater = name, updater
            nights = live_nights(World(config), system, morning, marts.branch(), n_nights=n_nights)
            jobs = [job for job, _ in system.updates]
            rows.append(
                {
                    "seed": seed,
                    "drift": drift,
                    "updater": name,
                    "net_value": float(nights["net_value"].to_numpy().sum()) / n_customers,
                    "n_trainings": jobs.count(TRAINING),
                    "n_recalibrations": jobs.count(RECALIBRATION),
                    "n_promotions": sum(gate.is_passed for gate in system.gates[1:]),
                    "seconds": sum(seconds for _, seconds in system.updates),
                }
            )
    return pl.DataFrame(rows)


def report_updates(lived: pl.DataFrame) -> dict[str, float]:
    """Print net margin and computing of each way to update; return the line's figures."""
    n_seeds = lived["seed"].n_unique()
    print(f"\nupdates: {n_seeds} seeds; net margin is currency per customer over all nights")
    print(
        f"{'drift':<10}{'updates':<9}{'net margin':>11}{'over never (95 %)':>26}"
        f"{'trainings':>11}{'recalibr.':>11}{'promoted':>10}{'CPU s':>8}"
    )
    figures: dict[str, float] = {"updates_seeds": n_seeds}
    for drift in DRIFTS:
        of_drift = lived.filter(drift=drift)
        never = of_drift.filter(updater="never").sort("seed")["net_value"].to_numpy()
        for updater in UPDATERS:
            own = of_drift.filter(updater=updater).sort("seed")
            gain = own["net_value"].to_numpy() - never
            half = 0.0
            if n_seeds > 1:
                error = float(gain.std(ddof=1)) / np.sqrt(n_seeds)
                half = float(stats.t.ppf(0.975, n_seeds - 1)) * error
            means = own.select(pl.selectors.numeric().mean()).row(0, named=True)
            interval = f"{gain.mean():+.3f} ({gain.mean() - half:+.3f}, {gain.mean() + half:+.3f})"
            print(
                f"{drift:<10}{updater:<9}{means['net_value']:>11.2f}{interval:>26}"
                f"{means['n_trainings']:>11.1f}{means['n_recalibrations']:>11.1f}"
                f"{means['n_promotions']:>10.1f}{means['seconds']:>8.0f}"
            )
            figures[f"updates_{drift}_{updater}_gain"] = float(gain.mean())
            figures[f"updates_{drift}_{updater}_seconds"] = means["seconds"]
    return figures
