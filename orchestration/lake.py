"""The lake: Parquet tables by date, each partition the old one or the new one, never half.

Reads and writes: ``lake/<table>/decision_date=YYYY-MM-DD/part-0.parquet``.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import dataframely as dy
import polars as pl
from filelock import FileLock

from ml.core.errors import ContractError
from orchestration.files import hash_file, replace_file

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

    def scan(
        self, table: str, *, until: date | None = None, since: date | None = None
    ) -> pl.LazyFrame:
        """Scan the partitions between two dates, both included.

        Raises
        ------
        ContractError
            If there is none.
        """
        days = [
            day
            for day in self.dates(table)
            if (until is None or day <= until) and (since is None or day >= since)
        ]
        if not days:
            span = f"until {until or 'now'}" + (f" since {since}" if since else "")
            raise ContractError(f"lake table {table} has no partition {span}")
        return pl.scan_parquet([self.path(table, day) for day in days], hive_partitioning=False)

    def drop_before(self, table: str, day: date) -> None:
        """Remove the partitions before a date; that date's must be there."""
        for each in self.dates(table):
            if each < day:
                shutil.rmtree(self.path(table, each).parent, ignore_errors=True)

    @contextmanager
    def hold(self, table: str, day: date) -> Iterator[None]:
        """Hold a partition against other holders; readers are not held up."""
        locks = Path(self.root) / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{table}-{day}.lock"):
            yield

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
    with replace_file(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=True)
        sha256 = hash_file(temporary)
    return Receipt(path, frame.height, sha256)


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
