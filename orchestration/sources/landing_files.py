"""Writing a delivery into the landing folder, as an outside system would."""

from datetime import date

import polars as pl

from orchestration.lake import write_parquet
from orchestration.resources import Landing


def deliver(landing: Landing, tables: dict[str, pl.DataFrame], day: date, *, name: str) -> None:
    """Write contract tables as Parquet files of one night, events last: they mark it ready.

    Parameters
    ----------
    landing
        The landing folder.
    tables
        Contract table to rows, without lineage.
    day
        The night that the delivery is for.
    name
        File name without suffix.
    """
    for table in sorted(tables, key=lambda each: (each == "events", each)):
        write_parquet(tables[table], landing.folder(table, day) / f"{name}.parquet")
