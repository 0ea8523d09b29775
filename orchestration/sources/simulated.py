"""The simulated source: a world whose days are lived as far as a night needs them.

Reads: emitted assignment tables. Writes: landing, programme.json, <home>/world: the world's state,
and the truth of each night's decisions, which nothing else reads.
"""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from ml.core.errors import ContractError
from ml.simulate.config import WorldConfig
from ml.simulate.purchase_world import PURCHASE_WORLDS
from ml.simulate.stream import stream_purchases, stream_world, tabulate_truth
from ml.simulate.truth import compute_truth
from ml.simulate.world import Tables, World, WorldState
from ml.simulate.worlds import find_world
from orchestration.files import write_text
from orchestration.lake import Lake, write_parquet
from orchestration.resources import Landing
from orchestration.settings import Settings
from orchestration.sources.landing_files import deliver

_FILE = "world"


def write_world(
    name: str,
    folder: Path,
    *,
    n_days: int | None = None,
    n_customers: int | None = None,
    has_truth: bool = False,
) -> int:
    """Write a named world's files in a landing folder's layout; return the rows written.

    Without ``n_days`` a world's own: its warm start, or the Purchase World's year.

    Raises
    ------
    ContractError
        If there is no such world.
    """
    if name in PURCHASE_WORLDS:
        published = PURCHASE_WORLDS[name]
        purchases = replace(
            published,
            n_days=n_days or published.n_days,
            n_customers=n_customers or published.n_customers,
        )
        return stream_purchases(purchases, folder, has_truth=has_truth)
    config = find_world(name)
    config = replace(config, n_customers=n_customers or config.n_customers)
    n_days = n_days or config.warm_start_days
    return stream_world(config, folder, n_days=n_days, has_truth=has_truth, progress=print)


class SimulatedSource:
    """Lands a warm-start experiment, then each night what the emitted decisions led to."""

    def __init__(
        self,
        settings: Settings,
        *,
        world: str | None = None,
        n_customers: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._settings = settings
        self._landing = Landing(root=str(settings.landing))
        self._lake = Lake(root=str(settings.lake))
        self.config = self._remember(world=world, n_customers=n_customers, seed=seed)

    def first_night(self) -> date:
        """Return the first night that is decided: the one after the warm start."""
        return self.config.first_date + timedelta(days=self.config.warm_start_days)

    def land(self, night: date) -> None:
        """Live the world until a night and land everything that is delivered for it.

        Days before the night that were decided by the loop follow its sealed tables; a night that
        was never decided had no offers.

        Raises
        ------
        ContractError
            If the night lies before the first one, or the world has moved past it.
        """
        if night < self.config.first_date:
            raise ContractError(f"the simulated world begins on {self.config.first_date}")
        world = World(self.config)
        target = (night - self.config.first_date).days
        state = self._read_state()
        if state is None:
            state, tables = world.open_day()
            self._land(world, state, tables)
        if state.day > target and night not in self._landing.ready_dates():
            raise ContractError(f"the simulated world has moved past {night}")
        while state.day < target:
            decisions = self._decide(world, state)
            decided_on = world.date_of(state.day)
            truth = tabulate_truth(world, state, compute_truth(world, state))
            write_parquet(truth, self._settings.world / "truth" / f"{decided_on}.parquet")
            state, tables = world.step(state, decisions)
            if decided_on < self.first_night():
                tables["assignments"] = pl.concat([tables["assignments"], decisions])
            self._land(world, state, tables)

    def _decide(self, world: World, state: WorldState) -> pl.DataFrame:
        """Return the day's decisions: the experiment's, or the sealed table's."""
        today = world.date_of(state.day)
        if today < self.first_night():
            return world.randomise(state)
        if self._lake.has("assignment_table", today):
            return self._lake.read("assignment_table", today)
        return world.decide_nothing(state)

    def _land(self, world: World, state: WorldState, tables: Tables) -> None:
        """Deliver a day's tables, then move the world on: a killed run lives the day again."""
        deliver(self._landing, tables, world.date_of(state.day), name=_FILE)
        folder = self._settings.world
        write_parquet(state.to_frame(), folder / f"customers-{state.day}.parquet")
        write_parquet(state.pending, folder / f"pending-{state.day}.parquet")
        for path in folder.glob("*-*.parquet"):
            if int(path.stem.split("-")[1]) < state.day - 1:
                path.unlink()

    def _read_state(self) -> WorldState | None:
        """Return the newest complete state."""
        folder = self._settings.world
        days = sorted(int(path.stem.split("-")[1]) for path in folder.glob("pending-*.parquet"))
        if not days:
            return None
        return WorldState.from_frame(
            days[-1],
            pl.read_parquet(folder / f"customers-{days[-1]}.parquet"),
            pl.read_parquet(folder / f"pending-{days[-1]}.parquet"),
        )

    def _remember(
        self, *, world: str | None, n_customers: int | None, seed: int | None
    ) -> WorldConfig:
        """Keep which world a state folder lives in: it does not change under way."""
        file = self._settings.world / "world.json"
        if file.exists():
            kept = json.loads(file.read_text())
            config = find_world(kept["world"])
            if config.version != kept["version"]:
                raise ContractError(
                    f"{self._settings.home} lives in version {kept['version']} of the world "
                    f"{config.name}, this code has version {config.version}: use another HOME_DIR"
                )
            asked = {"world": world, "n_customers": n_customers, "seed": seed}
            for name, value in asked.items():
                if value not in (None, kept[name]):
                    raise ContractError(
                        f"{self._settings.home} lives in a world with {name} {kept[name]}: use "
                        f"another HOME_DIR for {value}"
                    )
            return replace(config, n_customers=kept["n_customers"], seed=kept["seed"])
        config = find_world(world or "bakery")
        config = replace(
            config,
            n_customers=n_customers or config.n_customers,
            seed=config.seed if seed is None else seed,
        )
        if not self._settings.programme_file.exists():
            write_text(config.programme.to_json(), self._settings.programme_file)
        kept = {
            "world": config.name,
            "version": config.version,
            "n_customers": config.n_customers,
            "seed": config.seed,
        }
        write_text(json.dumps(kept), file)
        return config
