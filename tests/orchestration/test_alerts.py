"""What somebody should hear of: found in the lake, told once, by channels that may not answer."""

import json
import socketserver
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import polars as pl
import pytest

from ml.core.errors import ContractError
from ml.core.schemas import ChampionChange, Monitoring, NightPace, Promotion
from orchestration.alerts import (
    TABLE,
    Alert,
    find_alerts,
    find_late_table,
    tell,
    tell_of_failure,
)
from orchestration.lake import Lake, write_parquet
from orchestration.resources import ProgrammeFile
from orchestration.sensors import failed_runs, late_table
from orchestration.settings import read_settings

NIGHT = date(2026, 3, 4)


@pytest.fixture
def lake(tmp_path):
    return Lake(root=str(tmp_path / "lake"))


@contextmanager
def listen(status=200):
    """A webhook on loopback; what was posted to it."""
    posted = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *given):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/secret-path", posted
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def take_mail():
    """A mail server on loopback; the lines of what was sent to it."""
    lines = []

    class Mailbox(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 here\r\n")
            is_text = False
            for raw in self.rfile:
                line = raw.decode().rstrip("\r\n")
                lines.append(line)
                if is_text and line != ".":
                    continue
                is_text = line.upper() == "DATA"
                self.wfile.write(b"354 go on\r\n" if is_text else b"250 well\r\n")
                if line.upper() == "QUIT":
                    return

    with socketserver.TCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], lines
        server.shutdown()


def _write_night(lake, *, is_alarm=True, steering="stopped"):
    monitoring = {
        "signal": ["costs", "effects"],
        "subject": ["email_coupon_5", "email_ad"],
        "statistic": [7.0, 0.5],
        "limit": [5.0, 3.0],
        "n_rows": [900, 900],
        "is_alarm": [is_alarm, False],
    }
    columns = Monitoring.columns()
    frame = pl.DataFrame({name: monitoring.get(name, [None, None]) for name in columns})
    lake.write(frame.cast(Monitoring.create_empty().schema), "monitoring", NIGHT, schema=Monitoring)
    pace = dict.fromkeys(NightPace.columns(), 1.0) | {
        "period_begin": date(2026, 3, 1),
        "period_end": date(2026, 3, 31),
        "nights_left": 27,
        "steering": steering,
    }
    paced = pl.DataFrame([pace]).cast(NightPace.create_empty().schema)
    lake.write(paced, "night_pace", NIGHT, schema=NightPace)


def test_drift_budget_refusals_and_withdrawals_are_found(lake):
    assert find_alerts(lake, NIGHT) == []
    _write_night(lake)
    promotion = {"candidate_version": "3", "champion_version": "2", "is_promoted": False}
    lake.write(
        pl.DataFrame([{**promotion, "reason": "not proven"}]),
        "promotions",
        NIGHT - timedelta(days=1),
        schema=Promotion,
    )
    change = {"number": 1, "from_version": "4", "to_version": "2", "fitted_date": NIGHT}
    lake.write(
        pl.DataFrame([{**change, "cause": "demoted", "reason": "proven harm"}]).cast(
            ChampionChange.create_empty().schema
        ),
        "champion_changes",
        NIGHT,
        schema=ChampionChange,
    )
    found = {each.kind: each for each in find_alerts(lake, NIGHT)}
    assert set(found) == {"drift", "budget", "refused_promotion", "withdrawn_champion"}
    assert "1 signals alarm: costs (email_coupon_5)" in found["drift"].text
    assert "until 2026-03-31" in found["budget"].text
    assert found["refused_promotion"].text == "Version 3 is not promoted (2026-03-03): not proven"
    assert "proven harm" in found["withdrawn_champion"].text
    _write_night(lake, is_alarm=False, steering="steered")
    assert {each.kind for each in find_alerts(lake, NIGHT)} == {
        "refused_promotion",
        "withdrawn_champion",
    }


def test_each_is_told_once_whatever_runs_again(lake):
    alert, said = Alert("drift", "2026-03-04", "one signal alarms"), []
    with listen() as (url, posted):
        for day in (NIGHT, NIGHT, NIGHT + timedelta(days=1)):
            table = tell(lake, day, [alert, alert], [url], programme="bakery", say=said.append)
    assert [(each["title"], each["message"]) for each in posted] == [
        ("bakery: drift", "one signal alarms")
    ]
    assert lake.read(TABLE, NIGHT)["told"].list.len().to_list() == [1]
    assert table.is_empty()
    assert said == []


def test_a_channel_that_does_not_answer_holds_nothing_up_and_is_tried_again(lake, capfd):
    alert, said = Alert("drift", "2026-03-04", "one signal alarms"), []
    with listen(status=500) as (url, posted):
        table = tell(lake, NIGHT, [alert], [url], programme="bakery", say=said.append)
    assert len(posted) >= 1
    assert table["told"].to_list() == [[]]
    assert said == ["an alert (drift) could not be sent: it is tried again"]
    # Days later it answers; an address that nobody knows keeps no other from being told, once.
    with listen() as (url, posted):
        for days in (1, 2, 3):
            later = NIGHT + timedelta(days=days)
            tell(lake, later, [], [url, "nonsense"], programme="bakery", say=said.append)
    assert len(posted) == 1
    assert lake.read(TABLE, NIGHT)["told"].list.len().to_list() == [1]
    assert len(said) == 4
    with listen() as (url, posted):
        tell(lake, NIGHT + timedelta(days=8), [], [url], programme="bakery", say=said.append)
    # Older than a week is no news.
    assert posted == []
    # Addresses carry passwords.
    printed = capfd.readouterr()
    assert "secret-path" not in printed.out + printed.err + " ".join(said)


def test_two_words_for_the_same_thing_are_one_alert(lake):
    twice = [Alert("drift", "x", "first"), Alert("drift", "x", "second")]
    table = tell(lake, NIGHT, twice, [], programme="p", say=pytest.fail)
    assert table["text"].to_list() == ["first"]


def test_a_proven_candidate_waits_and_old_news_is_none(lake):
    row = {"candidate_version": "3", "champion_version": "2", "is_promoted": False}
    lake.write(
        pl.DataFrame([{**row, "reason": "waits for make approve"}]),
        "promotions",
        NIGHT,
        schema=Promotion,
    )
    write_parquet(pl.DataFrame({"is_passed": [True]}), lake.path("evaluation_record", NIGHT))
    assert [each.kind for each in find_alerts(lake, NIGHT)] == ["awaits_approval"]
    assert find_alerts(lake, NIGHT + timedelta(days=8)) == []


def test_an_error_goes_on_though_nobody_can_be_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIFTLOOP_HOME", str(tmp_path))
    settings = read_settings()
    with pytest.raises(OSError, match="disk full"), tell_of_failure(settings, "nightly"):
        raise OSError("disk full")
    # There is no programme to name.
    assert "nobody could be told" in capsys.readouterr().out


def test_without_channels_alerts_are_kept(lake):
    table = tell(lake, NIGHT, [Alert("drift", "x", "y")], [], programme="p", say=pytest.fail)
    assert table["told"].to_list() == [[]]


def test_mail_is_a_channel(lake):
    with take_mail() as (port, lines):
        url = f"mailto://127.0.0.1:{port}?from=loop@example.org&to=team@example.org&mode=insecure"
        tell(lake, NIGHT, [Alert("drift", "x", "a signal")], [url], programme="p", say=pytest.fail)
    assert any(line.lower().startswith("rcpt to:<team@example.org>") for line in lines)
    assert any("Subject: p: drift" in line for line in lines)


def test_a_late_table_is_told_after_the_deadline_once_nights_are_decided(lake):
    now = datetime(2026, 3, 5, 7, 0)
    assert find_late_table(lake, now, "06:00") is None
    lake.path("assignment_table", NIGHT).parent.mkdir(parents=True)
    pl.DataFrame({"x": [1]}).write_parquet(lake.path("assignment_table", NIGHT))
    assert find_late_table(lake, now, "07:30") is None
    assert find_late_table(lake, now - timedelta(days=1), "06:00") is None
    late = find_late_table(lake, now, "06:00")
    assert (late.kind, late.subject) == ("late_table", "2026-03-05")
    assert "the newest is of 2026-03-04" in late.text


@pytest.fixture
def programme(tmp_path):
    from known_log import PROGRAMME

    file = tmp_path / "programme.json"
    file.write_text(PROGRAMME.to_json())
    return ProgrammeFile(path=str(file))


def test_sensors_tell_of_late_tables_and_failed_runs_without_their_errors(
    lake, programme, monkeypatch
):
    lake.path("assignment_table", NIGHT).parent.mkdir(parents=True)
    pl.DataFrame({"x": [1]}).write_parquet(lake.path("assignment_table", NIGHT))
    monkeypatch.setenv("LIFTLOOP_DEADLINE", "00:00")

    @dg.op
    def breaks():
        raise ContractError("customer c000017 has no consent")

    @dg.job
    def night():
        breaks()

    with listen() as (url, posted), dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("LIFTLOOP_ALERTS", url)
        for _ in range(2):
            skipped = late_table(dg.build_sensor_context(), lake=lake, programme=programme)
            assert "is not there at 00:00" in skipped.skip_message
        result = night.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            sensor_name="failed_runs",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_failure_event(),
        ).for_run_failure()
        failed_runs(context, lake=lake, programme=programme)
    texts = [each["message"] for each in posted]
    assert len(texts) == 2
    assert "Job night failed (breaks)" in texts[1]
    assert "c000017" not in str(posted)
    today = datetime.now(UTC).date()
    assert set(lake.read(TABLE, today)["kind"]) == {"late_table", "failure"}


@pytest.mark.parametrize("owner", ["marketing", "team:a b", "x@y", "a@b.c"])
def test_an_owner_that_dagster_would_refuse_is_refused_with_the_remedy(monkeypatch, owner):
    monkeypatch.setenv("LIFTLOOP_OWNER", owner)
    with pytest.raises(ContractError, match="write an e-mail address, or team:name"):
        read_settings()


@pytest.mark.parametrize("owner", ["team:crm-eu", "first.last@example.org"])
def test_an_owner_is_one_that_dagster_takes(monkeypatch, owner):
    monkeypatch.setenv("LIFTLOOP_OWNER", owner)
    assert dg.AssetSpec("a", owners=[read_settings().owner]).owners == [owner]


def test_a_deadline_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("LIFTLOOP_DEADLINE", "6 o'clock")
    with pytest.raises(ContractError, match="write a time of day"):
        read_settings()
