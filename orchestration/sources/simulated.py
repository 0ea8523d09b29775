"""The simulated source: a world whose days are lived as far as a night needs them.

Reads: emitted assignment tables. Writes: landing, programme.json, <home>/world.
"""

from datetime import date, timedelta

import polars as pl

from ml.core.errors import ContractError
from ml.simulate.config import WorldConfig
from ml.simulate.world import Tables, World, WorldState
from orchestration.lake import Lake, write_parquet
from orchestration.resources import Landing
from orchestration.settings import Settings
from orchestration.sources.landing_files import deliver

_FILE = "world"


class SimulatedSource:
    """Lands a warm-start experiment, then each night what the emitted decisions led to."""

    def __init__(self, settings: Settings, *, n_customers: int | None = None) -> None:
        self._settings = settings
        self._landing = Landing(root=str(settings.landing))
        self._lake = Lake(root=str(settings.lake))
        asked = WorldConfig() if n_customers is None else WorldConfig(n_customers=n_customers)
        self.config = self._remember(asked)

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
            state, tables = world.step(state, decisions)
            if decided_on < self.first_night():
                tables = {**tables, "assignments": decisions}
            self._land(world, state, tables)

    def _decide(self, world: World, state: WorldState) -> pl.DataFrame:
        """Return the day's decisions: the experiment's, or the sealed table's."""
        today = world.date_of(state.day)
        if today < self.first_night():
            return world.randomise(state)
        if self._lake.has("assignment_table", today):
            return self._lake.read("assignment_table", today)
        return world.randomise(state).head(0)

    def _land(self, world: World, state: WorldState, tables: Tables) -> None:
        """Deliver a day's tables, then move the world on: a killed run lives the day again."""
        deliver(self._landing, tables, world.date_of(state.day), name=_FILE)
        folder = self._settings.world
        write_parquet(state.customers, folder / f"customers-{state.day}.parquet")
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
        return WorldState(
            day=days[-1],
            customers=pl.read_parquet(folder / f"customers-{days[-1]}.parquet"),
            pending=pl.read_parquet(folder / f"pending-{days[-1]}.parquet"),
        )

    def _remember(self, asked: WorldConfig) -> WorldConfig:
        """Keep the world's size in the state folder: a world does not change its population."""
        file = self._settings.world / "n_customers"
        if file.exists():
            return WorldConfig(n_customers=int(file.read_text()))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(asked.n_customers))
        if not self._settings.programme_file.exists():
            self._settings.programme_file.write_text(asked.programme.to_json())
        return asked
