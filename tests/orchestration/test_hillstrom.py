"""The public e-mail test through the whole pipeline."""

from datetime import date

import polars as pl
import pytest
from conftest import run_liftloop

from orchestration.lake import Lake
from orchestration.sources.hillstrom import MAILED_SHARE, NIGHT

TRAINED = date(2008, 3, 17)


@pytest.fixture(scope="module")
def hillstrom(hillstrom_file, tmp_path_factory):
    home = tmp_path_factory.mktemp("hillstrom") / "home"
    printed = run_liftloop(home, "nightly", "--source", "hillstrom", "--input", str(hillstrom_file))
    return Lake(root=str(home / "lake")), printed


def test_every_customer_is_accepted_and_none_lost(hillstrom):
    lake, _ = hillstrom
    counts = pl.concat(
        [lake.read("ingestion_counts", day) for day in lake.dates("ingestion_counts")]
    )
    totals = counts.group_by("table").agg(pl.col("delivered", "accepted", "quarantined").sum())
    rows = {row["table"]: row for row in totals.iter_rows(named=True)}
    assert rows["customers"]["accepted"] == 64_000
    assert rows["assignments"]["accepted"] == 64_000
    assert totals["quarantined"].sum() == 0
    arms = dict(lake.scan("logged_decisions").collect()["action_id"].value_counts().iter_rows())
    assert arms == {"mens_email": 21_307, "womens_email": 21_387, "no_offer": 21_306}


@pytest.mark.parametrize(
    ("action", "outcome", "effect"),
    [
        ("mens_email", "spend", 0.769827),
        ("womens_email", "spend", 0.424413),
        ("mens_email", "visit", 0.076590),
        ("womens_email", "visit", 0.045233),
    ],
)
def test_unadjusted_effects_are_the_published_ones(hillstrom, action, outcome, effect):
    lake, _ = hillstrom
    effects = lake.read("experiment_effects", TRAINED)
    ours = effects.filter((pl.col("action_id") == action) & (pl.col("outcome") == outcome))
    assert ours["effect"].item() == pytest.approx(effect, abs=1e-6)
    assert ours["low"].item() < effect < ours["high"].item()


def test_policies_are_valued_with_intervals(hillstrom):
    lake, _ = hillstrom
    values = lake.read("policy_values", TRAINED).filter(
        (pl.col("estimator") == "dr") & (pl.col("reward") == "net_value")
    )
    assert set(values["policy"]) == {
        "no_offer",
        "all_mens_email",
        "all_womens_email",
        "champion",
        "candidate",
    }
    assert (values["low"] < values["high"]).all()
    mens = values.filter(pl.col("policy") == "all_mens_email")
    # 30 % of the unadjusted effect less the send cost lies in the interval of another half sample.
    assert mens["incremental_low"].item() < 0.3 * 0.769827 - 0.05 < mens["incremental_high"].item()


def test_the_gate_does_not_promote_what_it_cannot_prove(hillstrom):
    lake, printed = hillstrom
    record = lake.read("evaluation_record", TRAINED).row(0, named=True)
    assert not record["is_passed"]
    assert "not proven" in record["reasons"][0]
    assert (
        f"smallest detectable difference {record['smallest_detectable_difference']:.4f}" in printed
    )
    assert "assumed margin of 30%" in printed
    assert "assumed 0.05 USD per e-mail" in printed


def test_everybody_is_decided_in_one_night_and_at_most_forty_percent_mailed(hillstrom):
    lake, _ = hillstrom
    table = lake.read("assignment_table", NIGHT)
    assert table.height == table["customer_id"].n_unique() == 64_000
    mailed = table.filter(pl.col("action_id") != "no_offer")
    assert 0.35 * 64_000 < mailed.height <= MAILED_SHARE * 64_000
    rule = table.filter(pl.col("reason_code") == "best_offer")
    features = lake.read("customer_features", NIGHT).select("customer_id", "days_since_purchase")
    days = rule.join(features, on="customer_id")["days_since_purchase"]
    rest = table.filter(pl.col("reason_code").is_in(["budget", "no_offer_pays"])).join(
        features, on="customer_id"
    )["days_since_purchase"]
    assert days.min() >= rest.max()
