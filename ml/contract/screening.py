"""Screening a night's delivery: every row is accepted or quarantined with its reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dataframely as dy
import polars as pl

from ml.contract.casting import cast_column, describe_type
from ml.contract.files import read_landing_file
from ml.contract.tables import CONTRACT, describe_rule
from ml.core.errors import ContractError
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
    """

    customers: pl.DataFrame
    action_ids: pl.DataFrame
    decision_ids: pl.DataFrame

    def extend(self, table: str, accepted: pl.DataFrame) -> "Known":
        """Return what is known once ``accepted`` rows of ``table`` are in."""
        if table == "customers":
            new = accepted.select("customer_id", "signed_up_at")
            customers = pl.concat([self.customers, new]).unique("customer_id", keep="last")
            return Known(customers, self.action_ids, self.decision_ids)
        if table == "actions":
            actions = pl.concat([self.action_ids, accepted.select("action_id")]).unique()
            return Known(self.customers, actions, self.decision_ids)
        if table == "assignments":
            decisions = pl.concat([self.decision_ids, accepted.select("decision_id")]).unique()
            return Known(self.customers, self.action_ids, decisions)
        return self


NOTHING_KNOWN = Known(
    customers=pl.DataFrame(
        schema={"customer_id": pl.String, "signed_up_at": pl.Datetime("us", "UTC")}
    ),
    action_ids=pl.DataFrame(schema={"action_id": pl.String}),
    decision_ids=pl.DataFrame(schema={"decision_id": pl.String}),
)


@dataclass(frozen=True)
class ScreenedTable:
    """One table's delivery, split.

    ``accepted`` has the contract's columns; ``quarantined`` is Quarantine rows; ``n_delivered``
    counts rows, an unreadable file as one.
    """

    accepted: pl.DataFrame
    quarantined: pl.DataFrame
    n_delivered: int


def screen_table(table: str, files: Sequence[Path], *, known: Known) -> ScreenedTable:
    """Split one table's delivered rows into accepted and quarantined.

    A file that can't be read, or lacks or adds a column, is quarantined whole; a row, by its
    values: type, range, key, and what it refers to. The two counts always add up.

    Parameters
    ----------
    table
        A name of ``CONTRACT``.
    files
        The table's landing files of one night.
    known
        What earlier nights (and earlier tables of this one) established.

    Returns
    -------
    ScreenedTable
        With ``accepted.height + quarantined.height == n_delivered``.
    """
    schema = CONTRACT[table]
    types = {
        name: column.dtype for name, column in schema.columns().items() if name not in _LINEAGE
    }
    optional = {name for name, column in schema.columns().items() if column.nullable}
    good_files: list[pl.DataFrame] = []
    raw_rows: dict[str, pl.DataFrame] = {}
    quarantined: list[pl.DataFrame] = []
    n_delivered = 0
    for path in sorted(files):
        try:
            raw = read_landing_file(path)
        except ContractError as error:
            quarantined.append(_quarantine_file(table, path, [str(error)]))
            n_delivered += 1
            continue
        n_delivered += raw.height
        raw_rows[path.name] = raw
        problems = _compare_columns(raw.columns, types, optional)
        if problems:
            every_row = pl.DataFrame({"row_number": range(1, raw.height + 1)}).with_columns(
                pl.lit(path.name).alias("source_file"),
                pl.lit(problems, dtype=pl.List(pl.String)).alias("reasons"),
            )
            quarantined.append(_quarantine_rows(table, every_row, raw_rows))
            continue
        cast, failed = _cast_file(raw, types, path.name)
        quarantined.append(_quarantine_rows(table, failed, raw_rows))
        good_files.append(cast)
    rows = pl.concat([schema.create_empty(), *good_files], how="vertical")
    valid, failure = schema.filter(rows)
    quarantined.append(_quarantine_rows(table, _read_failures(failure), raw_rows))
    accepted, orphans = _check_references(table, valid, known)
    quarantined.append(_quarantine_rows(table, orphans, raw_rows))
    return ScreenedTable(
        accepted=accepted.sort("source_file", "row_number"),
        quarantined=pl.concat(quarantined).sort("source_file", "row_number"),
        n_delivered=n_delivered,
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
    raw: pl.DataFrame, types: Mapping[str, pl.DataType], file_name: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that fit their types, and the others with their reasons."""
    lineage = pl.DataFrame({"row_number": range(1, raw.height + 1)}).select(
        pl.lit(file_name).alias("source_file"), "row_number"
    )
    columns: list[pl.Series] = []
    reasons: list[pl.Series] = []
    for name, dtype in types.items():
        given = raw[name] if name in raw.columns else pl.Series(name, [None] * raw.height)
        column = cast_column(given, dtype).alias(name) if name in raw.columns else given.cast(dtype)
        columns.append(column)
        is_lost = given.is_not_null() & column.is_null()
        if is_lost.any():
            why = f"{name}: the value is not {describe_type(dtype)}; correct it"
            reasons.append(
                pl.select(pl.when(is_lost).then(pl.lit(why)).alias(f"{len(reasons)}")).to_series()
            )
    cast = lineage.hstack(columns)
    if not reasons:
        return cast, lineage.head(0).with_columns(reasons=pl.lit([], dtype=pl.List(pl.String)))
    listed = pl.DataFrame(reasons).select(
        pl.concat_list(pl.all()).list.drop_nulls().alias("reasons")
    )
    is_bad = listed["reasons"].list.len() > 0
    return cast.filter(~is_bad), lineage.hstack(listed).filter(is_bad)


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
    table: str, rows: pl.DataFrame, known: Known
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off the rows that refer to what nobody delivered."""
    checks: list[tuple[pl.Expr, str]] = []
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


def _quarantine_rows(
    table: str, refused: pl.DataFrame, raw_rows: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """Join refused rows with what was delivered, as JSON."""
    parts: list[pl.DataFrame] = [Quarantine.create_empty()]
    for (file_name,), part in refused.group_by("source_file", maintain_order=True):
        raw = raw_rows[str(file_name)]
        delivered = raw[(part["row_number"] - 1).to_numpy()]
        parts.append(
            part.select(
                pl.lit(table).alias("table"),
                "source_file",
                pl.col("row_number").cast(pl.Int64),
                delivered.to_struct("row").struct.json_encode().alias("row"),
                "reasons",
            )
        )
    return pl.concat(parts)
