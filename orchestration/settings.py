"""Where everything lives and how this process was asked to run: the only reader of the environment.

Reads: the environment, ``programme.json``, names in the landing folder. Writes: the state folder's
skeleton and its dagster.yaml.
"""

import os
import re
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ml.core.errors import ContractError
from ml.core.programme import Programme, read_programme
from orchestration.files import write_text

REPOSITORY = Path(__file__).resolve().parent.parent
DBT_PROJECT = REPOSITORY / "dbt_project"
DBT_EXECUTABLE = Path(sys.executable).with_name("dbt")

PROMOTIONS = ("auto", "approve", "shadow")
UPDATES = ("weekly", "rule")
PROMOTION_FILE = "promotion.txt"
_DAGSTER_YAML = """\
# Written by liftloop for the embedded default: SQLite storage, one slot a pool.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: op
    default_limit: 1
"""


@dataclass(frozen=True)
class Settings:
    """One state folder and the environment's choices."""

    home: Path
    warehouse_folder: Path
    tracking_uri: str
    mlflow_interface: str
    dagster_home: Path
    has_schedules_on: bool
    is_multiprocess: bool
    baked_manifest: Path | None
    promotion: str
    has_world_model: bool
    updates: str
    night_at: str
    deadline: str
    owner: str

    @property
    def landing(self) -> Path:
        """Files as delivered: <table>/<date>/<file>."""
        return self.home / "landing"

    @property
    def lake(self) -> Path:
        """Every table that steps hand over."""
        return self.home / "lake"

    @property
    def warehouse(self) -> Path:
        """Dbt's workshop, rebuildable from the lake."""
        return self.warehouse_folder / "warehouse.duckdb"

    @property
    def dbt_target(self) -> Path:
        """Dbt's compiled files and logs."""
        return self.home / "dbt"

    @property
    def world(self) -> Path:
        """State of the simulated source."""
        return self.home / "world"

    @property
    def reports(self) -> Path:
        """A page per night."""
        return self.home / "reports"

    @property
    def checkpoints(self) -> Path:
        """Trainings that go on after a kill."""
        return self.home / "checkpoints"

    @property
    def exports(self) -> Path:
        """CSV files for a messaging provider."""
        return self.home / "exports"

    @property
    def programme_file(self) -> Path:
        """The programme."""
        return self.home / "programme.json"

    @property
    def freeze_file(self) -> Path:
        """While it exists, nights are no-offer only."""
        return self.home / "frozen.json"

    @property
    def promotion_file(self) -> Path:
        """Which of ``PROMOTIONS`` the folder's commands were last told."""
        return self.home / PROMOTION_FILE

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return "liftloop"

    def programme(self) -> Programme:
        """Read the programme."""
        return read_programme(self.programme_file)

    def first_partition(self) -> date:
        """First night: the earliest delivered or ingested, else the first decision date."""
        delivered = {path.name for path in self.landing.glob("*/*")}
        delivered |= {
            path.name.removeprefix("decision_date=")
            for path in (self.lake / "ingested_nights").glob("decision_date=*")
        }
        nights = sorted(filter(is_date, delivered))
        if nights:
            return date.fromisoformat(nights[0])
        if self.programme_file.exists():
            return self.programme().first_decision_date
        return date(2026, 1, 5)


def read_settings() -> Settings:
    """Read the environment.

    LIFTLOOP_HOME is the state folder, ``.liftloop`` in the checkout by default;
    LIFTLOOP_WAREHOUSE_FOLDER a local disk for the warehouse where that folder is on a network's;
    DAGSTER_HOME an instance other than the embedded one inside it;
    MLFLOW_TRACKING_URI a server instead of the embedded SQLite file, LIFTLOOP_MLFLOW_INTERFACE
    where browsers reach it if elsewhere; LIFTLOOP_SCHEDULES=on starts
    schedules and sensors with the daemon; LIFTLOOP_EXECUTOR=multiprocess gives every step a process
    of its own; LIFTLOOP_WORLD_MODEL=off trains no world model, so that heads use raw features and a
    night takes less time; LIFTLOOP_DUCKDB_MEMORY (4GB) is read by dbt's profile: what takes more is
    done on disk; LIFTLOOP_UPDATES=rule trains and recalibrates by drift and new evidence
    instead of every week; LIFTLOOP_DBT_MANIFEST names a manifest baked into an
    image; PROMOTION=auto promotes what the gate passes, approve waits for ``make approve``, shadow
    promotes nothing. The folder keeps it: without PROMOTION, a command or the user interface goes
    by what was said last. LIFTLOOP_NIGHT and LIFTLOOP_DEADLINE are the times of day (UTC)
    at which the schedule starts a night, and by which its table is expected; LIFTLOOP_OWNER
    who answers for the assets, an address or team:name.

    Raises
    ------
    ContractError
        If PROMOTION, LIFTLOOP_UPDATES, LIFTLOOP_NIGHT, LIFTLOOP_DEADLINE or LIFTLOOP_OWNER is
        none of these.
    """
    home = Path(os.environ.get("LIFTLOOP_HOME") or REPOSITORY / ".liftloop").resolve()
    promotion = os.environ.get("PROMOTION") or _read_promotion(home / PROMOTION_FILE)
    if promotion not in PROMOTIONS:
        raise ContractError(f"PROMOTION={promotion}: write {', '.join(PROMOTIONS)}")
    updates = os.environ.get("LIFTLOOP_UPDATES", UPDATES[0])
    if updates not in UPDATES:
        raise ContractError(f"LIFTLOOP_UPDATES={updates}: write {' or '.join(UPDATES)}")
    embedded = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or embedded
    return Settings(
        home=home,
        warehouse_folder=Path(os.environ.get("LIFTLOOP_WAREHOUSE_FOLDER") or home).resolve(),
        dagster_home=Path(os.environ.get("DAGSTER_HOME") or home / "dagster"),
        tracking_uri=tracking_uri,
        mlflow_interface=(
            os.environ.get("LIFTLOOP_MLFLOW_INTERFACE")
            or (tracking_uri if tracking_uri.startswith("http") else "http://127.0.0.1:5000")
        ).rstrip("/"),
        baked_manifest=Path(baked) if (baked := os.environ.get("LIFTLOOP_DBT_MANIFEST")) else None,
        is_multiprocess=os.environ.get("LIFTLOOP_EXECUTOR", "in_process") == "multiprocess",
        promotion=promotion,
        updates=updates,
        owner=_read_owner(),
        night_at=_read_time("LIFTLOOP_NIGHT", "01:30"),
        deadline=_read_time("LIFTLOOP_DEADLINE", "06:00"),
        has_world_model=os.environ.get("LIFTLOOP_WORLD_MODEL", "on") == "on",
        has_schedules_on=os.environ.get("LIFTLOOP_SCHEDULES", "off") == "on",
    )


def _read_owner() -> str:
    """Return who answers for the assets."""
    owner = os.environ.get("LIFTLOOP_OWNER") or "team:liftloop"
    if not re.fullmatch(r"team:[A-Za-z0-9_-]+|[\w.%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}", owner):
        raise ContractError(f"LIFTLOOP_OWNER={owner}: write an e-mail address, or team:name")
    return owner


def _read_time(name: str, default: str) -> str:
    """Return a time of day of the environment."""
    time = os.environ.get(name) or default
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", time):
        raise ContractError(f"{name}={time}: write a time of day (UTC) as {default}")
    return time


def read_channels() -> tuple[str, ...]:
    """Return who is told of alerts: LIFTLOOP_ALERTS, URLs as apprise reads them, spaces between.

    They carry passwords, so they are read where they are used and kept nowhere.
    """
    return tuple(os.environ.get("LIFTLOOP_ALERTS", "").split())


def prepare_home(settings: Settings) -> None:
    """Make the state folder's skeleton and point the tools at it.

    Safe to repeat. The environment of this process gets DAGSTER_HOME and the paths that dbt's
    profile reads, so that child processes see the same folder.
    """
    for folder in (
        settings.landing,
        settings.lake,
        settings.dbt_target,
        settings.home / "mlflow" / "artifacts",
        settings.warehouse_folder,
    ):
        folder.mkdir(parents=True, exist_ok=True)
    instance_file = settings.dagster_home / "dagster.yaml"
    # One that somebody else names is theirs.
    if settings.dagster_home == settings.home / "dagster" and not instance_file.exists():
        settings.dagster_home.mkdir(exist_ok=True)
        write_text(_DAGSTER_YAML, instance_file)
    if settings.promotion != _read_promotion(settings.promotion_file):
        write_text(settings.promotion, settings.promotion_file)
    os.environ.setdefault("DAGSTER_HOME", str(settings.dagster_home))
    os.environ["LIFTLOOP_HOME"] = str(settings.home)
    os.environ["LIFTLOOP_LAKE"] = str(settings.lake)
    os.environ["LIFTLOOP_WAREHOUSE"] = str(settings.warehouse)
    os.environ["DBT_LOG_PATH"] = str(settings.dbt_target / "logs")
    os.environ["DBT_TARGET_PATH"] = str(settings.dbt_target / "target")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # A server that is down is said to be down after seconds, not after minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def _read_promotion(file: Path) -> str:
    return file.read_text().strip() if file.exists() else PROMOTIONS[0]


def is_date(name: str) -> bool:
    """Return whether a folder's name is a date as 2026-01-05, so a night."""
    try:
        return str(date.fromisoformat(name)) == name
    except ValueError:
        return False
