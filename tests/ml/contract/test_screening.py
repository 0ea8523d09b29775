"""Bad input of the common kinds: each ends in quarantine with its reason, nothing is lost."""

import gzip
import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.contract.screening import NOTHING_KNOWN, screen_table

AT = "2026-01-05T01:30:00Z"
KNOWN = NOTHING_KNOWN.extend(
    "customers",
    pl.DataFrame(
        {"customer_id": ["c1", "c2"], "signed_up_at": [datetime(2025, 1, 1, tzinfo=UTC)] * 2}
    ).with_columns(pl.col("signed_up_at").cast(pl.Datetime("us", "UTC"))),
).extend("actions", pl.DataFrame({"action_id": ["none", "mail"]}))
GOOD = {
    "decision_id": "d1",
    "customer_id": "c1",
    "decided_at": AT,
    "surface": "app",
    "eligible_actions": ["none", "mail"],
    "action_id": "mail",
    "propensity": 0.4,
    "eligible_propensities": [0.6, 0.4],
    "policy_version": "v1",
    "arm": "test",
    "experiment": "e1",
    "is_exploration": True,
}


def _screen(tmp_path, rows, *, table="assignments", known=KNOWN):
    path = tmp_path / "delivery.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    screened = screen_table(table, [path], known=known)
    assert screened.n_delivered == screened.accepted.height + screened.quarantined.height
    assert screened.n_delivered == len(rows)
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
        ({"propensity": 0.0}, "propensity: must be above 0"),
        ({"propensity": -0.1}, "propensity: must be above 0"),
        ({"propensity": 1.2}, "propensity: lies above"),
        ({"propensity": None}, "propensity: is empty"),
        ({"propensity": "often"}, "propensity: the value is not a number"),
        ({"eligible_propensities": [0.6, 0.5]}, "sum to 1"),
        ({"eligible_propensities": [0.4, 0.6]}, "action_id's entry"),
        ({"eligible_propensities": [1.0]}, "one entry per eligible action"),
        ({"action_id": "balloon", "eligible_actions": ["none", "balloon"]}, "unknown action"),
        ({"eligible_actions": ["none", "balloon"], "action_id": "none"}, "unknown action"),
        ({"action_id": "none", "eligible_actions": ["mail"]}, "not among eligible_actions"),
        ({"customer_id": "c9"}, "unknown customer"),
        ({"decided_at": "2026-01-05T01:30:00"}, "decided_at: the value is not a timestamp"),
        ({"decided_at": "soon"}, "decided_at: the value is not a timestamp"),
        ({"decided_at": "2024-01-05T01:30:00Z"}, "before the customer signed up"),
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
    screened = screen_table("assignments", [path], known=KNOWN)
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
    assert "needs the channel" in _reasons(screened)
    assert "no-offer costs nothing" in _reasons(screened)


def test_a_repeated_decision_id_is_quarantined_and_others_stay(tmp_path):
    rows = [GOOD, {**GOOD, "customer_id": "c2"}, {**GOOD, "decision_id": "d2"}]
    screened = _screen(tmp_path, rows)
    assert screened.accepted["decision_id"].to_list() == ["d2"]
    assert "not unique" in _reasons(screened)
    later = KNOWN.extend("assignments", screened.accepted)
    again = _screen(tmp_path, [{**GOOD, "decision_id": "d2"}], known=later)
    assert "already delivered" in _reasons(again)


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
    screened = screen_table("assignments", [truncated, tmp_path / "empty.csv"], known=KNOWN)
    assert (screened.n_delivered, screened.accepted.height) == (2, 0)
    assert "truncated.parquet: the file cannot be read" in _reasons(screened)
    assert "empty.csv: the file is empty" in _reasons(screened)


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
        screen_table("assignments", [path], known=KNOWN).accepted.drop("source_file")
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
    for reason in ("available_at lies before", "needs an amount", "amount: lies below"):
        assert reason in _reasons(screened)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from([AT, "c1", "none", "mail", "[]", '["none"]', "[0.5,0.5]"]),
    st.lists(st.sampled_from(["none", "mail", "x"]), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(sorted(GOOD)), _VALUES, max_size=4), max_size=4))
def test_fuzzed_rows_neither_crash_nor_vanish(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("fuzz") / "f.ndjson"
    rows = [{**GOOD, **change} for change in changes]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    screened = screen_table("assignments", [path], known=KNOWN)
    assert screened.n_delivered == screened.accepted.height + screened.quarantined.height
    is_file_refused = screened.quarantined["row_number"].null_count() > 0
    assert screened.n_delivered == (1 if is_file_refused else len(rows))
