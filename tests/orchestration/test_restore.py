"""What is lost is built from what is left; what came late is taken up; who asks is forgotten."""

import json
import shutil
from datetime import date, timedelta

import polars as pl
import pytest
from comparing import find_differences, hash_lake
from conftest import run_liftloop, run_night
from killing import kill, start_command

from orchestration.catch_up import BUILT, INGESTED
from orchestration.lake import Lake

SECOND, THIRD = date(2026, 3, 3), date(2026, 3, 4)
LATE = date(2026, 2, 27)


def _lake(home):
    return Lake(root=str(home / "lake"))


def test_the_warehouse_is_rebuilt_from_the_lake(home_copy):
    before = hash_lake(home_copy, until=THIRD)
    (home_copy / "warehouse.duckdb").unlink()
    # Nothing of it is read from landing.
    (home_copy / "landing").rename(home_copy / "elsewhere")
    printed = run_liftloop(home_copy, "restore")
    assert "the warehouse is gone: built anew from the lake" in printed
    assert "screened" not in printed
    assert hash_lake(home_copy, until=THIRD) == before


def test_late_rows_are_taken_up_mended_ones_too_and_lost_partitions_come_back(
    home_copy, lived_home
):
    """A file for a night that was sealed: one row good, one of a customer nobody delivered."""
    lake, at = _lake(home_copy), f"{LATE}T08:00:00Z"
    customer = lake.read("raw_customers", date(2026, 1, 5))["customer_id"][0]
    row = {"customer_id": customer, "occurred_at": at, "available_at": at, "type": "visit"}
    late = home_copy / "landing" / "events" / str(LATE) / "late.ndjson"
    rows = [row, {**row, "customer_id": "00000o01"}]
    late.write_text("".join(json.dumps(each) + "\n" for each in rows))
    n_before = lake.read("raw_events", LATE).height
    sealed = hash_lake(home_copy, until=SECOND)
    printed = run_liftloop(home_copy, "restore")
    assert f"events/{LATE}/late.ndjson was delivered after its night was ingested" in printed
    assert lake.read("raw_events", LATE).height == n_before + 1
    refused = lake.read("quarantine", LATE).row(0, named=True)
    assert (refused["source_file"], refused["row_number"]) == ("late.ndjson", 2)
    assert "deliver it in customers first" in refused["reasons"][0]
    # Mended in its place, under the same name; and a night before it is lost.
    late.write_text("".join(json.dumps({**row, "occurred_at": at}) + "\n" for _ in range(2)))
    lost = LATE - timedelta(days=1)
    for table in ("raw_events", "customer_features", "quarantine"):
        shutil.rmtree(lake.path(table, lost).parent)
    printed = run_liftloop(home_copy, "restore")
    assert f"raw_events of {lost} is gone from the lake: ingested again from {lost} on" in printed
    # A visit more may count for decisions of the week before it.
    but = ("delivered_files", "realised_outcomes")
    expected = hash_lake(home_copy, until=lost)
    assert find_differences(expected, lived_home, until=lost, but=but) == []
    assert lake.read("raw_events", LATE).height == n_before + 2
    assert lake.read("quarantine", LATE).is_empty()
    after = hash_lake(home_copy, until=SECOND)
    for name in sealed:
        if name.startswith(("assignment_table", "holdout", "night_budget")):
            assert after[name] == sealed[name]
    counts = pl.concat([lake.read("ingestion_counts", day) for day in lake.dates("raw_events")])
    assert (counts["delivered"] == counts["accepted"] + counts["quarantined"]).all()
    assert all(lake.has(table, SECOND) for table in INGESTED + BUILT)


@pytest.mark.slow
def test_a_late_delivery_taken_up_by_a_killed_run_reaches_every_later_night(home_copy):
    """A customer delivered late mends rows of several nights; the first run is killed."""
    lake, nights = _lake(home_copy), (LATE, LATE + timedelta(days=1))
    for night in nights:
        at = f"{night}T00:00:01Z"
        row = {"customer_id": "newcomer", "occurred_at": at, "available_at": at, "type": "visit"}
        (home_copy / "landing" / "events" / str(night) / "new.ndjson").write_text(json.dumps(row))
    run_liftloop(home_copy, "restore")
    assert [lake.read("quarantine", night).height for night in nights] == [1, 1]
    at = "2026-02-01T00:00:00Z"
    customer = {"customer_id": "newcomer", "valid_from": at, "signed_up_at": at}
    (home_copy / "landing" / "customers" / str(LATE) / "late.ndjson").write_text(
        json.dumps({**customer, "attributes": "{}", "available_at": at})
    )
    process = start_command(home_copy, "restore")
    for line in process.stdout:
        if "build features" in line:
            break
    kill(process, with_children=True)
    process.stdout.close()
    assert "had not ended" in run_liftloop(home_copy, "restore")
    assert [lake.read("quarantine", night).height for night in nights] == [0, 0]
    features = lake.scan("customer_features", until=SECOND).filter(customer_id="newcomer")
    assert features.collect().height > 0
    assert "built anew" not in run_liftloop(home_copy, "restore")


@pytest.mark.slow
def test_an_erased_customer_is_in_no_file_and_no_table(home_copy):
    lake = _lake(home_copy)
    run_night(home_copy, "--date", str(SECOND), "--export-csv")
    decided = lake.read("assignment_table", SECOND)
    newcomers = lake.scan("raw_customers").filter(pl.col("signed_up_at").dt.date() > LATE)
    ids = newcomers.select("customer_id").collect()["customer_id"]
    customer = decided.filter(pl.col("customer_id").is_in(ids.implode()))["customer_id"][0]
    export = home_copy / "exports" / f"assignments-{SECOND}.csv"
    assert customer in export.read_text()
    others = decided.filter(pl.col("customer_id") != customer)
    printed = run_liftloop(home_copy, "erase", "--customer", customer)
    assert "no file and no table mentions the customer any more" in printed
    assert customer not in export.read_text()
    assert lake.read("assignment_table", SECOND).equals(others)
    for table in INGESTED + BUILT:
        frame = lake.scan(table).collect()
        if "customer_id" in frame.columns:
            assert customer not in set(frame["customer_id"]), table
    refused = run_liftloop(home_copy, "erase", "--customer", customer, expect=1)
    assert "mentions the customer: check the id" in refused
    run_night(home_copy)
    assert customer not in set(lake.read("customer_features", THIRD)["customer_id"])
