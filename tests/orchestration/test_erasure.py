"""Erasing from files of every format, other rows left exactly as they stood."""

import gzip
import json
from dataclasses import replace

import polars as pl
import pytest

from ml.core.errors import ContractError
from orchestration.erasure import erase_customer, find_mentions
from orchestration.settings import read_settings

HEADER = "customer_id,occurred_at,item\r\n"
LINES = [
    "c-1,2026-01-05T01:30:00Z,rye\r\n",
    'c-2,2026-01-05T01:30:00Z,"rye, dark\nloaf"\r\n',
    "c-1,broken\r\n",
    "c-10,2026-01-05T01:30:00Z,c-1 is not this customer\r\n",
]
KEPT = HEADER + LINES[1] + LINES[3]


@pytest.fixture
def settings(tmp_path):
    made = replace(read_settings(), home=tmp_path)
    day = tmp_path / "landing" / "events" / "2026-01-05"
    day.mkdir(parents=True)
    (day / "a.csv").write_bytes((HEADER + "".join(LINES)).encode())
    (day / "a.csv.gz").write_bytes(gzip.compress((HEADER + "".join(LINES)).encode()))
    rows = [{"customer_id": "c-1"}, {"customer_id": "c-2"}, {"decision_id": "d-7", "status": "x"}]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"customer_id": "c-1", broken\n'
    (day / "a.ndjson").write_text(text)
    (day / "cut.parquet").write_bytes(b"PAR1 cut")
    table = tmp_path / "lake" / "assignment_table" / "decision_date=2026-01-05"
    table.mkdir(parents=True)
    pl.DataFrame({"customer_id": ["c-1", "c-2"], "decision_id": ["d-7", "d-8"]}).write_parquet(
        table / "part-0.parquet"
    )
    refused = tmp_path / "lake" / "quarantine" / "decision_date=2026-01-05"
    refused.mkdir(parents=True)
    pl.DataFrame(
        {
            "row": ['{"customer_id":"c-1"}', "c-1,broken", '{"customer_id":"c-10"}', None],
            "reasons": [["why"]] * 4,
        }
    ).write_parquet(refused / "part-0.parquet")
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "table.csv").write_text("decision_id,customer_id\nd-7,c-1\nd-8,c-2\n")
    return made


def test_each_format_loses_the_customers_rows_and_no_others(settings):
    day = settings.landing / "events" / "2026-01-05"
    erased = erase_customer(settings, "c-1")
    assert erased.n_rows == 2 + 2 + 3 + 1 + 2 + 1
    assert erased.unreadable == (day / "cut.parquet",)
    assert (day / "a.csv").read_bytes().decode() == KEPT
    assert gzip.decompress((day / "a.csv.gz").read_bytes()).decode() == KEPT
    assert (day / "a.ndjson").read_text() == '{"customer_id": "c-2"}\n'
    left = pl.read_parquet(settings.lake / "quarantine" / "**" / "*.parquet")
    assert left["row"].to_list() == ['{"customer_id":"c-10"}', None]
    assert (settings.exports / "table.csv").read_text() == "decision_id,customer_id\nd-8,c-2\n"
    assert find_mentions(settings, "c-1") == []


def test_mentions_are_found_before_and_an_unknown_customer_is_an_error(settings):
    assert len(find_mentions(settings, "c-1")) == 6
    with pytest.raises(ContractError, match="check the id"):
        erase_customer(settings, "c-9")
