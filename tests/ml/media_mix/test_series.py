"""Weeks from days, and what is refused."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from ml.core.errors import ContractError
from ml.media_mix.series import LiftTest, sum_weeks


def _days(n_days=28, *, first=date(2026, 1, 5), channels=("tv", "radio")):
    days = [first + timedelta(days=each) for each in range(n_days)]
    return pl.DataFrame(
        [
            {"day": day, "channel": channel, "spend": 10.0 * (1 + c), "kpi": float(number)}
            for number, day in enumerate(days)
            for c, channel in enumerate(channels)
        ]
    )


def test_days_are_summed_to_whole_weeks_from_monday():
    series = sum_weeks(_days(24, first=date(2026, 1, 7)))
    assert series.weeks == (date(2026, 1, 12), date(2026, 1, 19))
    assert series.channels == ("radio", "tv")
    np.testing.assert_array_equal(series.spend, [[140.0, 70.0]] * 2)
    np.testing.assert_array_equal(series.kpi, [sum(range(5, 12)), sum(range(12, 19))])


def test_a_missing_day_and_a_missing_spend_are_named():
    gap = _days().filter(pl.col("day") != date(2026, 1, 14))
    with pytest.raises(ContractError, match="between 2026-01-05 and 2026-01-19"):
        sum_weeks(gap)
    is_gone = (pl.col("day") == date(2026, 1, 14)) & (pl.col("channel") == "tv")
    with pytest.raises(ContractError, match="2026-01-14: tv missing"):
        sum_weeks(_days().filter(~is_gone))


def test_a_week_without_its_control_is_refused():
    controls = pl.DataFrame({"week": [date(2026, 1, 5)], "price": [1.0]})
    with pytest.raises(ContractError, match="2026-01-12 lacks a control of price"):
        sum_weeks(_days(), controls=controls)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "share must lie"),
        ({"standard_error": 0.0}, "standard_error must be positive"),
        ({"weeks": np.zeros(4, dtype=bool)}, "in no week"),
        ({"lift": float("nan")}, "lift must be a number"),
    ],
)
def test_a_lift_test_that_cannot_be_meant_is_refused(change, message):
    weeks = np.array([True, False, False, False])
    good = {"channel": "tv", "weeks": weeks, "measured": weeks, "share": 1.0}
    with pytest.raises(ContractError, match=message):
        LiftTest(**{**good, "lift": 1.0, "standard_error": 1.0, **change})
