from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.contract.screening import NOTHING_KNOWN
from ml.core.logged import build_logged_decisions
from ml.pipeline.identify import (
    check_randomisation,
    is_randomisation_sound,
    mark_customers,
    screen_night,
)


def _logged(rows):
    return build_logged_decisions(rows, programme=PROGRAMME, actions=ACTIONS)


def _check(rows):
    return check_randomisation(_logged(rows), actions=ACTIONS, programme=PROGRAMME)


def test_an_honest_log_passes_and_rarely_fails():
    verdicts = [is_randomisation_sound(_check(make_rows(seed, n=2_000)[0])) for seed in range(40)]
    assert sum(verdicts) >= 39


def test_a_wrong_sample_ratio_is_found():
    rows, _ = make_rows(3, n=6_000)
    lost = rows.filter((pl.col("action_id") != "email_coupon_2") | (pl.col("visits") > 0))
    checks = _check(lost)
    assert not is_randomisation_sound(checks)
    failed = checks.filter(~pl.col("is_passed"))
    assert "email_coupon_2" in failed.filter(pl.col("check") == "sample_ratio")["subject"].to_list()


def test_targeting_that_the_propensities_hide_is_found():
    rows, _ = make_rows(5, n=8_000, skew=0.5)
    third = pl.lit([1 / 3] * 3)
    hidden = rows.with_columns(eligible_propensities=third, propensity=pl.lit(1 / 3))
    checks = _check(hidden)
    failed = checks.filter(~pl.col("is_passed") & (pl.col("check") == "balance"))
    assert any(subject.startswith("age|") for subject in failed["subject"])


def test_a_low_floor_is_reported_but_does_not_unsound_the_log():
    rows, _ = make_rows(6, n=4_000, skew=3.0)
    checks = _check(rows)
    assert not checks.filter(pl.col("check") == "propensity_floor")["is_passed"].item()
    assert is_randomisation_sound(checks)


def test_marks_follow_their_shares_and_holdout_is_never_evaluated():
    customers = pl.DataFrame({"customer_id": [f"c{number}" for number in range(40_000)]})
    marked = mark_customers(customers, PROGRAMME)
    assert marked["is_holdout"].mean() == pytest.approx(PROGRAMME.holdout_share, abs=0.005)
    assert marked["is_evaluation"].mean() == pytest.approx(0.95 * 0.30, abs=0.01)
    assert not (marked["is_holdout"] & marked["is_evaluation"]).any()
    assert np.bincount(marked["decision_cohort"]).min() > 5_000


def test_tables_of_one_night_may_refer_to_each_other(tmp_path):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    customers = tmp_path / "customers.parquet"
    pl.DataFrame(
        {
            "customer_id": ["c1"],
            "valid_from": [at],
            "signed_up_at": [at],
            "attributes": ["{}"],
            "available_at": [at],
        }
    ).write_parquet(customers)
    events = tmp_path / "events.parquet"
    pl.DataFrame(
        {
            "customer_id": ["c1", "c2"],
            "occurred_at": [at] * 2,
            "available_at": [at] * 2,
            "type": ["visit"] * 2,
        }
    ).write_parquet(events)
    night = screen_night(
        {"customers": [customers], "events": [events]},
        known=NOTHING_KNOWN,
        programme=PROGRAMME,
        night=date(2026, 1, 6),
    )
    assert night.accepted["events"].height == 1
    assert night.quarantined["reasons"].explode().to_list() == [
        "customer_id: unknown customer; deliver it in customers first"
    ]
    counts = dict(night.counts.select("table", "delivered").iter_rows())
    assert (counts["customers"], counts["events"], counts["media_kpi"]) == (1, 2, 0)
