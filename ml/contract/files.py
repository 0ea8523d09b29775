"""Landing files as frames: Parquet, CSV and NDJSON, gzipped or not."""

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from ml.core.errors import ContractError, LandingError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")
_REFUSED = {"row_number": pl.Int64, "row": pl.String, "reason": pl.String}


@dataclass(frozen=True)
class LandedRows:
    """A delivered file, row by row.

    ``rows`` are the readable ones as they are (CSV columns as text, the others with their own
    types), ``row_number`` (n,) counts data rows from 1 without blank lines. ``refused`` are rows
    that have no columns to speak of: row_number, row (as delivered), reason.
    """

    rows: pl.DataFrame
    row_number: pl.Series
    refused: pl.DataFrame

    @property
    def n_rows(self) -> int:
        """Rows in the file."""
        return self.rows.height + self.refused.height


def is_landing_file(path: Path) -> bool:
    """Return whether the file's name says that it is data; hidden and temporary files aren't."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith((".", "_"))


def read_landing_file(path: Path) -> LandedRows:
    """Read a delivered file.

    Parameters
    ----------
    path
        A file with one of ``SUFFIXES``.

    Returns
    -------
    LandedRows
        A CSV row with another number of fields than the header, or a line that is no JSON
        object, is refused alone.

    Raises
    ------
    ContractError
        If its content cannot be read; the message names the file and the remedy.
    LandingError
        If the file is gone or may not be read: that says nothing about its content.
    """
    try:
        if path.name.endswith(".parquet"):
            rows = pl.read_parquet(path, hive_partitioning=False)
            return _take_all(rows)
        data = path.read_bytes()
        if path.name.endswith(".gz"):
            data = gzip.decompress(data)
        text = _decode(path, data)
        if not text.strip():
            raise ContractError(f"{path.name}: the file is empty; deliver it again")
        return _read_csv(path, data, text) if ".csv" in path.suffixes else _read_ndjson(data, text)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise LandingError(
            f"{path} can't be opened ({error.strerror or error}): put it back, readable, and run "
            "the night again"
        ) from error
    # Broken Parquet can make the reader panic, which is not an Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    except (EOFError, zlib.error, OSError, csv.Error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise LandingError(f"{path} can't be read: {error.strerror}") from error
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> ContractError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return ContractError(
        f"{path.name}: the file cannot be read ({reason}); deliver it again, complete"
    )


def _decode(path: Path, data: bytes) -> str:
    """Return the text, which must be UTF-8."""
    remedy = "the file is not UTF-8 text; save it as UTF-8"
    if data.startswith(_OTHER_ENCODINGS):
        raise ContractError(f"{path.name}: {remedy} (it is UTF-16)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ContractError(
            f"{path.name}: {remedy} (line {line}, byte 0x{data[error.start]:02x})"
        ) from None


def _read_csv(path: Path, data: bytes, text: str) -> LandedRows:
    """Read CSV as text; rows whose number of fields isn't the header's are refused."""
    names = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), [])
    if text.count('"') % 2:
        lines = text.split("\n")
        first = next(number for number, line in enumerate(lines, 1) if line.count('"') % 2)
        raise ContractError(
            f"{path.name}: a quote is opened and never closed (line {first} or after); double or "
            "remove it"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ContractError(f"{path.name}: the header names {', '.join(twice)} twice; rename one")
    refused: list[tuple[int, str, str]] = []

    def refuse(row: pc.InvalidRow) -> Literal["skip"]:
        number = (row.number or 0) - 1  # The header is row 1.
        why = (
            f"the row has {row.actual_columns} fields, the header {row.expected_columns}; put "
            "every value under its column"
        )
        refused.append((number, row.text, why))
        return "skip"

    table = pc.read_csv(
        io.BytesIO(data),
        # Rows are numbered by one thread alone.
        read_options=pc.ReadOptions(use_threads=False),
        parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
        convert_options=pc.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    rows = pl.DataFrame(pl.from_arrow(table))
    listed = pl.DataFrame(refused, schema=_REFUSED, orient="row")
    numbers = _number(rows.height + listed.height)
    numbers = numbers.filter(~numbers.is_in(listed["row_number"].implode()))
    # Two stray quotes make one value of the lines between them.
    is_swallowed = rows.select(
        pl.any_horizontal(pl.all().str.contains("\n", literal=True))
        .fill_null(value=False)
        .alias("x")
    )["x"]
    if is_swallowed.any():
        why = "a value holds a line end; remove it, or the quote that was opened before it"
        swallowed = rows.filter(is_swallowed).select(
            pl.Series("row_number", numbers.filter(is_swallowed)),
            pl.struct(pl.all()).struct.json_encode().alias("row"),
            pl.lit(why).alias("reason"),
        )
        rows, numbers = rows.filter(~is_swallowed), numbers.filter(~is_swallowed)
        listed = pl.concat([listed, swallowed]).sort("row_number")
    return LandedRows(rows, numbers, listed)


def _read_ndjson(data: bytes, text: str) -> LandedRows:
    """Read one JSON object a line."""
    n_lines = sum(1 for line in text.split("\n") if line.strip())
    try:
        rows = pl.read_ndjson(data, infer_schema_length=None)
        if rows.height == n_lines:
            return _take_all(rows)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        pass
    return _read_ndjson_by_line(text)


def _read_ndjson_by_line(text: str) -> LandedRows:
    """Read what the fast reader refused: broken lines alone are refused, values become text."""
    parsed: dict[int, dict[str, object]] = {}
    refused: list[tuple[int, str, str]] = []
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and row:
            parsed[number] = row
        else:
            refused.append((number, line, "the line is not a JSON object; correct it"))
    names = list(dict.fromkeys(name for row in parsed.values() for name in row))
    rows = pl.DataFrame(
        {name: [_write_text(row.get(name)) for row in parsed.values()] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )
    return LandedRows(
        rows,
        pl.Series("row_number", list(parsed), dtype=pl.Int64),
        pl.DataFrame(refused, schema=_REFUSED, orient="row"),
    )


def _write_text(value: object) -> str | None:
    """Return a JSON value as CSV would hold it."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _take_all(rows: pl.DataFrame) -> LandedRows:
    return LandedRows(rows, _number(rows.height), pl.DataFrame(schema=_REFUSED))


def _number(n_rows: int) -> pl.Series:
    return pl.int_range(1, n_rows + 1, eager=True).alias("row_number")
