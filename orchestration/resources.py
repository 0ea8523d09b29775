"""What assets are handed: lake, landing, programme, registry, warehouse lock, dbt.

Reads: settings. Writes: nothing itself.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
from dagster_dbt import DbtCliResource
from filelock import FileLock, Timeout

from ml.contract.files import is_landing_file
from ml.contract.tables import CONTRACT
from ml.core.errors import WarehouseError
from ml.core.programme import Programme, read_programme
from ml.pipeline.channel_budgets import limit_channels
from orchestration.freezing import Freeze, read_freeze
from orchestration.lake import Lake
from orchestration.settings import DBT_EXECUTABLE, DBT_PROJECT, Settings, is_date

IO_RETRIES = dg.RetryPolicy(
    max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
_PATIENCE_SECONDS = 600


EMITTED_FILE = "liftloop.parquet"
"""The night before's own decisions, among tonight's assignments."""


class Landing(dg.ConfigurableResource):
    """Files as delivered: ``landing/<table>/<date>/<file>``."""

    root: str

    def folder(self, table: str, day: date) -> Path:
        """Return the folder of one table and night."""
        return Path(self.root) / table / str(day)

    def files(self, day: date) -> dict[str, list[Path]]:
        """Return every contract table's files of a night."""
        return {
            table: sorted(
                path for path in self.folder(table, day).glob("*") if is_landing_file(path)
            )
            for table in CONTRACT
        }

    def delivered(self, day: date) -> list[Path]:
        """Return a night's files that others delivered: not the night before's own decisions."""
        every = self.files(day).values()
        return [path for paths in every for path in paths if path.name != EMITTED_FILE]

    def ready_dates(self) -> list[date]:
        """Return the nights whose events are there, in order."""
        found = (Path(self.root) / "events").glob("*/*")
        names = {path.parent.name for path in found if is_landing_file(path)}
        return sorted(date.fromisoformat(name) for name in names if is_date(name))

    def misplaced(self) -> list[str]:
        """Name what lies where no night will look for it."""
        unknown = [
            f"{folder.name}: no table of the contract is called that"
            for folder in sorted(Path(self.root).glob("[!._]*"))
            if folder.name not in CONTRACT
        ]
        undated = [
            f"{table}/{path.name}: a night's folder is named YYYY-MM-DD"
            for table in CONTRACT
            for path in sorted((Path(self.root) / table).glob("[!._]*"))
            if not is_date(path.name)
        ]
        return unknown + undated


class ProgrammeFile(dg.ConfigurableResource):
    """The programme, read anew by each step."""

    path: str
    lake: str = ""

    def read(self) -> Programme:
        """Read ``programme.json``; with ``has_media_budgets`` the media mix's limits too.

        Those of the newest split before the newest night, so that all its steps, a training's and
        a repetition's, are limited alike.
        """
        programme = read_programme(Path(self.path))
        if not programme.has_media_budgets:
            return programme
        lake = Lake(root=self.lake)
        nights = lake.dates("customer_features")
        split = [day for day in lake.dates("channel_budgets") if nights and day < nights[-1]]
        if not split:
            return programme
        return limit_channels(programme, lake.read("channel_budgets", split[-1]))


class Warehouse(dg.ConfigurableResource):
    """The DuckDB file and the operating system's lock around it."""

    path: str

    @contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[Path]:
        """Hold the warehouse; says so while it waits for whoever holds it.

        Our own steps are kept out by a lock beside the file, anybody else (a dbt whose parent was
        killed, a database tool) by DuckDB's own.

        Raises
        ------
        WarehouseError
            If somebody still holds it after ten minutes.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        ours = FileLock(f"{self.path}.lock")
        try:
            ours.acquire(timeout=0)
        except Timeout:
            say("waiting for another run that builds the warehouse")
            ours.acquire()
        try:
            self._wait_for_others(say, deadline)
            yield Path(self.path)
        finally:
            ours.release()

    def _wait_for_others(self, say: Callable[[str], None], deadline: float) -> None:
        has_said = False
        while Path(self.path).exists():
            try:
                duckdb.connect(self.path).close()
                return
            except duckdb.IOException as error:
                # The lock's message names the process; other faults are not waited for.
                if "lock" not in str(error) or time.monotonic() > deadline:
                    raise WarehouseError(
                        f"the warehouse can't be opened ({str(error).splitlines()[0]}): end what "
                        "holds it, or delete the file; it is built anew from the lake"
                    ) from error
            if not has_said:
                say(f"waiting for the process that still has {self.path} open")
                has_said = True
            time.sleep(1)


class Mlflow(dg.ConfigurableResource):
    """Where runs and registered policies are kept, and where people look at them."""

    tracking_uri: str
    experiment: str
    interface: str = ""

    def link(self, page: str) -> dg.MetadataValue:
        """Return a page of MLflow's interface as an asset's metadata."""
        return dg.MetadataValue.url(f"{self.interface}/{page}")


class Governance(dg.ConfigurableResource):
    """What people decided about the loop: whether gates promote, and whether it is frozen."""

    promotion: str
    freeze_file: str

    def read_freeze(self) -> Freeze | None:
        """Return the freeze, None where there is none."""
        return read_freeze(Path(self.freeze_file))


class Exports(dg.ConfigurableResource):
    """Folder of the CSV files for a messaging provider."""

    root: str


class Checkpoints(dg.ConfigurableResource):
    """Folder of trainings that go on after a kill."""

    root: str


class Reports(dg.ConfigurableResource):
    """Folder of the nightly pages."""

    root: str


def build_resources(settings: Settings) -> dict[str, object]:
    """Return every resource for one state folder."""
    return {
        "lake": Lake(root=str(settings.lake)),
        "landing": Landing(root=str(settings.landing)),
        "programme": ProgrammeFile(path=str(settings.programme_file), lake=str(settings.lake)),
        "warehouse": Warehouse(path=str(settings.warehouse)),
        "mlflow": Mlflow(
            tracking_uri=settings.tracking_uri,
            experiment=settings.experiment,
            interface=settings.mlflow_interface,
        ),
        "governance": Governance(
            promotion=settings.promotion, freeze_file=str(settings.freeze_file)
        ),
        "reports": Reports(root=str(settings.reports)),
        "checkpoints": Checkpoints(root=str(settings.checkpoints)),
        "exports": Exports(root=str(settings.exports)),
        "dbt": DbtCliResource(
            project_dir=str(DBT_PROJECT),
            profiles_dir=str(DBT_PROJECT),
            dbt_executable=str(DBT_EXECUTABLE),
            target_path=settings.dbt_target / "target",
        ),
    }
