"""Decide: when tonight's offers may be sent."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from ml.core.rules import WEEKDAYS, QuietHours

LEAST_WINDOW = timedelta(hours=1)
_DAY = timedelta(days=1)

Window = tuple[datetime, datetime]


def find_windows(
    channels: Sequence[str],
    quiet_hours: Sequence[QuietHours],
    *,
    timezone: str,
    decided_at: datetime,
) -> dict[str, Window]:
    """Return when each channel may be used in the day after a decision.

    Parameters
    ----------
    channels
        Names.
    quiet_hours
        Of the programme.
    timezone
        IANA name; quiet hours are local.
    decided_at
        UTC.

    Returns
    -------
    dict
        Channel to the first stretch of at least an hour without quiet, UTC; a channel that has none
        in 24 hours is missing.
    """
    found = {}
    for channel in channels:
        own = [each for each in quiet_hours if not each.channels or channel in each.channels]
        window = _find_window(own, ZoneInfo(timezone), decided_at)
        if window is not None:
            found[channel] = window
    return found


def _find_window(
    quiet_hours: Sequence[QuietHours], zone: ZoneInfo, decided_at: datetime
) -> Window | None:
    """Return the first gap between quiet stretches."""
    begin, end = decided_at, decided_at + _DAY
    first = decided_at.astimezone(zone).date() - _DAY
    stretches = sorted(
        stretch
        for each in quiet_hours
        for offset in range(4)
        if (stretch := _place(each, first + offset * _DAY, zone)) is not None
    )
    for quiet_from, quiet_until in stretches:
        if min(quiet_from, end) - begin >= LEAST_WINDOW:
            return begin, min(quiet_from, end)
        begin = max(begin, quiet_until)
    return (begin, end) if end - begin >= LEAST_WINDOW else None


def _place(quiet: QuietHours, day: date, zone: ZoneInfo) -> Window | None:
    """Return the quiet stretch that begins on a local day, UTC; None on other weekdays."""
    if quiet.weekdays and WEEKDAYS[day.weekday()] not in quiet.weekdays:
        return None
    last = day if quiet.end > quiet.begin else day + _DAY
    return (
        datetime.combine(day, quiet.begin, zone).astimezone(UTC),
        # An hour that comes twice is quiet until it ends for the second time.
        datetime.combine(last, quiet.end, zone).replace(fold=1).astimezone(UTC),
    )
