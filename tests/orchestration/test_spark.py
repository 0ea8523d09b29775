"""The same dbt models on Spark and on DuckDB: the same marts."""

from importlib.util import find_spec

import polars as pl
import pytest

from benchmarks.performance.spark_parity import build, compare, find_java_home, read_marts


def _has_spark():
    return find_spec("pyspark") is not None and find_spec("dbt.adapters.spark") is not None


@pytest.mark.slow
@pytest.mark.skipif(not _has_spark(), reason="no Spark: install the extra spark")
def test_both_engines_build_the_same_marts(lived_home, tmp_path):
    for engine in ("embedded", "spark"):
        build(engine, lived_home, tmp_path / engine)
    ours, theirs = (read_marts(engine, tmp_path / engine) for engine in ("embedded", "spark"))
    found = compare(ours, theirs)
    assert found["rows"].min() > 0
    assert found["rows_differing"].sum() == 0, found
    assert found["max_abs_diff"].max() <= 1e-9
    # And what the nights wrote, night by night, is what a build at once gives.
    written = pl.read_parquet(lived_home / "lake" / "realised_outcomes" / "*" / "*.parquet")
    assert written.height == ours["realised_outcomes"].height


def test_a_comparison_counts_rows_that_differ_and_what_is_absent():
    rows = pl.DataFrame({"key": [1, 2, 3], "number": [1.0, None, 3.0], "text": ["a", "b", None]})
    other = rows.with_columns(
        pl.Series("number", [1.0 + 1e-12, 2.0, 3.5]), pl.Series("text", ["a", "b", None])
    )
    found = compare({"mart": rows, "short": rows}, {"mart": other, "short": rows.head(2)})
    assert found["rows_differing"].to_list() == [2, 1]
    assert found["max_abs_diff"].to_list() == [0.5, float("inf")]


def test_java_is_the_environments_if_it_names_one(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", "/somewhere")
    assert str(find_java_home(tmp_path)) == "/somewhere"
