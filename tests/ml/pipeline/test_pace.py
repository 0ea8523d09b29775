"""Frames to tonight's budget: every figure of the ledger by hand, and nights without a policy."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME

from ml.core.errors import BudgetError
from ml.core.rules import Pacing
from ml.pipeline.pace import find_period, pace_programme

BEGIN = date(2026, 3, 2)
PACING = Pacing(period_budget=3_000.0, begins=BEGIN, period_days=10)
PACED = replace(PROGRAMME, pacing=PACING)
NOTHING = pl.DataFrame(
    schema={
        "decision_date": pl.Date,
        "action_id": pl.String,
        "redeemed_date": pl.Date,
        "amount": pl.Float64,
    }
)


def _decide(nights, *, n=100, expected=0.52, action="email_coupon_2"):
    return pl.DataFrame(
        {
            "decision_date": [night for night in nights for _ in range(2 * n)],
            "action_id": [action, "no_offer"] * (n * len(nights)),
            "realised_action_id": [action, "no_offer"] * (n * len(nights)),
            "expected_cost_effect": [expected, 0.0] * (n * len(nights)),
        }
    )


def _redeem(nights, *, after, n=25, action="email_coupon_2"):
    return pl.DataFrame(
        {
            "decision_date": [night for night in nights for _ in range(n)],
            "action_id": [action] * (n * len(nights)),
            "redeemed_date": [night + timedelta(after) for night in nights for _ in range(n)],
            "amount": [2.0] * (n * len(nights)),
        }
    )


def _pace(decisions, redemptions, night, **changes):
    return pace_programme(
        decisions,
        redemptions,
        catalogue=ACTIONS,
        programme=replace(PACED, **changes),
        night=night,
        n_due=200,
    )


def test_the_ledger_adds_up_by_hand():
    # Every offer promises .50 in redemptions and .02 for its message; all is paid a day later.
    nights = [BEGIN + timedelta(offset) for offset in range(-40, 4)]
    tonight = nights[-1] + timedelta(1)
    redemptions = _redeem(nights[:-1], after=1)
    paced = _pace(_decide(nights), redemptions, tonight)
    ledger = {row["family"]: row for row in paced.ledger.to_dicts()}
    assert ledger["coupon"]["assigned"] == pytest.approx(4 * 50)
    # Offers of the evening before the period are paid in it.
    assert ledger["coupon"]["realised"] == pytest.approx(4 * 50)
    assert ledger["messages"]["realised"] == pytest.approx(4 * 2.0)
    assert ledger["ad"]["assigned"] == 0
    # The prior leans a little towards a week; yesterday's offers are still to be paid.
    assert ledger["coupon"]["outstanding"] == pytest.approx(50, rel=0.08)
    assert ledger["coupon"]["bias"] == pytest.approx(1, abs=0.03)
    row = paced.pace.row(0, named=True)
    assert row["realised"] == pytest.approx(208)
    assert row["nights_left"] == 6
    assert row["remaining"] == pytest.approx(3_000 - 208 - row["outstanding"] - row["reserve"])
    assert row["steering"] == "capped"
    assert paced.budget == pytest.approx(2 * PROGRAMME.budget_per_decision * 200)
    small = _pace(
        _decide(nights), redemptions, tonight, pacing=replace(PACING, period_budget=500.0)
    )
    row = small.pace.row(0, named=True)
    assert row["steering"] == "steered"
    assert small.budget == pytest.approx(row["remaining"] / row["timing"])
    # Five of six nights' redemptions are paid within the period, and all messages.
    assert row["timing"] == pytest.approx(6 * 2 / 52 + 5 * 50 / 52, rel=0.08)


def test_offers_without_a_policys_expectation_are_taken_at_what_others_were_paid():
    nights = [BEGIN + timedelta(offset) for offset in range(-40, 1)]
    known = _decide(nights)
    unknown = known.with_columns(expected_cost_effect=pl.lit(None, dtype=pl.Float64))
    redemptions = _redeem(nights[:-1], after=1)
    tonight = BEGIN + timedelta(1)
    one, other = (_pace(each, redemptions, tonight) for each in (known, unknown))
    coupon = [each.ledger.filter(family="coupon").row(0, named=True) for each in (one, other)]
    assert coupon[1]["assigned"] == pytest.approx(coupon[0]["assigned"], rel=0.05)
    assert coupon[1]["outstanding"] == pytest.approx(coupon[0]["outstanding"], rel=0.05)


def test_the_first_night_of_all_and_an_overspent_period():
    first = _pace(
        _decide([]).cast({"decision_date": pl.Date, "action_id": pl.String}), NOTHING, BEGIN
    )
    assert first.budget == pytest.approx(2 * PROGRAMME.budget_per_decision * 200)
    nights = [BEGIN + timedelta(offset) for offset in range(3)]
    dear = _redeem(nights[:-1], after=0, n=900)
    over = _pace(_decide(nights), dear, BEGIN + timedelta(3))
    assert over.budget == 0
    assert over.pace["steering"].item() == "stopped"


def test_offers_that_are_gone_are_still_owed_and_a_failed_send_costs_no_message():
    nights = [BEGIN + timedelta(offset) for offset in range(-40, 4)]
    tonight = nights[-1] + timedelta(1)
    gone = _decide(nights, action="fax_coupon")
    paced = _pace(gone, _redeem(nights[:-1], after=1, action="fax_coupon"), tonight)
    ledger = {row["family"]: row for row in paced.ledger.to_dicts()}
    assert ledger["withdrawn"]["realised"] == pytest.approx(4 * 50)
    assert ledger["withdrawn"]["outstanding"] > 30
    failed = _decide(nights).with_columns(realised_action_id=pl.lit("no_offer"))
    paced = _pace(failed, _redeem(nights[:-1], after=1), tonight)
    assert paced.ledger.filter(family="messages")["realised"].item() == 0


def test_periods_follow_each_other():
    assert find_period(BEGIN + timedelta(9), PACED) == (BEGIN, BEGIN + timedelta(9))
    assert find_period(BEGIN + timedelta(10), PACED)[0] == BEGIN + timedelta(10)
    with pytest.raises(BudgetError, match="no budget period"):
        find_period(BEGIN - timedelta(1), PACED)
    with pytest.raises(BudgetError, match="no budget period"):
        find_period(BEGIN, PROGRAMME)


def test_payments_of_every_age_and_family_land_in_their_cell():
    random = np.random.default_rng(3)
    nights = [BEGIN + timedelta(offset) for offset in range(-50, 5)]
    tonight = BEGIN + timedelta(5)
    names = list(ACTIONS.action_ids[1:])
    n = 4_000
    decided = random.integers(0, len(nights), n)
    after = random.integers(0, 12, n)
    redemptions = pl.DataFrame(
        {
            "decision_date": [nights[each] for each in decided],
            "action_id": random.choice(names, n),
            "redeemed_date": [
                nights[each] + timedelta(int(ahead))
                for each, ahead in zip(decided, after, strict=True)
            ],
            "amount": random.uniform(1, 5, n),
        }
    ).filter(pl.col("redeemed_date") < tonight)
    paced = _pace(_decide(nights), redemptions, tonight)
    family = dict(zip(ACTIONS.action_ids, ACTIONS.families, strict=True))
    in_period = redemptions.filter(pl.col("redeemed_date") >= BEGIN).with_columns(
        family=pl.col("action_id").replace_strict(family)
    )
    for row in paced.ledger.filter(pl.col("family") != "messages").to_dicts():
        expected = in_period.filter(family=row["family"])["amount"].sum()
        assert row["realised"] == pytest.approx(expected)
