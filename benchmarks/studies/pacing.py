"""Whether a period pays what finance gave it: python -m benchmarks.studies.pacing.

A bakery whose coupons are redeemed at half of their customers' purchases is lived for a period of
30 nights under one fixed uplift policy (of another seed's experiment, so that its expected costs
are as wrong as they come), each night's budget by the pacer: undisturbed, and with redemptions or
demand doubled from a night on. A period's spending is everything that was redeemed and sent from
its first night on, offers of earlier nights included. Finished seeds are kept.
"""

import argparse
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.studies.nightly_loop.living import warm_up
from benchmarks.studies.nightly_loop.marts import LoopMarts
from benchmarks.studies.resuming import keep_seeds, print_line
from ml.core.programme import Programme
from ml.core.rules import Pacing
from ml.pipeline.decide import decide_night, to_contract
from ml.pipeline.learn import fit_candidate
from ml.pipeline.pace import pace_programme
from ml.pipeline.policies import BudgetedPolicy
from ml.pipeline.snapshots import take_snapshot
from ml.plots.deciding import plot_pacing
from ml.plots.drawing import render_png
from ml.simulate.config import Drift, WorldConfig
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import find_world
from ml.uplift.fitting import LearningSettings

PERIOD = 30
_FITTED_ON = 900
"""Seed of the world whose experiment taught the policy: no life's."""
SHOCKS: dict[str, Drift | None] = {
    "none": None,
    "redemptions, night 8": Drift(kind="redemptions", day=7),
    "demand, night 8": Drift(kind="demand", day=7),
    "redemptions, night 14": Drift(kind="redemptions", day=13),
    "redemptions, night 22": Drift(kind="redemptions", day=21),
}
"""The world's drift, its day counted from the period's first night."""
LATE = "redemptions, night 22"


def main() -> int:
    """Run the study, print its table and its line."""
    parsed = _parse()
    started = time.monotonic()
    n_seeds, n_customers = (1, 3_000) if parsed.quick else (parsed.seeds, parsed.customers)
    shocks = list(SHOCKS)[:2] if parsed.quick else list(SHOCKS)
    lived = keep_seeds(
        parsed.out,
        f"{n_customers}",
        range(1, n_seeds + 1),
        partial(live_seed, n_customers=n_customers, shocks=shocks),
    )
    figures = _report(lived)
    picture = Path(parsed.picture or Path(parsed.out) / "pacing.png")
    one = lived.filter(seed=1, shock=shocks[1]).drop("seed", "shock", "paid", "n_redemptions")
    picture.write_bytes(render_png(plot_pacing(one, currency="EUR")))
    print(f"\nplot (seed 1, {shocks[1]}): {picture}\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def live_seed(seed: int, n_customers: int, shocks: list[str]) -> pl.DataFrame:
    """Live a period under every shock, from the same first night.

    Parameters
    ----------
    seed
        Of the world.
    n_customers
        Of the world.
    shocks
        Names of ``SHOCKS``.

    Returns
    -------
    pl.DataFrame
        A row per shock and night: NightPace columns, what was paid in the period in the end, and
        by how many redemptions.
    """
    policy = _fit_policy(n_customers)
    calm = replace(_configure(n_customers), seed=seed)
    world = World(calm)
    morning, marts, system = warm_up(world, n_nights=PERIOD)
    programme = replace(
        calm.programme,
        pacing=Pacing(
            period_budget=_plan_budget(world, morning),
            begins=world.date_of(morning.day),
            period_days=PERIOD,
        ),
    )
    history = [
        frame.select("decision_id", "action_id", "decided_at")
        for frame in (*system._log, *(decisions for decisions, _ in system._awaiting.values()))
    ]
    return pl.concat(
        [
            _live_period(calm, shock, morning, marts.branch(), policy, programme, history)
            for shock in shocks
        ]
    ).with_columns(pl.lit(seed).alias("seed"))


def _configure(n_customers: int) -> WorldConfig:
    bakery = find_world("bakery")
    return replace(
        bakery,
        n_customers=n_customers,
        budget_per_decision=0.5,
        response=replace(bakery.response, redemption_probability=0.5),
    )


@cache
def _fit_policy(n_customers: int) -> BudgetedPolicy:
    """Return the uplift policy that decides every life, once per process.

    Of few forests: it is scored thousands of times, and what paces it doesn't depend on them.
    """
    config = replace(_configure(n_customers), seed=_FITTED_ON)
    _, marts, system = warm_up(World(config), n_nights=1)
    snapshot = take_snapshot(system.read_log(), programme=config.programme, actions=marts.actions)
    few = LearningSettings(
        n_members=2, value_learners=("residual",), cost_learners=("s_learner",), n_threads=1
    )
    return fit_candidate(snapshot, programme=config.programme, actions=marts.actions, settings=few)


def _plan_budget(world: World, morning: WorldState) -> float:
    """Return the period's budget: that of as many decisions as its first week will have."""
    people = world.population.people
    n_week = sum(
        int((world.due(replace(morning, day=morning.day + ahead)) & ~people.is_holdout).sum())
        for ahead in range(7)
    )
    return world.config.budget_per_decision * n_week * PERIOD / 7


def _live_period(
    calm: WorldConfig,
    shock: str,
    state: WorldState,
    marts: LoopMarts,
    policy: BudgetedPolicy,
    programme: Programme,
    history: list[pl.DataFrame],
) -> pl.DataFrame:
    """Live the period's nights and return what the pacer said, and what was paid in the end."""
    drift, first = SHOCKS[shock], state.day
    drifts = () if drift is None else (replace(drift, day=first + drift.day),)
    world = World(replace(calm, drifts=drifts))
    decisions = pl.concat(history).select(
        "decision_id",
        "action_id",
        pl.col("action_id").alias("realised_action_id"),
        pl.col("decided_at").dt.date().alias("decision_date"),
        pl.lit(None, dtype=pl.Float64).alias("expected_cost_effect"),
    )
    rows, messages = [], 0.0
    while state.day < first + PERIOD:
        night = world.date_of(state.day)
        features = marts.build_features(state.day)
        n_due = features.filter(~pl.col("is_holdout")).height
        known = marts.redemptions.filter(pl.col("redeemed_date") < night)
        paced = pace_programme(
            decisions,
            known.join(
                decisions.select("decision_id", "decision_date", "action_id"), on="decision_id"
            ),
            catalogue=marts.actions,
            programme=programme,
            night=night,
            n_due=n_due,
        )
        rows.append(paced.pace.with_columns(pl.lit(night).alias("decision_date")))
        decided = decide_night(
            features,
            policy=policy,
            policy_version="1",
            catalogue=marts.actions,
            programme=programme,
            decision_date=night,
            budget=paced.budget,
        ).assignments
        assignments = to_contract(decided, programme)
        state, tables = world.step(state, assignments)
        sent = decided.join(tables["deliveries"], on="decision_id").select(decisions.columns)
        decisions = pl.concat([decisions, sent])
        tables["assignments"] = pl.concat([tables["assignments"], assignments])
        marts.absorb(tables, state.day)
        realised = world.actions.index_of(tables["deliveries"]["realised_action_id"])
        messages += float(world.circumstances(state.day - 1).message_cost[realised].sum())
    # Some of the last days' redemptions become known later.
    for _ in range(4):
        state, tables = world.step(state, world.decide_nothing(state))
        marts.absorb(tables, state.day)
    last = world.date_of(first + PERIOD - 1)
    paid = marts.redemptions.filter(pl.col("redeemed_date").is_between(world.date_of(first), last))
    return pl.concat(rows).with_columns(
        pl.lit(shock).alias("shock"),
        pl.lit(messages + float(paid["amount"].sum())).alias("paid"),
        pl.lit(paid.height).alias("n_redemptions"),
    )


def _report(lived: pl.DataFrame) -> dict[str, float]:
    """Print how far each period's spending ended from its budget; return the line's figures."""
    ends = lived.group_by("shock", "seed", maintain_order=True).agg(
        (pl.col("paid").first() / pl.col("target").first() - 1).alias("miss"),
        pl.col("n_redemptions").first(),
        (pl.col("steering") == "stopped").sum().alias("n_stopped"),
    )
    n_seeds = ends["seed"].n_unique()
    redemptions = ends["n_redemptions"].to_numpy()
    print(
        f"\n{n_seeds} periods of {PERIOD} nights each, {redemptions.min():,} to "
        f"{redemptions.max():,} redemptions\n"
    )
    print(f"{'shock':<24}{'mean':>8}{'lowest':>9}{'highest':>9}{'in 3 %':>8}{'> 1 %':>7}  stopped")
    shares: dict[str, tuple[float, float]] = {}
    for shock in ends["shock"].unique(maintain_order=True).to_list():
        rows = ends.filter(pl.col("shock") == shock)
        miss = rows["miss"].to_numpy()
        within, over = float((np.abs(miss) <= 0.03).mean()), float((miss > 0.01).mean())
        shares[shock] = within, over
        print(
            f"{shock:<24}{miss.mean():>+8.2%}{miss.min():>+9.2%}{miss.max():>+9.2%}{within:>8.0%}"
            f"{over:>7.0%}  {rows['n_stopped'].to_numpy().mean():.1f} nights"
        )
    shocked = [share for name, share in shares.items() if name not in ("none", LATE)]
    figures = {
        "seeds": n_seeds,
        "redemptions_min": float(redemptions.min()),
        "within_3_percent": shares["none"][0],
        "overspend_above_1_percent": shares["none"][1],
        "shocked_within_3_percent": min(within for within, _ in shocked),
    }
    if LATE in shares:
        figures["late_shock_within_3_percent"] = shares[LATE][0]
    return figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pacing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--customers", type=int, default=19_000)
    parser.add_argument(
        "--quick", action="store_true", help="a minute: one small period, lived twice"
    )
    parser.add_argument("--out", default=".liftloop-pacing", help="folder of what is kept")
    parser.add_argument("--picture", default="", help="file of the plot")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
