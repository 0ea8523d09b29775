"""The lake: Parquet tables by date, each partition the old one or the new one, never half.

Reads and writes: ``lake/<table>/decision_date=YYYY-MM-DD/part-0.parquet``.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import uuid4

import dagster as dg
import dataframely as dy
import polars as pl

from ml.core.errors import ContractError

_PREFIX = "decision_date="


@dataclass(frozen=True)
class Receipt:
    """What was written."""

    path: Path
    n_rows: int
    sha256: str


class Lake(dg.ConfigurableResource):
    """Schema-checked, atomic tables in a folder."""

    root: str

    def path(self, table: str, day: date) -> Path:
        """Return a partition's file."""
        return Path(self.root) / table / f"{_PREFIX}{day}" / "part-0.parquet"

    def has(self, table: str, day: date) -> bool:
        """Return whether a partition was written."""
        return self.path(table, day).exists()

    def dates(self, table: str) -> list[date]:
        """Return the dates of a table's partitions, in order."""
        found = (Path(self.root) / table).glob(f"{_PREFIX}*/part-0.parquet")
        return sorted(date.fromisoformat(path.parent.name.removeprefix(_PREFIX)) for path in found)

    def read(self, table: str, day: date) -> pl.DataFrame:
        """Read one partition.

        Raises
        ------
        ContractError
            If it was never written.
        """
        path = self.path(table, day)
        if not path.exists():
            raise ContractError(f"lake table {table} has no partition {day}: materialise it first")
        return pl.read_parquet(path, hive_partitioning=False)

    def scan(self, table: str, *, until: date | None = None) -> pl.LazyFrame:
        """Scan the partitions up to and including a date.

        Raises
        ------
        ContractError
            If there is none.
        """
        days = [day for day in self.dates(table) if until is None or day <= until]
        if not days:
            raise ContractError(f"lake table {table} has no partition until {until or 'now'}")
        return pl.scan_parquet([self.path(table, day) for day in days], hive_partitioning=False)

    def write(
        self, frame: pl.DataFrame, table: str, day: date, *, schema: type[dy.Schema]
    ) -> Receipt:
        """Validate and write one partition: temporary name, sync, rename.

        Raises
        ------
        dataframely.exc.ValidationError
            If the frame breaks the schema; the partition stays as it was.
        """
        checked = schema.validate(frame)
        return write_parquet(checked, self.path(table, day))


def write_parquet(frame: pl.DataFrame, path: Path) -> Receipt:
    """Write a Parquet file atomically and return its hash.

    Parameters
    ----------
    frame
        What to write.
    path
        Final name; its folder is made.

    Returns
    -------
    Receipt
        Rows and SHA-256 of the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        frame.write_parquet(temporary, compression="zstd", statistics=True)
        sha256 = hash_file(temporary)
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
    return Receipt(path, frame.height, sha256)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def describe(
    receipts: Sequence[Receipt], schema: type[dy.Schema]
) -> dict[str, dg.MetadataValue | dg.TableSchema | int | str]:
    """Return an asset's metadata for written partitions: rows, path, hash, columns."""
    newest = receipts[-1]
    columns = [
        dg.TableColumn(
            name, str(column.dtype), constraints=dg.TableColumnConstraints(column.nullable)
        )
        for name, column in schema.columns().items()
    ]
    return {
        "dagster/row_count": sum(receipt.n_rows for receipt in receipts),
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "path": dg.MetadataValue.path(str(newest.path)),
        "sha256": newest.sha256,
        "partitions_written": len(receipts),
    }
