"""Deliveries made at random: none crashes the screening, none of their rows vanishes."""

import gzip
import json
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from good_rows import AT, GOOD
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.contract.screening import NOTHING_KNOWN, screen_table
from ml.contract.tables import CONTRACT

NIGHT = date(2026, 1, 6)
STRANGE = [
    None, True, 0, -1, 10**30, 0.5, 1e308, "", " ", "NaN", "inf", "-0", "1e5", "soon", AT,
    "2026-01-05", "2026-01-05T01:30:00", "9999-12-31T23:59:59Z", "0000-00-00", "c1", "d1", "mail",
    "none", "[]", "[0.5, 0.5]", '["none"]', '{"a": {"b": []}}', "[[1]]", [], [None], ["mail"],
    [0.6, 0.4], [[1]], {}, {"a": 1}, {"a": {"b": [1]}}, "Brötchen", "\x00", "a\tb", 'x"y', "a,b",
    "line\nend", "\u2028", "'; drop table",
]  # fmt: skip
FORMATS = ("ndjson", "ndjson.gz", "csv", "csv.gz", "parquet")
FAULTS = ("none", "none", "none", "cut", "flip", "garbage", "field", "no column", "new column")

known = pl.DataFrame({"customer_id": ["c1"]}).with_columns(
    pl.lit(datetime(2025, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")).alias("signed_up_at")
)
KNOWN = NOTHING_KNOWN.extend("customers", known).extend(
    "actions", pl.DataFrame({"action_id": ["none", "mail"]})
)


def _make_rows(table, n_rows, share, random):
    """Rows of the contract, some values replaced by strange ones."""
    rows = []
    for number in range(n_rows):
        row = dict(GOOD[table])
        for key in ("decision_id", "action_id"):
            if key in row and random.random() < 0.9 and table in ("assignments", "actions"):
                row[key] = f"{row[key]}-{number}" if key == "decision_id" else row[key]
        for name in row:
            if random.random() < share:
                row[name] = STRANGE[random.integers(len(STRANGE))]
        rows.append(row)
    return rows


def _make_column(name, values, random):
    """One column as some system would write it: text, or a type of its own."""
    texts = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    kind = random.integers(8)
    n = len(values)
    makers = {
        0: lambda: pl.Series(name, random.normal(size=n)),
        1: lambda: pl.Series(name, random.integers(-5, 5, size=n)),
        2: lambda: pl.Series(name, [datetime(2026, 1, 5)] * n, dtype=pl.Datetime("ns")),
        3: lambda: pl.Series(name, [datetime(2026, 1, 5, tzinfo=UTC)] * n),
        4: lambda: pl.Series(name, [{"a": 1}] * n, dtype=pl.Struct({"a": pl.Int64})),
        5: lambda: pl.Series(name, [[0.5]] * n, dtype=pl.List(pl.Float64)),
        6: lambda: pl.Series(name, [b"\xff"] * n, dtype=pl.Binary),
        7: lambda: pl.Series(name, texts, dtype=pl.String).cast(pl.Categorical),
    }
    is_own_type = random.random() < 0.15
    return makers[int(kind)]() if is_own_type else pl.Series(name, texts, dtype=pl.String)


def _write(path, rows, random):
    """Write the rows in the format that the name says; return their bytes."""
    if path.name.endswith("parquet"):
        pl.DataFrame(
            [_make_column(name, [row.get(name) for row in rows], random) for name in rows[0]]
        ).write_parquet(path)
        return path.read_bytes()
    if "csv" in path.name:
        texts = [{key: _as_text(value) for key, value in row.items()} for row in rows]
        data = pl.DataFrame(texts, schema=dict.fromkeys(rows[0], pl.String)).write_csv().encode()
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return gzip.compress(data) if path.name.endswith(".gz") else data


def _as_text(value):
    return value if isinstance(value, str | None) else json.dumps(value)


def _spoil(data, fault, random):
    """Break a file's bytes."""
    if fault == "cut":
        return data[: random.integers(len(data) + 1)]
    if fault == "flip":
        spoilt = bytearray(data)
        for position in random.integers(len(spoilt), size=random.integers(1, 20)):
            spoilt[position] = random.integers(256)
        return bytes(spoilt)
    if fault == "garbage":
        return random.bytes(random.integers(200)) + data
    return data


def _screen_fuzzed(folder, table, suffix, n_rows, share, fault, seed):
    """Make one delivery, screen it, check that it adds up; return its rows."""
    random = np.random.default_rng(seed)
    rows = _make_rows(table, n_rows, share, random)
    if fault == "no column":
        gone = str(random.choice(list(rows[0])))
        rows = [{key: value for key, value in row.items() if key != gone} for row in rows]
    if fault == "new column":
        rows = [{**row, "colour": "red"} for row in rows]
    if fault == "field":
        rows = [*rows, {**rows[0], "item": "a"}] if "json" in suffix else rows
    path = folder / f"f.{suffix}"
    path.write_bytes(_spoil(_write(path, rows, random), fault, random))
    screened = screen_table(table, [path], known=KNOWN, night=NIGHT)
    accepted, refused = screened.accepted, screened.quarantined
    assert screened.n_delivered == accepted.height + refused.height
    assert CONTRACT[table].is_valid(accepted)
    assert refused["reasons"].list.len().min() != 0
    is_whole = refused["row_number"].null_count() > 0
    if is_whole:
        assert screened.n_delivered == 1
    else:
        numbers = pl.concat([accepted["row_number"], refused["row_number"]]).sort()
        assert numbers.to_list() == list(range(1, screened.n_delivered + 1))
    if fault not in ("cut", "flip", "garbage"):
        assert not is_whole
        assert screened.n_delivered == len(rows)
    return screened.n_delivered


ONE_DELIVERY = {
    "table": st.sampled_from(sorted(GOOD)),
    "suffix": st.sampled_from(FORMATS),
    "share": st.sampled_from([0.0, 0.02, 0.2, 0.6]),
    "fault": st.sampled_from(FAULTS),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(n_rows=st.integers(1, 8), **ONE_DELIVERY)
def test_fuzzed_deliveries_neither_crash_nor_vanish(tmp_path, n_rows, **delivery):
    _screen_fuzzed(tmp_path, n_rows=n_rows, **delivery)


@pytest.mark.slow
def test_a_hundred_thousand_fuzzed_rows_neither_crash_nor_vanish(tmp_path):
    n_screened = 0

    @settings(max_examples=2_000, deadline=None, derandomize=True)
    @given(n_rows=st.integers(40, 160), **ONE_DELIVERY)
    def fuzz(n_rows, **delivery):
        nonlocal n_screened
        n_screened += _screen_fuzzed(tmp_path, n_rows=n_rows, **delivery)

    fuzz()
    assert n_screened >= 100_000
