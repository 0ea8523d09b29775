"""Erasing a customer from everything that a state folder keeps.

Reads and writes: landing, lake, exports; deletes the warehouse, which is built anew from the lake.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from ml.core.errors import ContractError
from orchestration.files import replace_file
from orchestration.resources import Warehouse
from orchestration.settings import Settings

_KEYS = ("customer_id", "decision_id")


@dataclass(frozen=True)
class Erasure:
    """What was taken out.

    ``n_rows`` rows and records in ``n_files`` files; ``unreadable`` names landed files that can't
    be searched.
    """

    n_rows: int
    n_files: int
    unreadable: tuple[Path, ...]


def erase_customer(settings: Settings, customer_id: str) -> Erasure:
    """Take a customer's rows out of landing, lake and exports, and delete the warehouse.

    Rows are the customer's if they carry the customer_id, or the decision_id of a decision about
    them; quarantined rows and broken lines, if they mention one. Each file is the old one or the
    new one; what is killed half-way is ended by running it again.

    Parameters
    ----------
    settings
        The state folder.
    customer_id
        As delivered.

    Returns
    -------
    Erasure
        Counts. The changed nights are ingested anew by the next catching up.

    Raises
    ------
    ContractError
        If no file mentions the customer.
    """
    files = list(_list_files(settings))
    ids = _find_ids(files, customer_id)
    n_rows, n_files, unreadable = 0, 0, []
    for path in files:
        try:
            n_erased = _erase_from(path, ids)
        except (pl.exceptions.PolarsError, OSError, EOFError, ValueError):
            unreadable.append(path)
            continue
        n_rows, n_files = n_rows + n_erased, n_files + (n_erased > 0)
    if not n_rows:
        raise ContractError(f"nothing in {settings.home} mentions the customer: check the id")
    for path in (settings.warehouse, Path(f"{settings.warehouse}.wal")):
        path.unlink(missing_ok=True)
    return Erasure(n_rows, n_files, tuple(unreadable))


def find_mentions(settings: Settings, customer_id: str) -> list[str]:
    """Return the files and warehouse tables that still mention a customer; none after erasing.

    Parameters
    ----------
    settings
        The state folder.
    customer_id
        As delivered.
    """
    files = list(_list_files(settings))
    ids = _find_ids(files, customer_id)
    found = []
    for path in files:
        try:
            has_mention = any(_mark(path, ids))
        except (pl.exceptions.PolarsError, OSError, EOFError, ValueError):
            continue
        if has_mention:
            found.append(str(path))
    if settings.warehouse.exists():
        with (
            Warehouse(path=str(settings.warehouse)).lock(print) as path,
            duckdb.connect(str(path), read_only=True) as connection,
        ):
            columns = connection.sql(
                "select table_name from information_schema.columns "
                "where column_name = 'customer_id' order by table_name"
            )
            wanted = duckdb.ColumnExpression("customer_id") == duckdb.ConstantExpression(
                customer_id
            )
            for (table,) in columns.fetchall():
                if connection.table(table).filter(wanted).limit(1).fetchall():
                    found.append(f"warehouse table {table}")
    return found


def _list_files(settings: Settings) -> Iterator[Path]:
    """Return every file that may hold customers; unfinished temporary ones are not files yet."""
    for root in (settings.landing, settings.lake, settings.exports):
        yield from sorted(
            path
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock"
        )


def _find_ids(files: list[Path], customer_id: str) -> frozenset[str]:
    """Return the customer's id and those of all decisions about them."""
    ids = {customer_id}
    for path in files:
        if not path.name.endswith(".parquet"):
            continue
        try:
            rows = pl.scan_parquet(path, hive_partitioning=False)
            if set(_KEYS) <= set(rows.collect_schema().names()):
                own = rows.filter(pl.col("customer_id") == customer_id)
                ids |= set(own.select("decision_id").drop_nulls().collect()["decision_id"])
        except pl.exceptions.PolarsError:
            continue
    return frozenset(ids)


def _erase_from(path: Path, ids: frozenset[str]) -> int:
    """Take the rows with one of the ids out of a file; return how many."""
    marks = _mark(path, ids)
    n_erased = sum(marks)
    if not n_erased:
        return 0
    if path.name.endswith(".parquet"):
        rows = pl.read_parquet(path, hive_partitioning=False).filter(~pl.Series(marks))
        with replace_file(path) as temporary:
            rows.write_parquet(temporary, compression="zstd", statistics=True)
        return n_erased
    kept = "".join(
        record for record, is_own in zip(_split(path), marks, strict=True) if not is_own
    ).encode()
    with replace_file(path) as temporary:
        temporary.write_bytes(gzip.compress(kept) if path.suffix == ".gz" else kept)
    return n_erased


def _mark(path: Path, ids: frozenset[str]) -> list[bool]:
    """Return, record by record, whether it has one of the ids."""
    if path.name.endswith(".parquet"):
        rows = pl.scan_parquet(path, hive_partitioning=False)
        names = rows.collect_schema().names()
        wanted = [pl.col(key).is_in(ids) for key in _KEYS if key in names]
        if {"row", "reasons"} <= set(names):
            wanted.append(pl.col("row").str.contains(_mention(ids)))
        if not wanted:
            return []
        marked = rows.select(pl.any_horizontal(wanted).fill_null(value=False).alias("is_own"))
        return marked.collect()["is_own"].to_list()
    text = _read_text(path)
    if not any(each in text for each in ids):
        return []
    pattern = re.compile(_mention(ids))
    return [
        _has_id(record, ids, pattern, is_csv=".csv" in path.suffixes) for record in _split(path)
    ]


def _mention(ids: frozenset[str]) -> str:
    """Return a pattern of any of the ids as a word of its own."""
    words = "|".join(re.escape(each) for each in sorted(ids, key=len, reverse=True))
    return rf"(?:^|[^\w.:-])(?:{words})(?:[^\w.:-]|$)"


def _has_id(record: str, ids: frozenset[str], pattern: re.Pattern[str], *, is_csv: bool) -> bool:
    """Return whether a line or CSV record is about one of the ids."""
    if is_csv:
        return any(not ids.isdisjoint(fields) for fields in csv.reader(io.StringIO(record)))
    try:
        row = json.loads(record)
    except ValueError:
        return pattern.search(record) is not None
    return isinstance(row, dict) and any(str(row.get(key)) in ids for key in _KEYS)


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def _split(path: Path) -> Iterator[str]:
    """Return the records of a CSV file, quoted line ends and all, or the lines of NDJSON."""
    lines = _read_text(path).splitlines(keepends=True)
    if ".csv" not in path.suffixes:
        yield from lines
        return
    reader, start = csv.reader(lines), 0
    for _ in reader:
        yield "".join(lines[start : reader.line_num])
        start = reader.line_num
