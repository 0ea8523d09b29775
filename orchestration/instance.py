"""The Dagster instance, opened so that its SQLite files don't wait for the disk at every event.

Reads and writes: the Dagster instance.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import ConnectionPoolEntry


@contextmanager
def open_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance of a Dagster folder for a command.

    Dagster opens and closes a SQLite connection for each of a night's thousands of events, and the
    last to close a write-ahead log copies it into the database and waits for the disk, ten times
    an event. Here one connection to each file stays open meanwhile, and commits don't wait: a
    killed process loses nothing, a machine that loses its power at most the newest events, never
    the file. Tables are in the lake, which is written as before.

    Parameters
    ----------
    home
        With dagster.yaml.

    Yields
    ------
    DagsterInstance
        Its files are as usual afterwards.
    """
    kept: dict[Path, sqlite3.Connection] = {}

    def relax(connection: object, _: ConnectionPoolEntry) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        file = Path(connection.execute("PRAGMA database_list").fetchone()[2] or "/")
        if home.resolve() not in file.resolve().parents:
            return
        connection.execute("PRAGMA synchronous = NORMAL")
        if file not in kept:
            kept[file] = sqlite3.connect(file, check_same_thread=False)
        # Reading is what joins the write-ahead log, once the file has one.
        kept[file].execute("SELECT count(*) FROM sqlite_master").fetchall()

    event.listen(Engine, "connect", relax)
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance
    finally:
        event.remove(Engine, "connect", relax)
        for connection in kept.values():
            connection.close()
