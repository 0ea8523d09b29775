"""Erasing a customer from everything that a state folder keeps.

Reads and writes: landing, lake, exports, <home>/erasing.json; deletes the warehouse, which is built
anew from the lake.
"""

import csv
import gzip
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from ml.contract.casting import cast_column
from ml.contract.tables import CONTRACT
from ml.core.errors import ContractError
from orchestration.files import replace_file, write_text
from orchestration.resources import Warehouse
from orchestration.settings import Settings

_CUSTOMER, _DECISION = "customer_id", "decision_id"
_KEYS = (_CUSTOMER, _DECISION)
_UNREADABLE = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, csv.Error),
    *(EOFError, gzip.BadGzipFile, UnicodeDecodeError),
)

Ids = frozenset[str]


@dataclass(frozen=True)
class Erasure:
    """What was taken out.

    ``ids`` are the customer's and those of all decisions about them; ``n_rows`` rows and records
    in ``n_files`` files were erased; ``unreadable`` names landed files that can't be searched.
    """

    ids: Ids
    n_rows: int
    n_files: int
    unreadable: tuple[Path, ...]


def erase_customer(settings: Settings, customer_id: str) -> Erasure:
    """Take a customer's rows out of landing, lake and exports, and delete the warehouse.

    A row is the customer's if its customer_id is, or its decision_id is that of a decision about
    them. Where a record has no such columns (a broken line, a file with other columns), any value
    equal to an id makes it theirs. Each file is the old one or the new one. What is to be erased
    is kept in ``erasing.json`` until ``end_erasure``: killed, it is ended by running it again.

    Parameters
    ----------
    settings
        The state folder; the caller holds it.
    customer_id
        As delivered.

    Returns
    -------
    Erasure
        Counts. The changed nights are ingested anew by the next catching up.

    Raises
    ------
    ContractError
        If no file mentions the customer, and no erasure of them was begun.
    """
    files = list(_list_files(settings))
    begun = _read_begun(settings, customer_id)
    ids = begun | _find_ids(files, customer_id)
    if not begun and len(ids) == 1 and not _find_in_files(files, ids):
        raise ContractError(f"nothing in {settings.home} mentions the customer: check the id")
    write_text(json.dumps({_CUSTOMER: customer_id, "ids": sorted(ids)}), _marker(settings))
    for path in (settings.warehouse, Path(f"{settings.warehouse}.wal")):
        path.unlink(missing_ok=True)
    shutil.rmtree(f"{settings.warehouse}.tmp", ignore_errors=True)
    # Chains of a killed training began at customers' days.
    shutil.rmtree(settings.checkpoints, ignore_errors=True)
    n_rows, n_files, unreadable = 0, 0, []
    for path in files:
        try:
            n_erased = _erase_from(path, ids)
        except _UNREADABLE:
            unreadable.append(path)
            continue
        n_rows, n_files = n_rows + n_erased, n_files + (n_erased > 0)
    return Erasure(ids, n_rows, n_files, tuple(unreadable))


def end_erasure(settings: Settings, ids: Ids) -> None:
    """Search everything for the ids once more, then forget them too.

    Raises
    ------
    ContractError
        Naming the files and warehouse tables that still mention one; the erasure stays begun.
    """
    left = _find_in_files(list(_list_files(settings)), ids)
    if settings.warehouse.exists():
        left += _find_in_warehouse(settings, ids)
    if left:
        raise ContractError(f"still mentioned in {', '.join(left)}: run it again")
    _marker(settings).unlink(missing_ok=True)


def _marker(settings: Settings) -> Path:
    return settings.home / "erasing.json"


def _read_begun(settings: Settings, customer_id: str) -> Ids:
    """Return the ids of an erasure of the customer that was begun; empty without one."""
    file = _marker(settings)
    if not file.exists():
        return frozenset()
    kept = json.loads(file.read_text())
    if kept[_CUSTOMER] != customer_id:
        raise ContractError(
            f"the erasure of another customer did not end: run it again first; {file} names them"
        )
    return frozenset(kept["ids"])


def _list_files(settings: Settings) -> Iterator[Path]:
    """Return every file that may hold customers, hidden ones too."""
    about_others = [settings.landing / table for table in CONTRACT if not _has_keys(table)]
    for root in (settings.landing, settings.lake, settings.exports):
        yield from sorted(
            path
            for path in root.rglob("*")
            if path.is_file()
            and path.suffix != ".lock"
            and not any(path.is_relative_to(folder) for folder in about_others)
        )


def _has_keys(table: str) -> bool:
    return not set(_KEYS).isdisjoint(CONTRACT[table].columns())


def _find_ids(files: Sequence[Path], customer_id: str) -> Ids:
    """Return the customer's id and those of all decisions about them, wherever they stand."""
    ids = {customer_id}
    for path in files:
        try:
            for row in _read_keys(path):
                if row.get(_CUSTOMER) == customer_id and row.get(_DECISION):
                    ids.add(str(row[_DECISION]))
        except _UNREADABLE:
            continue
    return frozenset(ids)


def _read_keys(path: Path) -> Iterator[Mapping[str, str | None]]:
    """Return customer_id and decision_id of each record that has both."""
    if _is_parquet(path):
        rows = pl.read_parquet(path, hive_partitioning=False)
        if set(_KEYS) <= set(rows.columns):
            yield from rows.select(_as_text(rows, key) for key in _KEYS).iter_rows(named=True)
        for text in rows["row"].drop_nulls() if _is_quarantine(rows) else ():
            yield from filter(None, [_parse_keys(text)])
    elif _is_csv(path):
        header, records = _read_csv(path)
        if set(_KEYS) <= set(header):
            at = {key: header.index(key) for key in _KEYS}
            for record in records:
                if len(record) == len(header):
                    yield {key: record[at[key]] for key in _KEYS}
    else:
        for line in _read_text(path).split("\n"):
            yield from filter(None, [_parse_keys(line)])


def _parse_keys(text: str) -> dict[str, str | None] | None:
    """Return a JSON object's keys as text, None if it is none."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    return {key: None if row.get(key) is None else str(row[key]) for key in _KEYS}


def _find_in_files(files: Sequence[Path], ids: Ids) -> list[str]:
    """Return the readable files that mention an id."""
    found = []
    for path in files:
        try:
            if any(_mark(path, ids)):
                found.append(str(path))
        except _UNREADABLE:
            continue
    return found


def _find_in_warehouse(settings: Settings, ids: Ids) -> list[str]:
    """Return the warehouse tables that mention an id."""
    found = []
    with (
        Warehouse(path=str(settings.warehouse)).lock(print) as path,
        duckdb.connect(str(path), read_only=True) as connection,
    ):
        columns = connection.sql(
            "select table_name, column_name from information_schema.columns "
            "where column_name in ('customer_id', 'decision_id') order by all"
        )
        for table, column in columns.fetchall():
            wanted = duckdb.ColumnExpression(column).isin(*map(duckdb.ConstantExpression, ids))
            if connection.table(table).filter(wanted).limit(1).fetchall():
                found.append(f"warehouse table {table}")
    return found


def _erase_from(path: Path, ids: Ids) -> int:
    """Take the records with one of the ids out of a file; return how many."""
    marks = _mark(path, ids)
    n_erased = sum(marks)
    if not n_erased:
        return 0
    if _is_parquet(path):
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


def _mark(path: Path, ids: Ids) -> list[bool]:
    """Return, record by record as ``_split`` gives them, whether it is about one of the ids."""
    if _is_parquet(path):
        rows = pl.read_parquet(path, hive_partitioning=False)
        # <home>/landing/<table>/<night>/<file>, wherever the home lies.
        is_landed = path.parts[-4] == "landing" and path.parts[-3] in CONTRACT
        return _mark_parquet(rows, ids, is_landed=is_landed)
    is_own = _judge_csv(path, ids) if _is_csv(path) else lambda line: _is_in_json(line, ids)
    return [is_own(record) for record in _split(path)]


def _mark_parquet(rows: pl.DataFrame, ids: Ids, *, is_landed: bool) -> list[bool]:
    """Judge by the key columns; a landed file without them, by all of its columns."""
    wanted = list(ids)
    if _is_quarantine(rows):
        return [text is not None and _is_in_json(text, ids) for text in rows["row"]]
    judged = [key for key in _KEYS if key in rows.columns] or (rows.columns if is_landed else [])
    marks = rows.select(
        pl.any_horizontal(
            pl.lit(value=False),
            *(_as_text(rows, name).is_in(wanted) for name in judged),
        )
        .fill_null(value=False)
        .alias("is_own")
    )
    return marks["is_own"].to_list() if rows.height and rows.width else []


def _as_text(rows: pl.DataFrame, name: str) -> pl.Series:
    """Return a column as ingestion would read an id."""
    return cast_column(rows[name], pl.String()).alias(name)


def _judge_csv(path: Path, ids: Ids) -> Callable[[str], bool]:
    """Return whether a record of the file is about one of the ids; its header never is."""
    header, _ = _read_csv(path)
    keys = [position for position, name in enumerate(header) if name in _KEYS]

    def is_own(record: str) -> bool:
        fields = next(csv.reader(io.StringIO(record, newline="")), [])
        if fields == header:
            return False
        if keys and len(fields) == len(header):
            return any(fields[position] in ids for position in keys)
        return not ids.isdisjoint(fields) or _mentions(record, ids)

    return is_own


def _is_in_json(text: str, ids: Ids) -> bool:
    """Return whether a line is about one of the ids; one that is no JSON, whether it names one."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return _mentions(text, ids)
    if isinstance(row, dict) and not row.keys().isdisjoint(_KEYS):
        return any(str(row.get(key)) in ids for key in _KEYS)
    return any(value in ids for value in _list_values(row))


def _list_values(value: object) -> Iterator[str]:
    """Return every value in a JSON document as text."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _list_values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _list_values(each)
    else:
        yield str(value)


def _mentions(text: str, ids: Ids) -> bool:
    """Return whether a broken record holds one of the ids as a word of its own."""
    return any(
        each in text and re.search(rf"(?<![\w.:-]){re.escape(each)}(?![\w.:-])", text)
        for each in ids
    )


def _is_parquet(path: Path) -> bool:
    return ".parquet" in path.suffixes


def _is_csv(path: Path) -> bool:
    return ".csv" in path.suffixes


def _is_quarantine(rows: pl.DataFrame) -> bool:
    return {"row", "reasons"} <= set(rows.columns)


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if ".gz" in path.suffixes else data).decode("utf-8-sig")


def _read_csv(path: Path) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header, which is the first line that is not blank, and the records after it."""
    csv.field_size_limit(2**31 - 1)
    records = csv.reader(io.StringIO(_read_text(path), newline=""))
    return next((fields for fields in records if fields), []), records


def _split(path: Path) -> Iterator[str]:
    """Return the records of a CSV file, quoted line ends and all, or the lines of NDJSON."""
    lines = [line for line in re.split(r"(?<=\n)", _read_text(path)) if line]
    if not _is_csv(path):
        yield from lines
        return
    csv.field_size_limit(2**31 - 1)
    reader, start = csv.reader(lines), 0
    for _ in reader:
        yield "".join(lines[start : reader.line_num])
        start = reader.line_num
