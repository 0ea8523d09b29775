"""Holding the state folder: one command at a time, and nothing unfinished left from the last.

Reads and writes: <home>/running and its lock.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from orchestration.files import sweep_temporary, write_text
from orchestration.settings import Settings


@contextmanager
def hold_home(settings: Settings, *, command: str) -> Iterator[None]:
    """Hold the state folder for one command; says so while another one has it.

    What killed writers left unfinished is removed first.

    Parameters
    ----------
    settings
        The state folder.
    command
        What others read while they wait.
    """
    note, lock = settings.home / "running", FileLock(settings.home / "running.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = note.read_text() if note.exists() else "another command"
        print(f"  waiting: {holder} is running in {settings.home}", flush=True)
        lock.acquire()
    try:
        write_text(f"{command} (process {os.getpid()})", note)
        own = (settings.exports, settings.reports, settings.world)
        for folder in (settings.landing, settings.lake, *own):
            sweep_temporary(folder)
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def find_holder(settings: Settings) -> str | None:
    """Return the command that has the state folder now, None without one."""
    lock = FileLock(settings.home / "running.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note = settings.home / "running"
        return note.read_text() if note.exists() else "a command"
    lock.release()
    return None
