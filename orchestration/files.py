"""Files that are the old ones or the new ones, never half.

Writes: what it is told to.
"""

import errno
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def write_text(text: str, path: Path) -> None:
    """Write a text file atomically; its folder is made."""
    with replace_file(path) as temporary:
        temporary.write_text(text)


_WRITER = re.compile(r"-(?P<pid>\d+)-[0-9a-f]{8}\.tmp$")
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free space and run it again",
    errno.EDQUOT: "the disk quota is used up; free space and run it again",
    errno.EFBIG: "a file grew beyond the limit for this process; raise it and run it again",
    errno.EROFS: "the folder is on a read-only file system; choose another HOME_DIR",
    errno.EACCES: "this user may not write or read there; choose another HOME_DIR or grant it",
    errno.EPERM: "this user may not write or read there; choose another HOME_DIR or grant it",
}


def describe_system_error(error: OSError) -> str:
    """Return what the operating system refused, where, and what mends it."""
    remedy = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
    return f"{error.filename}: {remedy}" if error.filename else remedy


def sweep_temporary(folder: Path) -> int:
    """Remove the temporary files that killed processes of this machine left; return how many."""
    n_removed = 0
    for path in folder.rglob(".*.tmp"):
        found = _WRITER.search(path.name)
        if found is None or not path.name[: found.start()].endswith(f".{socket.gethostname()}"):
            continue
        if not Path(f"/proc/{found['pid']}").exists():
            path.unlink(missing_ok=True)
            n_removed += 1
    return n_removed


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to; synced and renamed at the end, removed on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
