"""Identify: dbt's models in the warehouse, and their marts in the lake.

Reads: lake raw_*. Writes: warehouse.duckdb, lake customer_features, customer_days,
customer_tokens, logged_decisions, realised_outcomes, action_catalogue, media_daily, sales_daily,
built_nights.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    dbt_assets,
)

from ml.core.media_schemas import MediaDaily, SalesDaily
from ml.core.programme import Programme
from ml.core.schemas import (
    ActionCatalogue,
    CustomerDays,
    CustomerFeatures,
    CustomerTokens,
    LoggedDecisionRows,
    NightDone,
    RealisedOutcomes,
)
from orchestration.assets.embedding import explain
from orchestration.catch_up import forget_builds
from orchestration.dbt_manifest import find_manifest
from orchestration.lake import Lake, Receipt, describe
from orchestration.partitions import NIGHTS
from orchestration.resources import IO_RETRIES, ProgrammeFile, Warehouse

MARTS = {
    "customer_features": CustomerFeatures,
    "customer_days": CustomerDays,
    "customer_tokens": CustomerTokens,
    "logged_decisions": LoggedDecisionRows,
    "realised_outcomes": RealisedOutcomes,
}
WHOLE_MARTS = {
    "action_catalogue": ActionCatalogue,
    "media_daily": MediaDaily,
    "sales_daily": SalesDaily,
}
"""Small ones, without a decision date: whole in the run's last night."""
_PER_DATE = ("customer_features", "customer_days", "customer_tokens")


class LoopTranslator(DagsterDbtTranslator):
    """Every dbt model belongs to the loop's first word."""

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetSpec:
        """Return the model's spec in group identify, under warehouse/."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        if unique_id.startswith("model."):
            spec = spec.replace_attributes(
                key=spec.key.with_prefix("warehouse"), group_name="identify"
            )
        return spec


def write_dbt_variables(
    programme: Programme, *, nights: list[date], as_of_date: date
) -> dict[str, object]:
    """Return the variables of one dbt run.

    Parameters
    ----------
    programme
        Horizons and thresholds.
    nights
        The run's partitions.
    as_of_date
        Newest ingested night; what has matured by then is matured.

    Returns
    -------
    dict
        For ``--vars``.
    """
    return {
        "start_date": str(nights[0]),
        "end_date": str(nights[-1]),
        "as_of_date": str(as_of_date),
        "first_decision_date": str(programme.first_decision_date),
        "margin": programme.margin,
        "surface": programme.surface,
        "learning_horizon_days": programme.learning_horizon_days,
        "accounting_horizon_days": programme.accounting_horizon_days,
        "settlement_days": programme.settlement_days,
        "activation_days": programme.activation_days,
        "inactivity_days": programme.inactivity_days,
    }


@dbt_assets(
    manifest=find_manifest(),
    exclude="resource_type:unit_test",
    partitions_def=NIGHTS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    dagster_dbt_translator=LoopTranslator(
        settings=DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True)
    ),
    pool="duckdb",
)
def warehouse_models(
    context: dg.AssetExecutionContext,
    dbt: DbtCliResource,
    lake: Lake,
    programme: ProgrammeFile,
    warehouse: Warehouse,
) -> Iterator[Any]:
    """Build the models for the run's nights, one dbt process for all of them."""
    nights = [date.fromisoformat(key) for key in context.partition_keys]
    variables = write_dbt_variables(
        programme.read(), nights=nights, as_of_date=lake.dates("raw_events")[-1]
    )
    with warehouse.lock(context.log.info) as path:
        if not path.exists():
            forget_builds(lake)
        # Column lineage is left out: dagster-dbt opens the file in this process to find it, and
        # nothing else could from then on.
        yield from dbt.cli(["build", "--vars", json.dumps(variables)], context=context).stream()


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            table,
            deps=[dg.AssetKey(["warehouse", table])],
            description=f"{explain(schema)} As ml reads it, in the lake.",
            group_name="identify",
            kinds={"duckdb", "parquet"},
        )
        for table, schema in {**MARTS, **WHOLE_MARTS}.items()
    ],
    partitions_def=NIGHTS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool="duckdb",
    retry_policy=IO_RETRIES,
)
def marts(
    context: dg.AssetExecutionContext,
    lake: Lake,
    programme: ProgrammeFile,
    warehouse: Warehouse,
) -> Iterator[dg.MaterializeResult]:
    """Export the partitions that this run's nights touched to the lake."""
    nights = [date.fromisoformat(key) for key in context.partition_keys]
    closing = timedelta(days=programme.read().accounting_horizon_days + 8)
    with warehouse.lock(context.log.info) as path:
        for table, schema in MARTS.items():
            receipts = _export(path, table, lake, nights=nights, closing=closing)
            yield dg.MaterializeResult(
                asset_key=table,
                metadata=describe(receipts, schema),
                data_version=dg.DataVersion(receipts[-1].sha256),
            )
        whole = _export_whole(path, lake, nights[-1])
        for night in nights:
            # Last: it says that the night's marts are whole, and on which deliveries.
            done = lake.read("ingested_nights", night)
            lake.write(done, "built_nights", night, schema=NightDone)
        for table, receipt in whole.items():
            yield dg.MaterializeResult(
                asset_key=table,
                metadata=describe([receipt], WHOLE_MARTS[table]),
                data_version=dg.DataVersion(receipt.sha256),
            )


def _export(
    path: Path, table: str, lake: Lake, *, nights: list[date], closing: timedelta
) -> list[Receipt]:
    """Write every partition of a mart that the nights may have changed."""
    produced = "built_for_date" if table in _PER_DATE else "delivered_date"
    first, last = duckdb.ConstantExpression(nights[0]), duckdb.ConstantExpression(nights[-1])
    day, born = duckdb.ColumnExpression("decision_date"), duckdb.ColumnExpression(produced)
    is_touched = (born >= first) & (born <= last)
    if table not in _PER_DATE:
        earliest = duckdb.ConstantExpression(nights[0] - closing)
        is_touched = is_touched | ((day >= earliest) & (day <= last))
    schema = MARTS[table]
    with duckdb.connect(str(path), read_only=True) as connection:
        mart = connection.table(table)
        days = mart.filter(is_touched).select("decision_date").distinct().pl()["decision_date"]
        # A night without rows still leaves a partition: empty is an answer, absent is not. And a
        # touched one that lost its rows must not keep the old ones.
        touched = {*nights, *days}
        if table not in _PER_DATE:
            held = lake.dates(table)
            touched |= {each for each in held if nights[0] - closing <= each <= nights[-1]}
        # A day at a time, so that memory holds one. In order: after a kill, what is there is
        # complete up to the first night that is missing.
        receipts = []
        for each in sorted(touched):
            rows = mart.filter(day == duckdb.ConstantExpression(each)).pl()
            ordered = rows.sort(*schema.primary_key()) if rows.height else schema.create_empty()
            receipts.append(lake.write(ordered, table, each, schema=schema))
    return receipts


def _export_whole(path: Path, lake: Lake, night: date) -> dict[str, Receipt]:
    """Write the marts that have no decision date to one night."""
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = {
            name: connection.table(name).pl().sort(*schema.primary_key())
            for name, schema in WHOLE_MARTS.items()
        }
    return {
        name: lake.write(rows, name, night, schema=WHOLE_MARTS[name])
        for name, rows in tables.items()
    }
