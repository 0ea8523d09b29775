"""A night that was begun is ended as it was asked for, once."""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from orchestration.begun import begin_night, end_night, find_open_night
from orchestration.lake import Lake, write_parquet
from orchestration.settings import read_settings

NIGHT, NEXT = date(2026, 3, 2), date(2026, 3, 3)


@pytest.fixture
def settings(tmp_path):
    return replace(read_settings(), home=tmp_path)


def _seal(settings, night, revision):
    lake = Lake(root=str(settings.lake))
    write_parquet(pl.DataFrame({"revision": [revision]}), lake.path("assignment_table", night))


def _begin(settings, night, **changes):
    return begin_night(settings, night, **{"is_reissue": False, "has_export": False, **changes})


def test_a_night_is_open_until_it_is_sealed_or_ended(settings):
    assert find_open_night(settings) is None
    _begin(settings, NIGHT)
    assert find_open_night(settings) == NIGHT
    _seal(settings, NIGHT, 1)
    assert find_open_night(settings) is None
    end_night(settings)
    assert find_open_night(settings) is None


def test_a_reissue_that_was_killed_after_its_seal_is_not_done_twice(settings):
    _seal(settings, NIGHT, 1)
    assert _begin(settings, NIGHT, is_reissue=True).revision == 2
    assert find_open_night(settings) == NIGHT
    # The same command once more, before the seal and after it.
    assert _begin(settings, NIGHT, is_reissue=True).revision == 2
    _seal(settings, NIGHT, 2)
    assert _begin(settings, NIGHT, is_reissue=True).revision == 2
    end_night(settings)
    assert _begin(settings, NIGHT, is_reissue=True).revision == 3


def test_an_export_stays_asked_for(settings):
    _begin(settings, NIGHT, has_export=True)
    _seal(settings, NIGHT, 1)
    assert find_open_night(settings) == NIGHT
    assert _begin(settings, NIGHT).has_export
    # Written, it is not asked for again, should what comes after it fail.
    settings.exports.mkdir(parents=True)
    (settings.exports / f"assignments-{NIGHT}.csv").touch()
    assert find_open_night(settings) is None
    end_night(settings)
    assert not _begin(settings, NIGHT).has_export


def test_an_older_night_is_not_taken_up_by_itself(settings):
    _seal(settings, NIGHT, 1)
    _seal(settings, NEXT, 1)
    _begin(settings, NIGHT, has_export=True)
    assert find_open_night(settings) is None
