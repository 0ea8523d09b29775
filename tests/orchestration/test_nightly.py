"""The loop end to end on a small world: two nights lived, then what may happen to them."""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT, clean_environment, run_liftloop, run_night, run_series, write_night

from ml.pipeline.decide import to_contract
from ml.simulate.config import WorldConfig
from orchestration.files import hash_file
from orchestration.lake import Lake

FIRST, SECOND, THIRD = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)


def _lake(home):
    return Lake(root=str(home / "lake"))


def _table_hash(home, night):
    return hash_file(_lake(home).path("assignment_table", night))


def test_the_summary_tells_a_marketing_engineer_what_happened(lived_home):
    printed = (lived_home / "first.txt").read_text()
    for expected in (
        "Identify: screen the delivery",
        "Learn: value and cost effects",
        "Validate: promotion gate",
        "Decide: tonight's offers",
        "delivered     accepted  quarantined",
        "Policy value over no-offer, EUR per decision",
        "candidate ",
        "champion ",
        "Gate: candidate v2 against champion v1",
        "smallest detectable difference",
        "Champion: v2 (promoted: proven better",
        "by the challenger",
        "Monitoring: 0 of",
        "habituation",
        "budget",
        "expected to be spent",
        "no_offer",
        "table: ",
        "make ui",
    ):
        assert expected in printed, expected


def test_the_second_night_goes_on_where_the_first_stopped(lived_home):
    lake = _lake(lived_home)
    emitted = to_contract(lake.read("assignment_table", FIRST), WorldConfig().programme).sort(
        "decision_id"
    )
    landed = lake.read("raw_assignments", SECOND).filter(pl.col("surface") == "lifecycle")
    logged = landed.sort("decision_id").select(emitted.columns)
    assert logged.equals(emitted)
    receipts = lake.read("raw_deliveries", SECOND)
    assert set(receipts["decision_id"]) == set(emitted["decision_id"])
    assert "1 days old" in (lived_home / "first.txt").read_text()
    assert "2 days old" in (lived_home / "second.txt").read_text()
    decided = lake.read("assignment_table", SECOND)
    assert set(decided["policy_version"]) == {
        lake.read("night_budget", SECOND)["policy_version"][0]
    }


def test_a_world_model_was_trained_and_its_beliefs_reached_heads_and_nights(lived_home):
    lake = _lake(lived_home)
    assert "did not end" not in (lived_home / "first.txt").read_text()
    trained = lake.scan("training_beliefs").collect()
    decided = lake.scan("customer_days", until=lake.dates("training_beliefs")[-1]).collect()
    assert set(trained["version"]) == {"1"}
    assert trained.height == decided.height
    for night in (FIRST, SECOND):
        tonight = lake.read("beliefs", night)
        assert tonight.height == lake.read("customer_days", night).height > 100
        assert (tonight["plausibility"] <= 0.01).mean() < 0.1
    script = """
from orchestration.settings import read_settings
from orchestration.resources import build_resources
from orchestration.assets.beliefs import find_versions
from ml.tracking.registry import PolicyRegistry
from ml.tracking.world_models import WorldModelRegistry
settings = read_settings()
print("VERSIONS", find_versions(build_resources(settings)["mlflow"]).found)
print("POLICY", PolicyRegistry(settings.tracking_uri).load("2").policy.belief_version)
print("UNITS", WorldModelRegistry(settings.tracking_uri).load("1").n_belief)
import mlflow, polars as pl
days = pl.read_parquet(settings.lake / "customer_days" / "*" / "*.parquet").head(20)
days = days.with_columns(pl.selectors.integer().cast(pl.Float64))
served = mlflow.pyfunc.load_model("models:/world_model/1").predict(days.to_pandas())
print("SERVED", served.shape, bool(served["plausibility"].between(0, 1).all()))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env=clean_environment(lived_home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for expected in ("VERSIONS ('1',)", "POLICY 1", "UNITS 32", "SERVED (20, 33) True"):
        assert expected in done.stdout, done.stdout


def test_every_night_leaves_a_page_that_needs_no_server(lived_home):
    page = (lived_home / "reports" / f"{SECOND}.html").read_text()
    for expected in (
        "signals alarm",
        "Offers by lifecycle",
        "Offers by channel",
        "Policies on customers that no training saw",
        "What the gate judged",
        "Realised against predicted effects",
        "Cost of offers, realised against expected",
        "By protected group",
        "How plausible customers are to the world model",
        "Gate 1, ",
    ):
        assert expected in page, expected
    assert page.count("data:image/png;base64,") >= 9
    assert "http" not in page
    # What it leads to lies beside it.
    (link,) = re.findall(r'href="(fairness-[^"]+)"', page)
    fairness = (lived_home / "reports" / link).read_text()
    assert "gender" in fairness
    assert "Left out" in fairness
    assert "00000001" not in page  # A page about customers, not of them.


def test_every_delivered_row_is_accepted_or_quarantined(lived_home):
    lake = _lake(lived_home)
    counts = pl.concat(
        [lake.read("ingestion_counts", day) for day in lake.dates("ingestion_counts")]
    )
    landed = sum(
        pl.scan_parquet(path).select(pl.len()).collect().item()
        for path in (lived_home / "landing").rglob("*.parquet")
        if path.parent.name <= str(SECOND)
    )
    assert counts["delivered"].sum() == landed
    assert counts["accepted"].sum() + counts["quarantined"].sum() == landed


def test_a_sealed_night_stays_and_a_reissue_supersedes_it(home_copy):
    before = _lake(home_copy).read("assignment_table", SECOND)
    sealed, late, done = run_series(
        home_copy,
        write_night("--date", str(SECOND)),
        write_night("--date", str(FIRST), "--reissue"),
        write_night("--date", str(SECOND), "--reissue", "--export-csv"),
    )
    assert (sealed[0], late[0], done[0]) == (0, 1, 0)
    assert "is sealed" in sealed[1]
    assert "can't be decided any more" in late[1]
    table = _lake(home_copy).read("assignment_table", SECOND)
    assert set(table["revision"]) == {2}
    old = _lake(home_copy).path("superseded_assignments", SECOND).with_name("revision-1.parquet")
    assert set(pl.read_parquet(old)["revision"]) == {1}
    assert pl.read_parquet(old).equals(before)
    assert not set(pl.read_parquet(old)["decision_id"]) & set(table["decision_id"])
    exported = pl.read_csv(home_copy / "exports" / f"assignments-{SECOND}.csv")
    assert exported.height == table.height


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tables_to_the_byte(lived_home, tmp_path):
    home = tmp_path / "again"
    run_night(home)
    assert _table_hash(home, FIRST) == _table_hash(lived_home, FIRST)


def test_a_night_goes_on_without_bad_rows_and_keeps_consent_limits_rules_and_pace(home_copy):
    at = "2026-03-03T10:00:00Z"
    folder = home_copy / "landing" / "events" / str(THIRD)
    folder.mkdir(parents=True)
    (folder / "truncated.parquet").write_bytes(b"PAR1 not all of it")
    rows = [
        {"customer_id": "nobody", "occurred_at": at, "available_at": at, "type": "visit"},
        {"customer_id": "00000001", "occurred_at": "soon", "available_at": at, "type": "visit"},
    ]
    (folder / "bad.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    closed = home_copy / "landing" / "contactability" / str(THIRD) / "calls.csv"
    closed.parent.mkdir(parents=True)
    everybody = _lake(home_copy).read("raw_customers", date(2026, 1, 5))["customer_id"].unique()
    pl.DataFrame({"customer_id": everybody}).with_columns(
        channel=pl.lit("email"),
        valid_from=pl.lit("2026-03-04T00:30:00Z"),
        is_allowed=pl.lit("false"),
    ).write_csv(closed)
    file = home_copy / "programme.json"
    few = {"name": "pushes", "measure": "offers", "channels": ["push"], "most_per_decision": 0.08}
    rules = {
        "limits": [few],
        "pacing": {"period_budget": 1_500, "begins": str(SECOND), "period_days": 10},
        "eligibility": {
            "version": "spring",
            "valid_from": str(THIRD),
            "rules": [{"name": "adults", "feature": "age", "at_least": 30, "families": ["coupon"]}],
        },
        "quiet_hours": [{"begin": "20:00", "end": "09:00"}],
    }
    file.write_text(json.dumps({**json.loads(file.read_text()), **rules}))
    printed = run_night(home_copy)
    assert "limit pushes: " in printed
    assert "of 1,500.00 EUR paid" in printed
    kept = _lake(home_copy).read("limit_usage", THIRD).filter(limit="pushes").row(0, named=True)
    assert 0 < kept["expected"] <= kept["bound"]
    # Who closed a channel after midnight, as far as it is delivered, is not written to on it.
    table = _lake(home_copy).read("assignment_table", THIRD)
    offered = table.filter(pl.col("customer_id").is_in(everybody.implode()))
    assert offered["action_id"].str.starts_with("push").any()
    assert not offered["eligible_actions"].explode().str.starts_with("email").any()
    pace = _lake(home_copy).read("night_pace", THIRD).row(0, named=True)
    budget = _lake(home_copy).read("night_budget", THIRD).row(0, named=True)
    assert (pace["nights_left"], pace["period_begin"]) == (9, SECOND)
    assert pace["realised"] > 0
    assert pace["outstanding"] > 0
    assert budget["expected_cost"] <= budget["budget"] == pytest.approx(pace["budget"])
    ledger = _lake(home_copy).read("budget_ledger", THIRD)
    assert set(ledger["family"]) == {"ad", "coupon", "messages"}
    assert ledger["realised"].sum() == pytest.approx(pace["realised"])
    pruned = table.explode("pruned_actions", "pruned_reasons")["pruned_reasons"]
    assert {"not_contactable", "not_eligible"} <= set(pruned.cast(pl.String))
    assert set(table["send_from"].dt.hour().drop_nulls()) == {9}
    refused = _lake(home_copy).read("quarantine", THIRD)
    assert refused.height == 3
    assert set(refused["source_file"]) == {"truncated.parquet", "bad.ndjson"}
    counts = _lake(home_copy).read("ingestion_counts", THIRD)
    events = counts.row(by_predicate=pl.col("table") == "events", named=True)
    assert events["delivered"] == events["accepted"] + 3
    assert "unknown customer" in printed
    assert _lake(home_copy).has("assignment_table", THIRD)


def test_a_night_without_a_delivery_fails_clearly(home_copy):
    (home_copy / "source").write_text("landing")
    printed = run_liftloop(
        home_copy,
        *("nightly", "--source", "landing", "--date", str(THIRD)),
        expect=1,
        LIFTLOOP_ALERTS="json://127.0.0.1:9/secret",
    )
    assert "no events were delivered for 2026-03-04" in printed
    assert not _lake(home_copy).has("assignment_table", THIRD)
    # Nobody answers at the channel: it is kept, and said without the address.
    told = _lake(home_copy).read("alerts", datetime.now(UTC).date())
    assert told["kind"].to_list() == ["failure"]
    assert f"nightly {THIRD} failed" in told["text"][0]
    assert "an alert (failure) could not be sent" in printed
    assert "secret" not in printed


def test_another_source_in_the_same_folder_is_refused(home_copy):
    printed = run_liftloop(home_copy, "nightly", "--source", "hillstrom", expect=1)
    assert "use another HOME_DIR" in printed


def test_a_failed_gate_promotes_nothing_in_a_separate_run(home_copy):
    lake = _lake(home_copy)
    day = lake.dates("evaluation_record")[-1]
    record = lake.read("evaluation_record", day)
    failed = record.with_columns(
        is_passed=pl.lit(False), reasons=pl.lit(["not proven: made to fail"])
    )
    failed.write_parquet(lake.path("evaluation_record", day))
    script = """
from orchestration.settings import prepare_home, read_settings
settings = read_settings()
prepare_home(settings)
import dagster as dg
from orchestration.definitions import defs
from ml.tracking.registry import CHAMPION, PolicyRegistry
registry = PolicyRegistry(settings.tracking_uri)
registry.make_champion("1", ope_gate="first_champion", evidence={})
job = defs.resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
    result = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("champion")]
    )
(event,) = result.asset_materializations_for_node("champion")
print("DECISION", event.metadata["decision"].value, event.metadata["champion"].value)
print("ALIAS", registry.version_of(CHAMPION), registry.load("2").tags["ope_gate"])
"""
    env = clean_environment(home_copy)
    # The copy's artifacts lie where the original's were recorded; both folders are the tests' own.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DECISION refused 1" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert "ALIAS 1 refused" in done.stdout


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_multiprocess_with_readers_gives_the_in_process_table(lived_home, home_copy):
    """The second night again: a process a step, the UI open, an ad-hoc reader scanning."""
    lake = _lake(home_copy)
    shutil.rmtree(lake.path("assignment_table", SECOND).parent)
    shutil.rmtree(lake.path("night_budget", SECOND).parent)
    port = _free_port()
    tools = Path(sys.executable).parent
    env = clean_environment(
        home_copy, DAGSTER_HOME=str(home_copy / "dagster"), LIFTLOOP_EXECUTOR="multiprocess"
    )
    stop = threading.Event()
    scans = []

    def read_on():
        while not stop.is_set():
            scans.append(lake.scan("customer_features").select(pl.len()).collect().item())
            time.sleep(0.05)

    web = subprocess.Popen(
        [
            str(tools / "dagster-webserver"),
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-w",
            "workspace.yaml",
        ],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        done = subprocess.run(
            [
                str(tools / "dagster"),
                "job",
                "execute",
                "-m",
                "orchestration.definitions",
                "-j",
                "nightly",
                "--tags",
                json.dumps({"dagster/partition": str(SECOND)}),
            ],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=60).read()
    finally:
        stop.set()
        reader.join()
        web.terminate()
        web.wait(timeout=30)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    assert "Could not set lock" not in output
    assert b"dagster" in page
    assert len(scans) > 20
    assert _table_hash(home_copy, SECOND) == _table_hash(lived_home, SECOND)
