from datetime import date

import polars as pl
import pytest

from benchmarks.performance import nightly
from ml.contract.screening import NOTHING_KNOWN
from ml.contract.tables import CONTRACT
from ml.core.programme import read_programme
from ml.pipeline.identify import screen_night

NIGHT = date(2026, 3, 3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    nightly._SHARD, usual = 150, nightly._SHARD
    try:
        nightly.land(folder, 200)
    finally:
        nightly._SHARD = usual
    nightly.land_morning(folder)
    return folder


def _files(home, night):
    return {table: sorted((home / "landing" / table / str(night)).glob("*")) for table in CONTRACT}


def test_shards_are_different_customers_of_one_world(home):
    rows = pl.concat(map(pl.read_parquet, (home / "landing" / "customers").glob("*/*")))
    assert rows["customer_id"].n_unique() == 200
    assert rows["customer_id"].str.ends_with("-1").sum() > 0
    actions = pl.concat(map(pl.read_parquet, (home / "landing" / "actions").glob("*/*")))
    assert actions["action_id"].is_unique().all()


def test_every_night_is_a_clean_delivery(home):
    programme, known = read_programme(home / "programme.json"), NOTHING_KNOWN
    nights = sorted({path.name for path in (home / "landing" / "events").glob("*")})
    assert nights[-1] == str(NIGHT)
    for night in map(date.fromisoformat, nights):
        screened = screen_night(_files(home, night), known=known, programme=programme, night=night)
        assert screened.quarantined.is_empty(), (night, screened.quarantined)
        for table, rows in screened.accepted.items():
            known = known.extend(table, rows)
    assert screened.accepted["events"].height > 0


def test_stages_are_read_from_what_a_command_prints():
    printed = "> Decide: tonight's offers\n    x\n  Decide: tonight's offers: done in 3.5 s\n"
    (found,) = nightly._STAGE.finditer(printed)
    assert (found["stage"], found["seconds"]) == ("Decide: tonight's offers", "3.5")
