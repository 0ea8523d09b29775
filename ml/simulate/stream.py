"""A world written to Parquet as it is lived, night by night, never all in memory."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.simulate.config import WorldConfig
from ml.simulate.purchase_tables import deliver_purchases
from ml.simulate.purchase_world import PurchaseConfig, compute_purchase_truth, simulate_purchases
from ml.simulate.truth import Truth, compute_truth
from ml.simulate.world import Tables, World, WorldState


def stream_world(
    config: WorldConfig,
    folder: Path,
    *,
    n_days: int,
    has_truth: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> int:
    """Live a world under its experiment and write what a loop would be delivered.

    Parameters
    ----------
    config
        The world.
    folder
        Gets ``<table>/<date>/world.parquet`` as in a landing folder, ``programme.json``, and with
        ``has_truth`` ``truth/<date>.parquet``, which belongs to no contract.
    n_days
        Days to live from day 0 on.
    has_truth
        Whether to write the truth of each day's decisions.
    progress
        Called with a line per day.

    Returns
    -------
    int
        Rows written, truths not counted.
    """
    world = World(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "programme.json").write_text(config.programme.to_json())
    state, tables = world.open_day()
    n_rows = _write_tables(world, state, tables, folder)
    for _ in range(n_days):
        decisions = world.randomise(state)
        if has_truth:
            truth = tabulate_truth(world, state, compute_truth(world, state))
            _write(truth, folder / "truth" / f"{world.date_of(state.day)}.parquet")
        state, tables = world.step(state, decisions)
        tables["assignments"] = pl.concat([tables["assignments"], decisions])
        n_rows += _write_tables(world, state, tables, folder)
        progress(f"{world.date_of(state.day - 1)}: {decisions.height:,} decisions, {n_rows:,} rows")
    return n_rows


def stream_purchases(config: PurchaseConfig, folder: Path, *, has_truth: bool = False) -> int:
    """Simulate a Purchase World and write it in a landing folder's layout.

    Parameters
    ----------
    config
        The world.
    folder
        Gets ``<table>/<date>/world.parquet``: decisions and events on the day after they
        happened, the rest on the first day; with ``has_truth`` ``truth/<date>.parquet``. There is
        no programme.json: the world has three surfaces and no budget.
    has_truth
        Whether to write each day's true probabilities.

    Returns
    -------
    int
        Rows written, truths not counted.
    """
    history = simulate_purchases(config)
    n_rows = 0
    for table, rows in deliver_purchases(config, history).items():
        clock = {"assignments": "decided_at", "events": "available_at"}.get(table)
        night = pl.lit(config.first_date) if clock is None else pl.col(clock).dt.date()
        night = night if clock is None else night + pl.duration(days=1)
        parts = rows.with_columns(night.alias("night")).partition_by(
            "night", as_dict=True, include_key=False
        )
        for (day,), part in parts.items():
            _write(part, folder / table / str(day) / "world.parquet")
            n_rows += part.height
        if table == "events":
            # Nothing happened before the first day: without an events file it is no night.
            _write(rows.head(0), folder / table / str(config.first_date) / "world.parquet")
    if has_truth:
        truth = compute_purchase_truth(config, history)
        for day in range(config.n_days):
            date = config.first_date + timedelta(days=day)
            frame = pl.DataFrame(
                {
                    "customer_id": pl.Series(np.arange(config.n_customers))
                    .cast(pl.String)
                    .str.zfill(8),
                    "visit.no_push": truth.visit[day, :, 0],
                    "visit.push": truth.visit[day, :, 1],
                    "purchase.no_sale": truth.purchase[day, :, 0],
                    "purchase.sale": truth.purchase[day, :, 1],
                }
            )
            _write(frame, folder / "truth" / f"{date}.parquet")
    return n_rows


def tabulate_truth(world: World, state: WorldState, truth: Truth) -> pl.DataFrame:
    """Return a day's truths as a table: what no pipeline code may read.

    Parameters
    ----------
    world, state
        Before the day.
    truth
        Of its decisions.

    Returns
    -------
    pl.DataFrame
        customer_id, decision_date, and float32 columns value.<action> and cost.<action>.
    """
    actions: ActionSet = world.actions
    return pl.DataFrame(
        {
            "customer_id": world.population.customer_id[truth.rows],
            "decision_date": [world.date_of(state.day)] * len(truth.rows),
            **{f"value.{name}": truth.value[:, k] for k, name in enumerate(actions.action_ids)},
            **{f"cost.{name}": truth.cost[:, k] for k, name in enumerate(actions.action_ids)},
        },
        schema_overrides={"decision_date": pl.Date},
    )


def _write_tables(world: World, state: WorldState, tables: Tables, folder: Path) -> int:
    """Write a night's delivery; return its rows."""
    night = world.date_of(state.day)
    for table, rows in tables.items():
        _write(rows, folder / table / str(night) / "world.parquet")
    return sum(rows.height for rows in tables.values())


def _write(rows: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(path, compression="zstd", compression_level=1, statistics=False)
