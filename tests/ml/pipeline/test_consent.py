"""Open channels against a plain reading of the rows, and nobody written to who said no."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.actions import ActionSet
from ml.pipeline.consent import close_channels, find_open_channels
from ml.pipeline.decide import decide_night

NIGHT = date(2026, 3, 2)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def _rows(*rows):
    return pl.LazyFrame(
        rows,
        schema={
            "customer_id": pl.String,
            "channel": pl.String,
            "valid_from": pl.Datetime("us", "UTC"),
            "is_allowed": pl.Boolean,
        },
        orient="row",
    )


def _open(*rows):
    return dict(find_open_channels(_rows(*rows), night=NIGHT).iter_rows())


def _hours(number):
    return MIDNIGHT + timedelta(hours=number)


def test_the_latest_word_counts_and_a_channel_without_one_is_closed():
    assert _open(("a", "email", _hours(-9), True), ("a", "push", _hours(-5), True)) == {
        "a": "email,push"
    }
    assert _open(("a", "email", _hours(-9), True), ("a", "email", _hours(-5), False)) == {}
    assert _open(("a", "email", _hours(-5), True), ("a", "email", _hours(-9), False)) == {
        "a": "email"
    }
    # The same moment twice: the later delivery.
    assert _open(("a", "email", _hours(-5), True), ("a", "email", _hours(-5), False)) == {}


def test_who_opts_out_during_the_night_or_the_day_is_left_alone():
    before = ("a", "email", _hours(-9), True)
    for hour in (0, 1, 23):
        assert _open(before, ("a", "email", _hours(hour), False)) == {}
    assert _open(before, ("a", "email", _hours(24), False)) == {"a": "email"}
    # Opening again later that day is too late for tonight's offer.
    assert _open(("a", "email", _hours(-9), False), ("a", "email", _hours(3), True)) == {}


def test_open_channels_equal_a_plain_reading_of_random_rows():
    random = np.random.default_rng(3)
    rows = [
        (
            f"c{random.integers(40)}",
            str(random.choice(["email", "push", "text"])),
            _hours(int(random.integers(-60, 60))),
            bool(random.random() < 0.6),
        )
        for _ in range(600)
    ]
    expected = {}
    for customer, channel in sorted({(row[0], row[1]) for row in rows}):
        own = [row for row in rows if row[:2] == (customer, channel)]
        past = [row for row in own if row[2] < MIDNIGHT]
        newest = max((row[2] for row in past), default=None)
        is_open = past and [row for row in past if row[2] == newest][-1][3]
        is_closing = any(MIDNIGHT <= row[2] < _hours(24) and not row[3] for row in own)
        if is_open and not is_closing:
            expected[customer] = ",".join([*expected.get(customer, "").split(","), channel]).strip(
                ","
            )
    assert _open(*rows) == expected


def test_closed_channels_leave_the_features_and_no_others():
    features = pl.DataFrame(
        {"customer_id": ["b", "a", "c"], "contactable_channels": ["email,text", "push", ""]}
    )
    heard = pl.DataFrame(
        {"customer_id": ["a", "b"], "contactable_channels": ["email,push", "push,text"]}
    )
    assert close_channels(features, heard)["contactable_channels"].to_list() == ["text", "push", ""]


def test_nobody_gets_an_offer_on_a_closed_channel(candidate):
    features = make_rows(5)[0].unique("customer_id", keep="first", maintain_order=True)
    features = features.with_columns(
        is_due=pl.lit(True), decision_date=pl.lit(NIGHT), built_for_date=pl.lit(NIGHT)
    )
    heard = features.select("customer_id", "contactable_channels").with_columns(
        pl.when(pl.int_range(pl.len()) % 2 == 0)
        .then(pl.lit("push"))
        .otherwise(pl.lit(""))
        .alias("contactable_channels")
    )
    decided = decide_night(
        close_channels(features, heard),
        policy=candidate,
        policy_version="2",
        catalogue=ACTIONS,
        programme=PROGRAMME,
        decision_date=NIGHT,
    )
    table = decided.assignments.join(heard, on="customer_id")
    assert set(_channel_of(ACTIONS, table["action_id"])) <= {None, "push"}
    silent = table.filter(pl.col("contactable_channels") == "")
    assert set(silent["action_id"]) == {"no_offer"}
    assert silent.height > 100


def _channel_of(actions: ActionSet, taken):
    channel = dict(zip(actions.action_ids, actions.channels, strict=True))
    return [channel[each] or None for each in taken]
