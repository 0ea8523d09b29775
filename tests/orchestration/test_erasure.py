"""Erasing from files of every format, other rows left exactly as they stood."""

import gzip
import json
from dataclasses import replace

import polars as pl
import pytest

from ml.core.errors import ContractError
from orchestration.erasure import end_erasure, erase_customer
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
    assert erased.ids == {"c-1", "d-7"}
    assert erased.n_rows == 2 + 2 + 3 + 1 + 2 + 1
    assert erased.unreadable == (day / "cut.parquet",)
    assert (day / "a.csv").read_bytes().decode() == KEPT
    assert gzip.decompress((day / "a.csv.gz").read_bytes()).decode() == KEPT
    assert (day / "a.ndjson").read_text() == '{"customer_id": "c-2"}\n'
    left = pl.read_parquet(settings.lake / "quarantine" / "**" / "*.parquet")
    assert left["row"].to_list() == ['{"customer_id":"c-10"}', None]
    assert (settings.exports / "table.csv").read_text() == "decision_id,customer_id\nd-8,c-2\n"
    end_erasure(settings, erased.ids)
    assert not (settings.home / "erasing.json").exists()


def test_an_unknown_customer_is_an_error(settings):
    with pytest.raises(ContractError, match="check the id"):
        erase_customer(settings, "c-9")


def test_an_id_that_is_a_number_takes_no_row_that_holds_that_number(tmp_path):
    # Below a folder of landing's name: what is landed is told by its place in the state folder.
    tmp_path = tmp_path / "landing" / "home"
    settings = replace(read_settings(), home=tmp_path)
    events = tmp_path / "landing" / "events" / "2026-01-05"
    actions = tmp_path / "landing" / "actions" / "2026-01-05"
    marts = tmp_path / "lake" / "raw_actions" / "decision_date=2026-01-05"
    for folder in (events, actions, marts):
        folder.mkdir(parents=True)
    (events / "a.csv").write_text("customer_id,type,amount\n5,visit,\n6,purchase,5\n")
    (events / "b.ndjson").write_text('{"customer_id": 5}\n{"customer_id": 6, "amount": 5}\n')
    pl.DataFrame({"customer_id": [5, 6], "amount": [1, 5]}).write_parquet(events / "c.parquet")
    (actions / "a.csv").write_text("action_id,face_value\nmail,5\n")
    pl.DataFrame({"action_id": ["mail"], "row_number": [5]}).write_parquet(marts / "a.parquet")
    assert erase_customer(settings, "5").n_rows == 3
    assert (events / "a.csv").read_text() == "customer_id,type,amount\n6,purchase,5\n"
    assert (events / "b.ndjson").read_text() == '{"customer_id": 6, "amount": 5}\n'
    assert pl.read_parquet(events / "c.parquet")["customer_id"].to_list() == [6]
    assert "mail,5" in (actions / "a.csv").read_text()
    assert pl.read_parquet(marts / "a.parquet").height == 1


def test_odd_spellings_and_other_columns_are_found(tmp_path):
    settings = replace(read_settings(), home=tmp_path)
    events = tmp_path / "landing" / "events" / "2026-01-05"
    events.mkdir(parents=True)
    lines = [
        json.dumps({"customer_id": 'kü"1'}),
        json.dumps({"cust_id": 'kü"1'}),
        json.dumps(['kü"1']),
        json.dumps({"customer_id": 'kü"1', "item": "a\u2028b"}, ensure_ascii=False),
        json.dumps({"customer_id": "other"}),
    ]
    (events / "a.ndjson").write_text("\n".join(lines) + "\n")
    (events / "b.csv").write_text('customer_id,item\n"kü""1",rye\nother,oat\n')
    pl.DataFrame({"cust_id": ['kü"1', "other"]}).write_parquet(events / "c.parquet")
    erased = erase_customer(settings, 'kü"1')
    assert erased.n_rows == 6
    assert (events / "a.ndjson").read_text() == lines[-1] + "\n"
    assert (events / "b.csv").read_text() == "customer_id,item\nother,oat\n"
    assert pl.read_parquet(events / "c.parquet")["cust_id"].to_list() == ["other"]


def test_decisions_that_were_never_ingested_go_too_and_what_is_left_is_said(tmp_path):
    settings = replace(read_settings(), home=tmp_path)
    landing = tmp_path / "landing"
    for table, text in {
        "assignments": "decision_id,customer_id\nd-1,c-1\nd-2,c-2\n",
        "deliveries": "decision_id,status\nd-1,delivered\nd-2,failed\n",
    }.items():
        (landing / table / "2026-01-05").mkdir(parents=True)
        (landing / table / "2026-01-05" / "a.csv").write_text(text)
    erased = erase_customer(settings, "c-1")
    assert erased.ids == {"c-1", "d-1"}
    receipts = landing / "deliveries" / "2026-01-05" / "a.csv"
    assert receipts.read_text() == "decision_id,status\nd-2,failed\n"
    # Killed before its end: it is taken up again, and still knows the decisions.
    assert erase_customer(settings, "c-1").ids == {"c-1", "d-1"}
    with pytest.raises(ContractError, match="another customer did not end"):
        erase_customer(settings, "c-2")
    receipts.write_text("decision_id,status\nd-1,delivered\n")
    with pytest.raises(ContractError, match=r"still mentioned in .*deliveries.*run it again"):
        end_erasure(settings, erased.ids)
