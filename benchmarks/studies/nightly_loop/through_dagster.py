"""The system's nights through Dagster itself, in this process, as make nightly runs them."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from benchmarks.studies.nightly_loop.contenders import Gate
from ml.simulate.config import WorldConfig


@dataclass(frozen=True)
class DagsterNights:
    """``tables`` are the sealed contract rows by day number, ``gates`` the evaluation records."""

    tables: dict[int, pl.DataFrame]
    gates: list[Gate]


def live_through_dagster(config: WorldConfig, *, home: Path, n_nights: int) -> DagsterNights:
    """Run night after night, weekly training included; nights that are sealed stay.

    Without a world model, which the direct path hasn't either.

    Parameters
    ----------
    config
        The world.
    home
        State folder; goes on where it stopped.
    n_nights
        Nights from the first decided one on.

    Returns
    -------
    DagsterNights
        What was sealed, and what the gate said each week.
    """
    os.environ["LIFTLOOP_HOME"] = str(home.absolute())
    os.environ["LIFTLOOP_WORLD_MODEL"] = "off"
    from ml.pipeline.decide import to_contract
    from orchestration.commands import main as run_command
    from orchestration.lake import Lake

    first = config.first_date + timedelta(days=config.warm_start_days)
    lake = Lake(root=str(home.absolute() / "lake"))
    world = ("--world", config.name, "--customers", str(config.n_customers))
    for offset in range(n_nights):
        night = first + timedelta(days=offset)
        if lake.has("assignment_table", night):
            continue
        arguments = ("nightly", "--source", "simulated", *world, "--seed", str(config.seed))
        if run_command([*arguments, "--date", str(night)]):
            raise SystemExit(f"night {night} failed; see above")
    tables = {
        config.warm_start_days + offset: to_contract(
            lake.read("assignment_table", first + timedelta(days=offset)), config.programme
        )
        for offset in range(n_nights)
    }
    gates = []
    for day in lake.dates("evaluation_record"):
        record = lake.read("evaluation_record", day).row(0, named=True)
        gates.append(
            Gate(
                night=(day - config.first_date).days + 1,
                is_passed=record["is_passed"],
                difference=record["net_value_difference"],
                low=record["difference_low"],
            )
        )
    return DagsterNights(tables, gates)
