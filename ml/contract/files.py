"""Landing files as frames: Parquet, CSV and NDJSON, gzipped or not."""

from pathlib import Path

import polars as pl

from ml.core.errors import ContractError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")


def is_landing_file(path: Path) -> bool:
    """Return whether the file's name says that it is data; hidden and temporary files aren't."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith((".", "_"))


def read_landing_file(path: Path) -> pl.DataFrame:
    """Read a delivered file as it is: CSV columns as text, the others with their own types.

    Parameters
    ----------
    path
        A file with one of ``SUFFIXES``.

    Returns
    -------
    pl.DataFrame
        Its rows in order.

    Raises
    ------
    ContractError
        If the file cannot be read; the message names the file and the remedy.
    """
    try:
        if path.name.endswith(".parquet"):
            return pl.read_parquet(path, hive_partitioning=False)
        if path.name.endswith((".csv", ".csv.gz")):
            return pl.read_csv(path, infer_schema=False)
        return pl.read_ndjson(path, infer_schema_length=None)
    except pl.exceptions.NoDataError:
        raise ContractError(f"{path.name}: the file is empty; deliver it again") from None
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ContractError(
            f"{path.name}: the file cannot be read ({reason}); deliver it again, complete"
        ) from error
