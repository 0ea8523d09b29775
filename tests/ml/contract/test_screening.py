"""Bad input of the common kinds: each ends in quarantine with its reason, nothing is lost."""

import gzip
import json
import re
from datetime import UTC, date, datetime

import polars as pl
import pytest
from good_rows import AT
from good_rows import GOOD as GOOD_ROWS

from ml.contract.screening import NOTHING_KNOWN, screen_table
from ml.core.errors import LandingError

NIGHT = date(2026, 1, 6)
KNOWN = NOTHING_KNOWN.extend(
    "customers",
    pl.DataFrame(
        {"customer_id": ["c1", "c2"], "signed_up_at": [datetime(2025, 1, 1, tzinfo=UTC)] * 2}
    ).with_columns(pl.col("signed_up_at").cast(pl.Datetime("us", "UTC"))),
).extend("actions", pl.DataFrame({"action_id": ["none", "mail"]}))
GOOD, EVENT = GOOD_ROWS["assignments"], GOOD_ROWS["events"]


def _screen(tmp_path, rows, *, table="assignments", known=KNOWN, night=NIGHT):
    path = tmp_path / "delivery.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    screened = screen_table(table, [path], known=known, night=NIGHT)
    assert screened.n_delivered == screened.accepted.height + screened.quarantined.height
    assert screened.n_delivered == len(rows)
    for refused in screened.quarantined.iter_rows(named=True):
        assert refused["table"] == table
        assert refused["source_file"] == "delivery.ndjson"
        assert 1 <= refused["row_number"] <= len(rows)
        # What is wrong in which column, then the remedy.
        assert all(re.match(r"[^;]+; .+", reason) for reason in refused["reasons"])
    return screened


def _reasons(screened):
    return " | ".join(screened.quarantined["reasons"].explode().to_list())


def test_a_good_row_is_accepted_with_its_origin(tmp_path):
    screened = _screen(tmp_path, [GOOD])
    assert screened.accepted.row(0, named=True)["decision_id"] == "d1"
    assert screened.accepted.row(0, named=True)["source_file"] == "delivery.ndjson"
    assert screened.accepted.row(0, named=True)["row_number"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"propensity": 0.0}, "propensity: is not above 0"),
        ({"propensity": -0.1}, "propensity: is not above 0"),
        ({"propensity": 1.2}, "propensity: lies above"),
        ({"propensity": None}, "propensity: is empty"),
        ({"propensity": "NaN"}, "propensity: is not a number (NaN)"),
        ({"eligible_propensities": [0.6, None]}, "eligible_propensities"),
        ({"eligible_propensities": [1.4, -0.4]}, "is no distribution"),
        ({"propensity": "often"}, "propensity: the value is not a number"),
        ({"eligible_propensities": [0.6, 0.5]}, "sum to 1"),
        ({"eligible_propensities": [0.4, 0.6]}, "action_id's entry"),
        ({"eligible_propensities": [1.0]}, "one propensity per eligible action"),
        ({"action_id": "balloon", "eligible_actions": ["none", "balloon"]}, "unknown action"),
        ({"eligible_actions": ["none", "balloon"], "action_id": "none"}, "unknown action"),
        (
            {"action_id": "none", "eligible_actions": ["mail"]},
            "action_id: is not among eligible_actions",
        ),
        ({"customer_id": "c9"}, "unknown customer"),
        ({"decided_at": "2026-01-05T01:30:00"}, "decided_at: the value is not a timestamp"),
        ({"decided_at": "soon"}, "decided_at: the value is not a timestamp"),
        ({"decided_at": "2024-01-05T01:30:00Z"}, "before the customer signed up"),
        ({"decided_at": "2026-01-07T00:00:00Z"}, "decided_at: lies after the night"),
        ({"is_exploration": "perhaps"}, "is_exploration: the value is not true or false"),
    ],
)
def test_a_bad_value_is_quarantined_with_its_reason(tmp_path, change, reason):
    vector = {} if "eligible_propensities" in change else {"eligible_propensities": None}
    screened = _screen(tmp_path, [{**GOOD, **vector, **change}])
    assert screened.accepted.is_empty()
    assert reason in _reasons(screened)
    kept = json.loads(screened.quarantined["row"][0])
    assert kept["surface"] == "app"


@pytest.mark.parametrize("text", ["[.5, .5]", "[1., 0]", "[01, 0]", "[0.5 0.5]", "[0.5,"])
def test_a_list_that_is_not_json_is_quarantined_alone(tmp_path, text):
    path = tmp_path / "a.csv"
    listed = {key: json.dumps(value) for key, value in GOOD.items() if isinstance(value, list)}
    good = {**GOOD, **listed, "is_exploration": "true"}
    bad = {**good, "decision_id": "d2", "eligible_propensities": text}
    pl.DataFrame([good, bad]).write_csv(path)
    screened = screen_table("assignments", [path], known=KNOWN, night=NIGHT)
    assert screened.accepted["decision_id"].to_list() == ["d1"]
    assert "eligible_propensities: the value is not a list" in _reasons(screened)


def test_attributes_and_offers_must_make_sense(tmp_path):
    customer = {"customer_id": "c", "valid_from": AT, "signed_up_at": AT, "available_at": AT}
    texts = ['{"a": 1}', "{abc}", "[1]", "{}"]
    rows = [
        {**customer, "customer_id": f"c{number}", "attributes": text}
        for number, text in enumerate(texts)
    ]
    screened = _screen(tmp_path, rows, table="customers")
    assert screened.accepted["customer_id"].to_list() == ["c0", "c3"]
    offer = {"family": "f", "channel": "email", "face_value": 1.0, "message_cost": 0.0}
    rows = [
        {**offer, "action_id": "a", "is_control": False},
        {**offer, "action_id": "b", "is_control": False, "channel": ""},
        {**offer, "action_id": "c", "is_control": True},
    ]
    screened = _screen(tmp_path, rows, table="actions")
    assert screened.accepted["action_id"].to_list() == ["a"]
    assert "an offer needs the channel" in _reasons(screened)
    assert "no-offer costs nothing" in _reasons(screened)


def test_a_propensity_that_is_nan_in_parquet_is_quarantined(tmp_path):
    path = tmp_path / "a.parquet"
    rows = pl.DataFrame([{**GOOD, "eligible_propensities": None, "propensity": float("nan")}])
    rows.write_parquet(path)
    screened = screen_table("assignments", [path], known=KNOWN, night=NIGHT)
    assert screened.accepted.is_empty()
    assert "propensity: is not a number (NaN)" in _reasons(screened)


def test_a_repeated_decision_id_is_quarantined_and_others_stay(tmp_path):
    rows = [GOOD, {**GOOD, "customer_id": "c2"}, {**GOOD, "decision_id": "d2"}]
    screened = _screen(tmp_path, rows)
    assert screened.accepted["decision_id"].to_list() == ["d2"]
    assert "not unique" in _reasons(screened)
    later = KNOWN.extend("assignments", screened.accepted)
    again = _screen(tmp_path, [{**GOOD, "decision_id": "d2"}], known=later)
    assert "already delivered" in _reasons(again)


def test_a_row_delivered_twice_counts_once(tmp_path):
    screened = _screen(tmp_path, [GOOD, {**GOOD, "decision_id": "d2"}, GOOD, GOOD])
    assert screened.accepted["row_number"].to_list() == [1, 2]
    assert screened.quarantined["row_number"].to_list() == [3, 4]
    assert "the row stands in this delivery twice, it counts once" in _reasons(screened)
    opt_out = {"customer_id": "c1", "channel": "email", "valid_from": AT, "is_allowed": False}
    screened = _screen(tmp_path, [opt_out, opt_out], table="contactability")
    assert screened.accepted["is_allowed"].to_list() == [False]


def test_missing_and_extra_columns_quarantine_the_file(tmp_path):
    lacking = {key: value for key, value in GOOD.items() if key != "propensity"}
    screened = _screen(tmp_path, [{**lacking, "colour": "red"}] * 2)
    assert screened.accepted.is_empty()
    assert "propensity: the column is missing" in _reasons(screened)
    assert "colour: the column is not in the contract" in _reasons(screened)


def test_optional_columns_may_be_absent(tmp_path):
    absent = ("experiment", "eligible_propensities")
    row = {key: value for key, value in GOOD.items() if key not in absent}
    assert _screen(tmp_path, [row]).accepted["experiment"].to_list() == [None]


def test_an_unreadable_file_counts_as_one_and_says_so(tmp_path):
    whole = tmp_path / "whole.parquet"
    pl.DataFrame([GOOD]).write_parquet(whole)
    truncated = tmp_path / "truncated.parquet"
    truncated.write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "empty.csv").write_text("")
    whole.unlink()
    screened = screen_table(
        "assignments", [truncated, tmp_path / "empty.csv"], known=KNOWN, night=NIGHT
    )
    assert (screened.n_delivered, screened.accepted.height) == (2, 0)
    assert "truncated.parquet: the file cannot be read" in _reasons(screened)
    assert "empty.csv: the file is empty" in _reasons(screened)


def test_a_parquet_file_with_a_corrupt_page_is_refused_whole(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{**GOOD, "decision_id": f"d{number}-{number * 7919 % 101}"} for number in range(3_000)]
    pl.DataFrame(rows).write_parquet(path, compression="zstd", row_group_size=1_000)
    whole = path.read_bytes()
    # The footer stays right: it says that all rows are there.
    spoilt = bytearray(whole)
    place = len(whole) // 2
    spoilt[place : place + 64] = bytes(64)
    path.write_bytes(bytes(spoilt))
    assert pl.scan_parquet(path).select(pl.len()).collect().item() == 3_000
    screened = screen_table("assignments", [path], known=KNOWN, night=NIGHT)
    assert (screened.n_delivered, screened.accepted.height) == (1, 0)
    assert "a.parquet: the file cannot be read" in _reasons(screened)


def test_every_format_gives_the_same_rows(tmp_path):
    rows = [GOOD, {**GOOD, "decision_id": "d2", "propensity": 0.6, "action_id": "none"}]
    typed = pl.DataFrame(rows).with_columns(
        pl.col("decided_at").str.to_datetime("%+", time_zone="UTC")
    )
    listed = pl.DataFrame(rows).with_columns(
        pl.col("eligible_actions", "eligible_propensities").map_elements(
            lambda each: json.dumps(each.to_list()), return_dtype=pl.String
        )
    )
    typed.write_parquet(tmp_path / "a.parquet")
    listed.write_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.ndjson").write_text(text)
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(text.encode()))
    results = [
        screen_table("assignments", [path], known=KNOWN, night=NIGHT).accepted.drop("source_file")
        for path in sorted(tmp_path.glob("a.*"))
    ]
    assert len(results) == 5
    assert results[0].height == 2
    assert all(each.equals(results[0]) for each in results)


def test_events_keep_both_clocks_in_order_and_money_present(tmp_path):
    event = {
        "customer_id": "c1",
        "occurred_at": AT,
        "available_at": AT,
        "type": "purchase",
        "amount": 5.0,
    }
    rows = [
        event,
        {**event, "available_at": "2026-01-04T00:00:00Z"},
        {**event, "amount": None},
        {**event, "amount": -1.0},
    ]
    screened = _screen(tmp_path, rows, table="events")
    assert screened.accepted.height == 1
    for reason in ("available_at: lies before", "amount: is empty", "amount: lies below"):
        assert reason in _reasons(screened)


@pytest.mark.parametrize("clock", ["occurred_at", "available_at"])
def test_an_event_after_its_night_is_quarantined(tmp_path, clock):
    later = {**EVENT, "available_at": "2026-01-07T00:00:01Z", clock: "2026-01-07T00:00:01Z"}
    screened = _screen(tmp_path, [EVENT, later], table="events")
    assert screened.accepted["row_number"].to_list() == [1]
    assert f"{clock}: lies after the night of the delivery" in _reasons(screened)


def test_what_will_hold_from_tomorrow_on_is_no_future_event(tmp_path):
    ahead = {"customer_id": "c1", "channel": "email", "is_allowed": False}
    screened = _screen(
        tmp_path, [{**ahead, "valid_from": "2026-02-01T00:00:00Z"}], table="contactability"
    )
    assert screened.accepted.height == 1


def test_a_receipt_for_a_decision_never_made_is_quarantined(tmp_path):
    receipt = {
        "decision_id": "d9",
        "status": "delivered",
        "realised_action_id": "mail",
        "delivered_at": AT,
    }
    screened = _screen(tmp_path, [receipt], table="deliveries")
    assert "decision_id: no such decision; deliver it in assignments first" in _reasons(screened)


def _screen_events(*files, known=KNOWN):
    screened = screen_table("events", files, known=known, night=NIGHT)
    assert screened.n_delivered == screened.accepted.height + screened.quarantined.height
    assert screened.files["accepted"].sum() == screened.accepted.height
    return screened


def test_csv_rows_with_shifted_columns_are_quarantined_alone(tmp_path):
    path = tmp_path / "shifted.csv"
    lines = [
        ",".join(EVENT),
        f"c1,{AT},{AT},purchase,5.0,,rye",
        f"c1,{AT},{AT},purchase,5.0,rye",
        "",
        f"c1,{AT},{AT},purchase,5.0,,rye,,",
        f"{AT},c1,{AT},purchase,5.0,,rye",
        f"c2,{AT},{AT},visit,,,",
    ]
    path.write_text("\n".join(lines) + "\n")
    screened = _screen_events(path)
    assert screened.accepted["row_number"].to_list() == [1, 5]
    assert screened.accepted["item"].to_list() == ["rye", None]
    refused = screened.quarantined
    assert refused["row_number"].to_list() == [2, 3, 4]
    assert "the row has 6 fields, the header 7; put every value" in refused["reasons"][0][0]
    assert "the row has 9 fields" in refused["reasons"][1][0]
    assert refused["row"][1] == lines[4]
    assert "occurred_at: the value is not a timestamp" in refused["reasons"][2][0]
    assert json.loads(refused["row"][2])["customer_id"] == AT


def test_values_may_hold_commas_and_quotes(tmp_path):
    path = tmp_path / "quoted.csv"
    pl.DataFrame([{**EVENT, "item": 'rye, "dark"'}, EVENT]).write_csv(path)
    screened = _screen_events(path)
    assert screened.accepted["item"].to_list() == ['rye, "dark"', "rye"]
    assert screened.accepted["row_number"].to_list() == [1, 2]


def test_stray_quotes_never_swallow_rows_unsaid(tmp_path):
    path = tmp_path / "quotes.csv"
    good = f"c1,{AT},{AT},purchase,5.0,,"
    lines = [",".join(EVENT), good + "rye", good + '"open', good + "oat", good + 'shut"', good]
    path.write_text("\n".join(lines) + "\n")
    screened = _screen_events(path)
    assert screened.accepted["item"].to_list() == ["rye", None]
    assert "a value holds a line end" in _reasons(screened)
    assert "oat" in json.loads(screened.quarantined["row"][0])["item"]
    path.write_text("\n".join(lines[:4]) + "\n")
    assert "a quote is opened and never closed (line 3" in _reasons(_screen_events(path))


def test_ids_stay_text_below_a_blank_line(tmp_path):
    path = tmp_path / "blank.csv"
    path.write_text(f"\n{','.join(EVENT)}\nc1,{AT},{AT},visit,,007,\n")
    assert _screen_events(path).accepted["decision_id"].to_list() == ["007"]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_timestamp_that_stands_for_infinity_is_quarantined(tmp_path, unit):
    path = tmp_path / "a.parquet"
    far = pl.Series([2**63 - 1]).cast(pl.Datetime(unit, "UTC"))
    near = pl.Series([datetime(2026, 1, 5, tzinfo=UTC)]).cast(pl.Datetime(unit, "UTC"))
    at = pl.concat([far, near])
    rows = pl.DataFrame({"customer_id": ["c1"] * 2, "channel": ["email"] * 2, "valid_from": at})
    rows.with_columns(is_allowed=True).write_parquet(path)
    screened = screen_table("contactability", [path], known=KNOWN, night=NIGHT)
    # Nanoseconds end in the year 2262: that one is a date like others.
    assert screened.accepted.height == (2 if unit == "ns" else 1)
    assert screened.n_delivered == 2


def test_a_column_of_a_type_that_nothing_expects_is_quarantined(tmp_path):
    path = tmp_path / "a.parquet"
    rows = pl.DataFrame([EVENT]).with_columns(item=pl.duration(seconds=1), amount=pl.time(1))
    rows.write_parquet(path)
    assert "amount: the value is not a number" in _reasons(_screen_events(path))


def test_a_channel_is_one_channel(tmp_path):
    row = {"customer_id": "c1", "valid_from": AT, "is_allowed": True}
    rows = [{**row, "channel": "email,sms"}, {**row, "channel": "email"}]
    screened = _screen(tmp_path, rows, table="contactability")
    assert screened.accepted["channel"].to_list() == ["email"]
    assert "deliver one row per channel" in _reasons(screened)


@pytest.mark.parametrize(("encoding", "where"), [("latin-1", "line 3"), ("utf-16", "UTF-16")])
def test_another_encoding_is_named_and_the_file_quarantined(tmp_path, encoding, where):
    path = tmp_path / "crumbs.csv"
    text = ",".join(EVENT) + f"\nc1,{AT},{AT},visit,,,\nc1,{AT},{AT},visit,,,Brötchen\n"
    path.write_bytes(text.encode(encoding))
    screened = _screen_events(path)
    assert screened.accepted.is_empty()
    assert "crumbs.csv: the file is not UTF-8 text; save it as UTF-8" in _reasons(screened)
    assert where in _reasons(screened)
    path.write_bytes(text.encode("utf-8-sig"))
    assert _screen_events(path).accepted.height == 2


def test_a_header_that_names_a_column_twice_is_quarantined(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("customer_id,item,item\nc1,a,b\n")
    assert "the header names item twice" in _reasons(_screen_events(path))


def test_a_broken_line_of_ndjson_is_quarantined_alone(tmp_path):
    path = tmp_path / "broken.ndjson"
    good = json.dumps(EVENT)
    path.write_text(f"{good}\n{good[:-9]}\n\n[1]\n{json.dumps({**EVENT, 'amount': '7'})}\n")
    screened = _screen_events(path)
    assert screened.accepted["row_number"].to_list() == [1, 4]
    assert screened.accepted["amount"].to_list() == [5.0, 7.0]
    assert screened.quarantined["row_number"].to_list() == [2, 3]
    assert set(screened.quarantined["reasons"].explode()) == {
        "the line is not a JSON object; correct it"
    }


def test_a_file_delivered_twice_in_one_night_counts_once(tmp_path):
    rows = pl.DataFrame([EVENT, {**EVENT, "customer_id": "c2"}])
    rows.write_csv(tmp_path / "a.csv")
    rows.reverse().write_ndjson(tmp_path / "b.ndjson")
    screened = _screen_events(tmp_path / "a.csv", tmp_path / "b.ndjson")
    assert set(screened.accepted["source_file"]) == {"a.csv"}
    assert screened.quarantined.height == 2
    assert "the file holds the same rows as a.csv; deliver them once" in _reasons(screened)


def test_events_delivered_again_on_a_later_night_count_once(tmp_path):
    path = tmp_path / "monday.csv"
    pl.DataFrame([EVENT, {**EVENT, "customer_id": "nobody"}]).write_csv(path)
    first = _screen_events(path)
    files = first.files.with_columns(
        pl.lit("events").alias("table"), pl.lit(NIGHT).alias("delivered_date")
    )
    known = KNOWN.remember_files(files)
    again = tmp_path / "tuesday.csv"
    path.rename(again)
    screened = _screen_events(again, known=known)
    assert screened.accepted.is_empty()
    assert "the same rows were delivered on 2026-01-06 as monday.csv" in _reasons(screened)
    # The refused row alone, mended, is another file.
    pl.DataFrame([{**EVENT, "customer_id": "c2"}]).write_csv(again)
    assert _screen_events(again, known=known).accepted.height == 1


def test_a_file_that_was_refused_may_come_again(tmp_path):
    path = tmp_path / "early.csv"
    pl.DataFrame([{**EVENT, "customer_id": "c3"}]).write_csv(path)
    files = _screen_events(path).files.with_columns(
        pl.lit("events").alias("table"), pl.lit(NIGHT).alias("delivered_date")
    )
    at = pl.lit(datetime(2025, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    newcomer = pl.DataFrame({"customer_id": ["c3"]}).with_columns(at.alias("signed_up_at"))
    known = KNOWN.remember_files(files).extend("customers", newcomer)
    assert _screen_events(path, known=known).accepted.height == 1


def test_a_file_that_vanished_is_no_bad_delivery(tmp_path):
    with pytest.raises(LandingError, match=r"gone\.csv can't be opened.*put it back"):
        screen_table("events", [tmp_path / "gone.csv"], known=KNOWN, night=NIGHT)
    with pytest.raises(LandingError, match=r"gone\.parquet can't be opened"):
        screen_table("events", [tmp_path / "gone.parquet"], known=KNOWN, night=NIGHT)
