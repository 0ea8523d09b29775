"""The media mix as a command and as an asset, on the nights of the shared home."""

import json
import shutil
from datetime import timedelta

import polars as pl
import pytest
from conftest import run_liftloop

from ml.core.media_schemas import ChannelBudgets
from orchestration.lake import Lake
from orchestration.resources import ProgrammeFile


@pytest.fixture(scope="module")
def mixed(lived_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("mixed") / "home"
    shutil.copytree(lived_home, home)
    return home, run_liftloop(home, "media-mix", "--draws", "100")


def test_marts_hold_media_messages_and_sales_by_day(lived_home):
    lake = Lake(root=str(lived_home / "lake"))
    night = lake.dates("media_daily")[-1]
    media, sales = lake.read("media_daily", night), lake.read("sales_daily", night)
    assert set(media.filter(~pl.col("is_message"))["channel"]) == {"tv", "search", "social"}
    assert set(media.filter("is_message")["channel"]) == {"email", "push", "text"}
    # 104 weeks before the first day on, every day once.
    assert sales["kpi"].null_count() == 0
    assert sales.height == sales["day"].n_unique() == (night - sales["day"].min()).days
    costs = (
        lake.scan("realised_outcomes")
        .join(
            lake.scan("logged_decisions").select("decision_id", "realised_action_id"),
            on="decision_id",
        )
        .filter(pl.col("realised_action_id").str.starts_with("email"))
        .select(pl.col("cost").sum(), pl.len().alias("n"))
        .collect()
    )
    email = media.filter(pl.col("channel") == "email")
    assert email["spend"].sum() == pytest.approx(costs["cost"].item(), abs=1.0)
    assert email["impressions"].sum() == costs["n"].item()
    events = pl.scan_parquet(lived_home / "lake/raw_events/*/*.parquet", hive_partitioning=True)
    bought = events.filter(pl.col("type") == "purchase").select(pl.col("amount").sum()).collect()
    assert sales["programme_sales"].sum() == pytest.approx(bought.item())


def test_returns_are_told_with_and_without_the_logs_lift_tests(mixed):
    home, printed = mixed
    lake = Lake(root=str(home / "lake"))
    night = lake.dates("media_returns")[-1]
    returns, lifts = lake.read("media_returns", night), lake.read("lift_tests", night)
    assert set(lifts["channel"]) == {"email", "push", "text"}
    assert set(returns["channel"]) == {
        *("tv", "search", "social"),
        *("email messages", "push messages", "text messages"),
    }
    width = (
        returns.filter(pl.col("channel").str.ends_with("messages"))
        .group_by("fit")
        .agg(((pl.col("high") - pl.col("low")) / pl.col("mean")).mean().alias("width"))
    )
    # Over the mean: a lift test that raises a return leaves room for more of it.
    by_fit = dict(width.iter_rows())
    assert by_fit["with_lift_tests"] < 0.8 * by_fit["without"]
    assert "(without lift tests)" in printed
    assert "limits of Decide: no (has_media_budgets in programme.json)" in printed


def test_the_decomposition_adds_up_to_the_kpi(mixed):
    lake = Lake(root=str(mixed[0] / "lake"))
    night = lake.dates("media_contributions")[-1]
    weekly = lake.read("media_contributions", night).group_by("week").agg(pl.col("mean").sum())
    sales = lake.read("sales_daily", night).with_columns(pl.col("day").dt.truncate("1w"))
    kpi = sales.group_by("day").agg((pl.col("kpi") + pl.col("programme_sales")).sum().alias("kpi"))
    joined = weekly.join(kpi, left_on="week", right_on="day")
    assert joined.height == weekly.height
    assert (joined["mean"] / joined["kpi"] - 1).abs().mean() < 0.05


def test_the_split_becomes_limits_the_night_after_where_the_programme_asks_for_it(mixed):
    home, _ = mixed
    lake = Lake(root=str(home / "lake"))
    file = home / "programme.json"
    resource = ProgrammeFile(path=str(file), lake=str(home / "lake"))
    night = lake.dates("channel_budgets")[-1]
    budgets = lake.read("channel_budgets", night).with_columns(
        pl.when("is_message").then(pl.lit(0.2)).alias("most_per_decision")
    )
    lake.write(budgets, "channel_budgets", night, schema=ChannelBudgets)
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "has_media_budgets": True}))
    # All steps of the night that it was fitted on go on as they began.
    assert not any("media mix" in each.name for each in resource.read().limits)
    lake.write(budgets, "channel_budgets", night - timedelta(days=1), schema=ChannelBudgets)
    limits = {each.channels: each for each in resource.read().limits if "media mix" in each.name}
    assert {channel for (channel,) in limits} == {"email", "push", "text"}
    assert {each.most_per_decision for each in limits.values()} == {0.2}
    file.write_text(json.dumps(settings))
    assert not any("media mix" in each.name for each in resource.read().limits)
