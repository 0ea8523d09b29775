"""The Dagster instance, opened so that its SQLite files don't wait for the disk at every event.

Reads and writes: the Dagster instance.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

_BUSY_SECONDS = 60


@contextmanager
def open_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance of a Dagster folder for a command.

    Dagster opens and closes a SQLite connection for each of a night's thousands of events, and the
    last to close a write-ahead log copies it into the database and waits for the disk, ten times
    an event; and each connection translates its statements anew. Here connections stay open
    meanwhile, and commits don't wait: a killed process loses nothing, a machine that loses its
    power at most the newest events, never the file. Tables are in the lake, which is written as
    before.

    Parameters
    ----------
    home
        With dagster.yaml; where that names another storage than SQLite, it is opened as it is.

    Yields
    ------
    DagsterInstance
        Its files are as usual afterwards.
    """
    ref = InstanceRef.from_dir(str(home))
    storage = ref.storage_data
    if storage is not None and storage.class_name == DagsterSqliteStorage.__name__:
        kept = {"module": __name__, "class": SteadyStorage.__name__}
        config = {"base_dir": storage.config_dict["base_dir"]}
        ref = InstanceRef.from_dir(
            str(home), overrides={"storage": {"custom": {**kept, "config": config}}}
        )
    with DagsterInstance.from_ref(ref) as instance:
        yield instance


class SteadyEvents(SqliteEventLogStorage):
    """Dagster's events, in the same files, through one engine for each."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._tables: dict[str, bool] = {}
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard not in self._engines:
                engine = _open_file(self.conn_string_for_shard(shard))
                self._initdb(engine)
                self._engines[shard] = engine
            with self._engines[shard].connect() as connection, connection.begin():
                yield connection

    def has_table(self, table_name: str) -> bool:
        """Return whether there is a table, asked once: a command's tables don't change."""
        if table_name not in self._tables:
            self._tables[table_name] = super().has_table(table_name)
        return self._tables[table_name]

    def dispose(self) -> None:
        """Close the files."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()


class SteadyRuns(SqliteRunStorage):
    """Dagster's runs, in the same file, through one engine."""

    _engine: Engine | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection in a transaction."""
        if self._engine is None:
            self._engine = _open_file(self._conn_string)
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        """Close the file."""
        super().dispose()
        if self._engine is not None:
            self._engine.dispose()


class SteadyStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with ``SteadyEvents`` and ``SteadyRuns``; schedules are as usual."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = SteadyEvents(f"{base_dir}/history/runs/")
        self._run_storage = SteadyRuns.from_local(f"{base_dir}/history/")

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "SteadyStorage":
        """Return it as the instance asks for it."""
        return cls.from_local(inst_data=inst_data, **config_value)


def _open_file(address: str) -> Engine:
    """Return an engine whose connections stay open and whose commits don't wait for the disk."""
    engine = create_engine(address, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _relax)
    return engine


def _relax(connection: object, _: ConnectionPoolEntry) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = NORMAL")
