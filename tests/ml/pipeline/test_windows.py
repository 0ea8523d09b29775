from datetime import UTC, datetime, time

import pytest

from ml.core.rules import QuietHours
from ml.pipeline.windows import find_windows

NIGHT = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)  # a Monday


def _at(day, hour, minute=0):
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def _find(*quiet, timezone="UTC", decided_at=NIGHT):
    return find_windows(["text"], quiet, timezone=timezone, decided_at=decided_at).get("text")


def test_without_quiet_hours_a_channel_is_open_for_a_day():
    assert _find() == (NIGHT, _at(3, 1, 30))
    other = QuietHours(begin=time(0), end=time(0), channels=("push",))
    assert _find(other) == (NIGHT, _at(3, 1, 30))


def test_quiet_hours_over_midnight_leave_the_day():
    assert _find(QuietHours(begin=time(21), end=time(8))) == (_at(2, 8), _at(2, 21))


@pytest.mark.parametrize(("timezone", "shift"), [("Europe/Berlin", 1), ("America/New_York", -5)])
def test_quiet_hours_are_local(timezone, shift):
    begin, end = _find(QuietHours(begin=time(21), end=time(8)), timezone=timezone)
    if shift > 0:
        assert (begin, end) == (_at(2, 8 - shift), _at(2, 21 - shift))
    else:
        # In New York it is 20:30 the evening before, half an hour before quiet begins.
        assert (begin, end) == (_at(2, 13), _at(3, 1, 30))


def test_stretches_add_up_and_a_short_gap_is_no_window():
    night, noon = (
        QuietHours(begin=time(21), end=time(8)),
        QuietHours(begin=time(8, 30), end=time(14)),
    )
    assert _find(night, noon) == (_at(2, 14), _at(2, 21))


def test_a_whole_quiet_day_leaves_no_window():
    whole = QuietHours(begin=time(0), end=time(0), weekdays=("monday",))
    night = QuietHours(begin=time(0), end=time(8))
    assert _find(whole, night) is None
    assert _find(whole, night, decided_at=_at(3, 1, 30)) == (_at(3, 8), _at(4, 0))


def test_clocks_that_change_are_followed():
    # On 29 March 2026 Berlin's clocks go from 2 to 3: 08:00 is 06:00 UTC.
    at = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    begin, _ = _find(
        QuietHours(begin=time(21), end=time(8)), timezone="Europe/Berlin", decided_at=at
    )
    assert begin == datetime(2026, 3, 29, 6, tzinfo=UTC)
    # On 25 October they go back from 3 to 2: half past two comes twice, at 00:30 and 01:30 UTC.
    at = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    quiet = QuietHours(begin=time(21), end=time(2, 30))
    begin, _ = _find(quiet, timezone="Europe/Berlin", decided_at=at)
    assert begin == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
