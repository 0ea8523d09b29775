"""One seed's life: the warm start once, then every contender's nights from the same morning."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from benchmarks.studies.nightly_loop.contenders import (
    Contender,
    FixedPolicy,
    Gate,
    NeverSend,
    Oracle,
    RandomOffers,
    Replay,
    Shadow,
    System,
)
from benchmarks.studies.nightly_loop.marts import LoopMarts
from ml.simulate.config import WorldConfig
from ml.simulate.world import Tables, World, WorldState

_SETTLING = 9


@dataclass(frozen=True)
class Life:
    """One seed: ``nights`` has a row per contender and night, ``gates`` are the system's.

    With replayed tables, ``n_compared`` of their decisions were taken by the direct path too and
    ``n_differing`` differ in action or propensity.
    """

    nights: pl.DataFrame
    gates: list[Gate]
    n_compared: int = 0
    n_differing: int = 0


def live(
    config: WorldConfig,
    *,
    n_nights: int,
    replayed: dict[int, pl.DataFrame] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Life:
    """Live a world under each contender.

    Parameters
    ----------
    config
        The world; its seed is the life's.
    n_nights
        Nights decided after the warm start.
    replayed
        The system's decisions by day number, taken elsewhere; None: it decides here.
    progress
        Called with a line now and then.

    Returns
    -------
    Life
        Money per night of all customers.
    """
    world = World(config)
    morning, marts, system = warm_up(world, n_nights=n_nights)
    progress(f"seed {config.seed}: warm start lived")
    system.train(morning.day, marts)
    progress(f"seed {config.seed}: trained, {system.gates[-1]}")
    learner = system.branch()
    contenders = _gather(system, learner if replayed is None else Replay(replayed))
    frames = [
        live_nights(world, contender, morning, marts.branch(), n_nights=n_nights)
        for contender in contenders
    ]
    nights = pl.concat(frames).with_columns(pl.lit(config.seed).alias("seed"))
    if replayed is None:
        return Life(nights, learner.gates)
    shadow = Shadow(learner, replayed)
    live_nights(world, shadow, morning, marts.branch(), n_nights=n_nights)
    return Life(nights, learner.gates, shadow.n_compared, shadow.n_differing)


def _gather(system: System, learner: Contender) -> list[Contender]:
    """Return all contenders, the system first."""
    if system.champion is None or system.rule is None:
        raise AssertionError("training sets champion and rule")
    return [
        learner,
        Oracle(),
        FixedPolicy("frozen_champion", system.champion),
        FixedPolicy("lifecycle_rule", system.rule),
        RandomOffers(),
        NeverSend(),
    ]


def warm_up(world: World, *, n_nights: int) -> tuple[WorldState, LoopMarts, System]:
    """Live burn-in and experiment; return the first decided night's morning."""
    config = world.config
    n_days = config.warm_start_days + n_nights + _SETTLING
    marts = LoopMarts(config, world.population.customer_id, n_days=n_days)
    system = System(world)
    state, tables = world.open_day()
    marts.absorb(tables, 0)
    while state.day < config.warm_start_days:
        decisions = world.randomise(state)
        system.remember(decisions, marts.build_features(state.day), state.day)
        system.mature(marts, state.day)
        if state.day == config.warm_start_days - 1:
            system.account(marts, state.day)
        state, tables = world.step(state, decisions)
        tables["assignments"] = pl.concat([tables["assignments"], decisions])
        marts.absorb(tables, state.day)
    return state, marts, system


def live_nights(
    world: World, contender: Contender, state: WorldState, marts: LoopMarts, *, n_nights: int
) -> pl.DataFrame:
    """Live a contender's nights, and some days without decisions so that costs settle."""
    first, people = state.day, world.population.people
    rows: list[dict[str, object]] = []
    sent: dict[int, pl.DataFrame] = {}
    while state.day < first + n_nights + _SETTLING:
        day = state.day
        if day < first + n_nights:
            decisions = contender.decide(world, state, marts)
            sent[day] = decisions
            n_decided = int((world.due(state) & ~people.is_holdout).sum())
        else:
            decisions, n_decided = world.decide_nothing(state), 0
        state, tables = world.step(state, decisions)
        tables["assignments"] = pl.concat([tables["assignments"], decisions])
        marts.absorb(tables, state.day)
        rows.append(
            {
                "contender": contender.name,
                "night": day - first + 1,
                **_account(world, day, tables),
                "budget": world.config.budget_per_decision * n_decided,
            }
        )
    settled = [float(marts.build_outcomes(table, day)["cost"].sum()) for day, table in sent.items()]
    return pl.DataFrame(rows[:n_nights]).with_columns(pl.Series("decision_cost", settled))


def _account(world: World, day: int, tables: Tables) -> dict[str, object]:
    """Return what a day brought to the company: delivered events, messages, opt-outs."""
    events, receipts = tables["events"], tables["deliveries"]
    # Who signs up brings closed channels too, at midnight: those are no opt-outs.
    left = tables["contactability"].filter(pl.col("valid_from").dt.hour() != 0)
    money = {
        kind: float(events.filter(pl.col("type") == kind)["amount"].sum())
        for kind in ("purchase", "redemption")
    }
    realised = world.actions.index_of(receipts["realised_action_id"])
    messages = float(world.circumstances(day).message_cost[realised].sum())
    value = world.config.programme.margin * money["purchase"]
    return {
        "value": value,
        "cost": money["redemption"] + messages,
        "net_value": value - money["redemption"] - messages,
        "offers": int((realised > 0).sum()),
        "opt_outs": int((~left["is_allowed"]).sum()),
    }
