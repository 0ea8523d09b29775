"""Screening a night's delivery: every row is accepted or quarantined with its reasons."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import dataframely as dy
import numpy as np
import polars as pl
import polars.selectors as cs

from ml.contract.casting import cast_column, describe_type
from ml.contract.files import LandedRows, read_landing_file
from ml.contract.tables import CLOCKS, CONTRACT, Delivered, describe_rule
from ml.core.errors import ContractError
from ml.core.hashing import hash_text
from ml.core.schemas import Quarantine

_LINEAGE = ("source_file", "row_number")


@dataclass(frozen=True)
class Known:
    """What earlier nights established.

    Attributes
    ----------
    customers
        Columns customer_id, signed_up_at; one row per customer.
    action_ids
        Column action_id.
    decision_ids
        Column decision_id of every accepted decision.
    event_files
        Files of events that rows were accepted from: fingerprint, source_file, delivered_date.
    """

    customers: pl.DataFrame
    action_ids: pl.DataFrame
    decision_ids: pl.DataFrame
    event_files: pl.DataFrame

    def extend(self, table: str, accepted: pl.DataFrame) -> "Known":
        """Return what is known once ``accepted`` rows of ``table`` are in."""
        if table == "customers":
            new = accepted.select("customer_id", "signed_up_at")
            customers = pl.concat([self.customers, new]).unique("customer_id", keep="last")
            return replace(self, customers=customers)
        if table == "actions":
            actions = pl.concat([self.action_ids, accepted.select("action_id")]).unique()
            return replace(self, action_ids=actions)
        if table == "assignments":
            decisions = pl.concat([self.decision_ids, accepted.select("decision_id")]).unique()
            return replace(self, decision_ids=decisions)
        return self

    def remember_files(self, files: pl.DataFrame) -> "Known":
        """Return what is known once a night's DeliveredFiles rows are in."""
        taken = files.filter((pl.col("table") == "events") & (pl.col("accepted") > 0)).select(
            self.event_files.columns
        )
        return replace(self, event_files=pl.concat([self.event_files, taken]))


NOTHING_KNOWN = Known(
    customers=pl.DataFrame(
        schema={"customer_id": pl.String, "signed_up_at": pl.Datetime("us", "UTC")}
    ),
    action_ids=pl.DataFrame(schema={"action_id": pl.String}),
    decision_ids=pl.DataFrame(schema={"decision_id": pl.String}),
    event_files=pl.DataFrame(
        schema={"fingerprint": pl.String, "source_file": pl.String, "delivered_date": pl.Date}
    ),
)


@dataclass(frozen=True)
class ScreenedTable:
    """One table's delivery, split.

    ``accepted`` has the contract's columns; ``quarantined`` is Quarantine rows; ``files`` has a
    row per file: source_file, delivered, accepted, fingerprint (of its rows in any order and
    format; empty for an unreadable or empty one). An unreadable file counts as one row.
    """

    accepted: pl.DataFrame
    quarantined: pl.DataFrame
    files: pl.DataFrame

    @property
    def n_delivered(self) -> int:
        """Rows delivered."""
        return int(self.files["delivered"].sum())


def screen_table(
    table: str,
    files: Sequence[Path],
    *,
    known: Known,
    night: date,
    contract: Mapping[str, type[Delivered]] = CONTRACT,
) -> ScreenedTable:
    """Split one table's delivered rows into accepted and quarantined.

    A file that can't be read, lacks or adds a column, or repeats another one is quarantined
    whole; a row, by its values: type, range, key, what it refers to, and clocks that lie after
    the night. The two counts always add up.

    Parameters
    ----------
    table
        A name of ``CONTRACT``.
    files
        The table's landing files of one night.
    known
        What earlier nights (and earlier tables of this one) established.
    night
        The night of the delivery.
    contract
        The tables' schemas, where they aren't the usual.

    Returns
    -------
    ScreenedTable
        With ``accepted.height + quarantined.height == n_delivered``.

    Raises
    ------
    LandingError
        If a file is gone or may not be read.
    """
    schema = contract[table]
    types = {
        name: column.dtype for name, column in schema.columns().items() if name not in _LINEAGE
    }
    optional = {name for name, column in schema.columns().items() if column.nullable}
    good_files: list[pl.DataFrame] = []
    landed: dict[str, LandedRows] = {}
    quarantined: list[pl.DataFrame] = [Quarantine.create_empty()]
    described: list[dict[str, object]] = []
    repeated = _RepeatedFiles(table, known)
    for path in sorted(files):
        try:
            read = read_landing_file(path)
        except ContractError as error:
            quarantined.append(_quarantine_file(table, path, [str(error)]))
            described.append({"source_file": path.name, "delivered": 1, "fingerprint": ""})
            continue
        landed[path.name] = read
        described.append({"source_file": path.name, "delivered": read.n_rows, "fingerprint": ""})
        quarantined.append(_quarantine_unparsed(table, path.name, read.refused))
        problems = _compare_columns(read.rows.columns, types, optional)
        if problems:
            quarantined.append(_quarantine_all(table, path.name, problems, landed))
            continue
        cast, reasons = _cast_file(read, types, path.name)
        fingerprint = _take_fingerprint(cast.select(list(types)))
        described[-1]["fingerprint"] = fingerprint
        repetition = repeated.find(path.name, fingerprint)
        if repetition:
            quarantined.append(_quarantine_all(table, path.name, [repetition], landed))
            continue
        is_bad = reasons["reasons"].list.len() > 0
        failed = cast.select(*_LINEAGE).hstack(reasons).filter(is_bad)
        quarantined.append(_quarantine_rows(table, failed, landed))
        good_files.append(cast.filter(~is_bad))
    rows = pl.concat([schema.create_empty(), *good_files], how="vertical")
    rows, copies = _split_off_copies(rows, schema.primary_key())
    quarantined.append(_quarantine_rows(table, copies, landed))
    valid, failure = schema.filter(rows)
    quarantined.append(_quarantine_rows(table, _read_failures(failure), landed))
    accepted, orphans = _check_references(table, valid, known, night)
    quarantined.append(_quarantine_rows(table, orphans, landed))
    return ScreenedTable(
        accepted=accepted.sort("source_file", "row_number"),
        quarantined=pl.concat(quarantined).sort("source_file", "row_number"),
        files=_count_accepted(described, accepted),
    )


class _RepeatedFiles:
    """Finds files whose rows were delivered before: tonight, or (events) on an earlier night.

    Events have no key, so a file delivered twice would count every purchase twice. The other
    tables' keys protect them between nights, and a snapshot may well stay the same.
    """

    def __init__(self, table: str, known: Known) -> None:
        self._tonight: dict[str, str] = {}
        self._earlier = known.event_files if table == "events" else known.event_files.clear()

    def find(self, file_name: str, fingerprint: str) -> str | None:
        """Return the reason to refuse a file, None if there is none."""
        if not fingerprint:
            return None
        first = self._tonight.setdefault(fingerprint, file_name)
        if first != file_name:
            return f"the file holds the same rows as {first}; deliver them once"
        same = self._earlier.filter(pl.col("fingerprint") == fingerprint)
        if same.is_empty():
            return None
        row = same.row(0, named=True)
        return (
            f"the same rows were delivered on {row['delivered_date']} as {row['source_file']}; "
            "deliver them once"
        )


def _take_fingerprint(rows: pl.DataFrame) -> str:
    """Return a fingerprint of rows in any order; empty without rows."""
    if rows.is_empty():
        return ""
    texts = rows.to_struct("row").struct.json_encode()
    sums = [int(hash_text(texts, salt=salt).sum(dtype=np.uint64)) for salt in ("file", "twin")]
    return f"{rows.height}-{sums[0]:016x}{sums[1]:016x}"


def _count_accepted(described: list[dict[str, object]], accepted: pl.DataFrame) -> pl.DataFrame:
    """Return one row per file, with its accepted rows counted."""
    files = pl.DataFrame(
        described,
        schema={"source_file": pl.String, "delivered": pl.Int64, "fingerprint": pl.String},
    )
    counts = accepted.group_by("source_file").agg(pl.len().cast(pl.Int64).alias("accepted"))
    return files.join(counts, on="source_file", how="left", maintain_order="left").with_columns(
        pl.col("accepted").fill_null(0)
    )


def _compare_columns(
    found: Sequence[str], types: Mapping[str, pl.DataType], optional: set[str]
) -> list[str]:
    """Name the columns that are missing or that nobody declared."""
    missing = [name for name in types if name not in found and name not in optional]
    extra = [name for name in found if name not in types]
    return [f"{name}: the column is missing; add it" for name in missing] + [
        f"{name}: the column is not in the contract; remove or rename it" for name in extra
    ]


def _cast_file(
    read: LandedRows, types: Mapping[str, pl.DataType], file_name: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return every row in its types, null where a value doesn't fit, and its reasons."""
    raw = read.rows
    columns: list[pl.Series] = []
    reasons: list[pl.Series] = []
    for name, dtype in types.items():
        if name not in raw.columns:
            columns.append(pl.Series(name, [None] * raw.height, dtype=dtype))
            continue
        given = raw[name]
        column = cast_column(given, dtype).alias(name)
        columns.append(column)
        is_lost = given.is_not_null() & column.is_null()
        if is_lost.any():
            why = f"{name}: the value is not {describe_type(dtype)}; correct it"
            reasons.append(
                pl.select(pl.when(is_lost).then(pl.lit(why)).alias(f"{len(reasons)}")).to_series()
            )
    lineage = read.row_number.to_frame().select(
        pl.lit(file_name).alias("source_file"), "row_number"
    )
    cast = lineage.hstack(columns)
    if not reasons:
        return cast, lineage.with_columns(reasons=pl.lit([], dtype=pl.List(pl.String))).select(
            "reasons"
        )
    listed = pl.DataFrame(reasons).select(
        pl.concat_list(pl.all()).list.drop_nulls().alias("reasons")
    )
    return cast, listed


def _split_off_copies(rows: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off second copies of whole rows: of an opt-out said twice, one must count.

    Rows with the same key that differ otherwise stay, and break the key's rule.
    """
    reason = "the row stands in this delivery twice, it counts once; deliver it once"
    reasons = pl.lit([reason], dtype=pl.List(pl.String)).alias("reasons")
    is_shared = rows.select(key).is_duplicated() if key else pl.Series([], dtype=pl.Boolean)
    if not is_shared.any():
        return rows, rows.head(0).select(*_LINEAGE, reasons)
    shared = rows.filter(is_shared)
    texts = shared.drop(_LINEAGE).to_struct("row").struct.json_encode()
    copies = shared.filter(~texts.is_first_distinct()).select(*_LINEAGE, reasons)
    return rows.join(copies, on=_LINEAGE, how="anti", maintain_order="left"), copies


def _read_failures(failure: dy.FailureInfo) -> pl.DataFrame:
    """Return lineage and reasons of the rows that dataframely refused."""
    details: pl.DataFrame = failure.details()
    rules = list(failure.counts())
    broken = [
        pl.when(pl.col(rule).cast(pl.String) == "invalid").then(pl.lit(describe_rule(rule)))
        for rule in rules
    ]
    reasons = pl.concat_list(broken).list.drop_nulls() if broken else pl.lit([])
    return details.select(*_LINEAGE, reasons.cast(pl.List(pl.String)).alias("reasons"))


def _check_references(
    table: str, rows: pl.DataFrame, known: Known, night: date
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off the rows that refer to what nobody delivered, or to what hadn't happened yet."""
    checks: list[tuple[pl.Expr, str]] = [
        (
            pl.col(clock).cast(pl.Date) > night,
            f"{clock}: lies after the night of the delivery; check the clock, or deliver the row "
            "for the night at which it was known",
        )
        for clock in CLOCKS.get(table, ())
    ]
    enriched = rows
    if "customer_id" in rows.columns and table != "customers":
        enriched = enriched.join(
            known.customers.rename({"signed_up_at": "_signed_up_at"}),
            on="customer_id",
            how="left",
            maintain_order="left",
        )
        checks.append(
            (
                pl.col("_signed_up_at").is_null(),
                "customer_id: unknown customer; deliver it in customers first",
            )
        )
    if table == "assignments":
        actions = known.action_ids["action_id"].to_list()
        is_known_action = pl.element().is_in(actions)
        checks += [
            (
                ~pl.col("action_id").is_in(actions)
                | ~pl.col("eligible_actions").list.eval(is_known_action).list.all(),
                "action_id: unknown action; deliver it in actions first",
            ),
            (
                pl.col("decided_at") < pl.col("_signed_up_at"),
                "decided_at: the decision lies before the customer signed up; check both",
            ),
            (
                pl.col("decision_id").is_in(known.decision_ids["decision_id"].implode()),
                "decision_id: already delivered on an earlier night; every decision has one id",
            ),
        ]
    if table == "deliveries":
        checks += [
            (
                ~pl.col("decision_id").is_in(known.decision_ids["decision_id"].implode()),
                "decision_id: no such decision; deliver it in assignments first",
            ),
            (
                ~pl.col("realised_action_id").is_in(known.action_ids["action_id"].implode()),
                "realised_action_id: unknown action; deliver it in actions first",
            ),
        ]
    reasons = [pl.when(is_broken).then(pl.lit(why)) for is_broken, why in checks]
    listed = pl.concat_list(reasons).list.drop_nulls() if reasons else pl.lit([])
    marked = enriched.with_columns(listed.cast(pl.List(pl.String)).alias("reasons"))
    is_good = pl.col("reasons").list.len() == 0
    return (
        marked.filter(is_good).select(rows.columns),
        marked.filter(~is_good).select(*_LINEAGE, "reasons"),
    )


def _quarantine_file(table: str, path: Path, reasons: list[str]) -> pl.DataFrame:
    """Return the one quarantine row that stands for an unreadable file."""
    return pl.DataFrame(
        [
            {
                "table": table,
                "source_file": path.name,
                "row_number": None,
                "row": None,
                "reasons": reasons,
            }
        ],
        schema=Quarantine.create_empty().schema,
    )


def _quarantine_unparsed(table: str, file_name: str, refused: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have no columns to speak of, as they stand in the file."""
    return refused.select(
        pl.lit(table).alias("table"),
        pl.lit(file_name).alias("source_file"),
        "row_number",
        "row",
        pl.concat_list("reason").alias("reasons"),
    )


def _quarantine_all(
    table: str, file_name: str, reasons: list[str], landed: Mapping[str, LandedRows]
) -> pl.DataFrame:
    """Return every readable row of a file, for the same reasons."""
    every = (
        landed[file_name]
        .row_number.to_frame()
        .with_columns(
            pl.lit(file_name).alias("source_file"),
            pl.lit(reasons, dtype=pl.List(pl.String)).alias("reasons"),
        )
    )
    return _quarantine_rows(table, every, landed)


def _quarantine_rows(
    table: str, refused: pl.DataFrame, landed: Mapping[str, LandedRows]
) -> pl.DataFrame:
    """Join refused rows with what was delivered, as JSON."""
    parts: list[pl.DataFrame] = [Quarantine.create_empty()]
    for (file_name,), part in refused.group_by("source_file", maintain_order=True):
        read = landed[str(file_name)]
        delivered = read.rows[read.row_number.search_sorted(part["row_number"])]
        parts.append(
            part.select(
                pl.lit(table).alias("table"),
                "source_file",
                pl.col("row_number").cast(pl.Int64),
                _write_json(delivered).alias("row"),
                "reasons",
            )
        )
    return pl.concat(parts)


def _write_json(rows: pl.DataFrame) -> pl.Series:
    """Return each row as JSON; what the fast writer can't write, as numbers or text."""
    try:
        return rows.to_struct("row").struct.json_encode()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        plain = rows.with_columns(cs.temporal().to_physical())
        texts = [json.dumps(row, default=str) for row in plain.iter_rows(named=True)]
        return pl.Series("row", texts, dtype=pl.String)
