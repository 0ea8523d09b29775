"""What somebody should hear of, told once each: by webhook, e-mail or whatever apprise speaks.

Reads: lake monitoring, promotions, champion_changes, night_pace, alerts. Writes: lake alerts,
messages. Of what failed no message repeats the error's text, which may name customers.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dataframely as dy
import polars as pl

from orchestration.lake import Lake
from orchestration.settings import Settings, read_channels

TABLE = "alerts"
_REMEMBERED_DAYS, _RETRIED_DAYS = 400, 7


class Alerts(dy.Schema):
    """What somebody should hear of: one row each, once, whatever runs again.

    ``kind``: failure, late_table, refused_promotion, awaits_approval, withdrawn_champion, budget,
    drift. ``told``: marks of the channels that took it, which say nothing of their addresses.
    """

    kind = dy.String(primary_key=True)
    subject = dy.String(primary_key=True)
    text = dy.String(nullable=False)
    found_at = dy.Datetime(nullable=False)
    told = dy.List(dy.String(), nullable=False)


@dataclass(frozen=True)
class Alert:
    """One thing to hear of; ``kind`` and ``subject`` say whether it was told before."""

    kind: str
    subject: str
    text: str


def find_alerts(lake: Lake, night: date) -> list[Alert]:
    """Return what a night's tables give cause for.

    Parameters
    ----------
    lake
        With the night's monitoring.
    night
        The decision date.

    Returns
    -------
    list
        Of drift, the budget, promotions that were refused or wait, champions that were withdrawn.
    """
    return [
        *_find_drift(lake, night),
        *_find_budget(lake, night),
        *_find_refusals(lake, night),
        *_find_withdrawals(lake, night),
    ]


def tell(
    lake: Lake,
    day: date,
    alerts: Sequence[Alert],
    channels: Sequence[str],
    *,
    programme: str,
    say: Callable[[str], None],
) -> pl.DataFrame:
    """Keep new alerts, and send to each channel what it was not told in the last week.

    A channel that doesn't answer holds nothing up: what it should have told is sent the next time.

    Parameters
    ----------
    lake
        Where they are kept.
    day
        Of the alerts.
    alerts
        Those found before are left out.
    channels
        URLs as apprise reads them; none: alerts are kept, nobody is told.
    programme
        Whose name the messages carry.
    say
        Called with a line for what went wrong.

    Returns
    -------
    pl.DataFrame
        The day's ``Alerts``.
    """
    with lake.hold(TABLE, day):
        kept = lake.read(TABLE, day) if lake.has(TABLE, day) else Alerts.create_empty()
        known, now = _list_known(lake, day), datetime.now(UTC).replace(tzinfo=None)
        found = {(each.kind, each.subject): each for each in reversed(alerts)}
        new = [
            {**vars(each), "found_at": now, "told": []}
            for key, each in reversed(found.items())
            if key not in known
        ]
        table = pl.concat([kept, pl.DataFrame(new, schema=kept.schema)])
        lake.write(table, TABLE, day, schema=Alerts)
    since = day - timedelta(days=_RETRIED_DAYS)
    for each in lake.dates(TABLE):
        if each >= since:
            _send_open(lake, each, channels, programme=programme, say=say)
    return lake.read(TABLE, day)


def _send_open(
    lake: Lake,
    day: date,
    channels: Sequence[str],
    *,
    programme: str,
    say: Callable[[str], None],
) -> None:
    """Send a day's alerts to the channels that were not told yet."""
    marks = {hashlib.sha256(each.encode()).hexdigest()[:8]: each for each in channels}
    with lake.hold(TABLE, day):
        rows = lake.read(TABLE, day).rows(named=True)
        before = [len(row["told"]) for row in rows]
        for row in rows:
            title = f"{programme}: {row['kind'].replace('_', ' ')}"
            for mark, channel in marks.items():
                if mark in row["told"]:
                    continue
                if _send(title, row["text"], channel):
                    row["told"] = [*row["told"], mark]
                else:
                    say(f"an alert ({row['kind']}) could not be sent: it is tried again")
        if [len(row["told"]) for row in rows] != before:
            table = pl.DataFrame(rows, schema=Alerts.create_empty().schema)
            lake.write(table, TABLE, day, schema=Alerts)


@contextmanager
def tell_of_failure(settings: Settings, what: str) -> Iterator[None]:
    """Tell that what is done meanwhile failed; the error goes on as it is.

    Parameters
    ----------
    settings
        The state folder.
    what
        The command, for the message.
    """
    try:
        yield
    except Exception as error:
        # Whatever it is, somebody hears of it, and it goes on.
        try:
            _tell_failure(settings, what, error)
        except Exception as other:
            # A disk that takes no more takes no alert: the first error is the one to see.
            print(f"  nobody could be told of it ({type(other).__name__})", flush=True)
        raise


def _tell_failure(settings: Settings, what: str, error: Exception) -> None:
    alert = Alert(
        "failure",
        f"{what} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        f"{what} failed ({type(error).__name__}); what was printed says why. Nothing that was "
        "sealed is changed: mend it and run the same command again.",
    )
    lake, programme = Lake(root=str(settings.lake)), settings.programme().name
    today = datetime.now(UTC).date()
    tell(lake, today, [alert], read_channels(), programme=programme, say=print)


def find_late_table(lake: Lake, now: datetime, deadline: str) -> Alert | None:
    """Return that today's table is late, None while it isn't.

    Parameters
    ----------
    lake
        Where tables are sealed.
    now
        UTC.
    deadline
        As 06:00, UTC.
    """
    sealed = lake.dates("assignment_table")
    today = now.date()
    if not sealed or sealed[-1] >= today or f"{now:%H:%M}" < deadline:
        return None
    return Alert(
        "late_table",
        str(today),
        f"The table of {today} is not there at {deadline} UTC; the newest is of {sealed[-1]}. "
        "Look at the run in Dagster; make nightly decides the night by hand.",
    )


def _send(title: str, text: str, channel: str) -> bool:
    """Send one message to one channel; whether it took it."""
    import apprise

    # Its own log may repeat addresses, which carry passwords.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    sender = apprise.Apprise()
    return bool(sender.add(channel)) and bool(sender.notify(title=title, body=text))


def _list_known(lake: Lake, day: date) -> set[tuple[str, str]]:
    """Return what was found in the last year."""
    days = [each for each in lake.dates(TABLE) if each >= day - timedelta(days=_REMEMBERED_DAYS)]
    if not days:
        return set()
    found = lake.scan(TABLE, since=days[0]).select("kind", "subject").collect()
    return set(found.iter_rows())


def _find_drift(lake: Lake, night: date) -> Iterator[Alert]:
    if not lake.has("monitoring", night):
        return
    alarms = lake.read("monitoring", night).filter("is_alarm")
    if alarms.height:
        what = ", ".join(f"{row['signal']} ({row['subject']})" for row in alarms.to_dicts())
        text = f"Night of {night}: {alarms.height} signals alarm: {what}. See docs/operating.md."
        yield Alert("drift", str(night), text)


def _find_budget(lake: Lake, night: date) -> Iterator[Alert]:
    if not lake.has("night_pace", night):
        return
    pace = lake.read("night_pace", night).row(0, named=True)
    if pace["steering"] == "stopped":
        text = (
            f"Night of {night}: what was paid and is out uses up the budget until "
            f"{pace['period_end']}; only exploration goes on."
        )
        # Once a period.
        yield Alert("budget", f"stopped until {pace['period_end']}", text)


def _find_refusals(lake: Lake, night: date) -> Iterator[Alert]:
    for day in _list_recent(lake, "promotions", night):
        for row in lake.read("promotions", day).filter(~pl.col("is_promoted")).to_dicts():
            candidate, is_proven = row["candidate_version"], _is_proven(lake, day)
            kind = "awaits_approval" if is_proven else "refused_promotion"
            text = f"Version {candidate} is not promoted ({day}): {row['reason']}"
            yield Alert(kind, f"{candidate} {day}", text)


def _is_proven(lake: Lake, day: date) -> bool:
    """Return whether the gate passed, so that somebody's word is waited for."""
    if not lake.has("evaluation_record", day):
        return False
    return bool(lake.read("evaluation_record", day)["is_passed"][0])


def _find_withdrawals(lake: Lake, night: date) -> Iterator[Alert]:
    for day in _list_recent(lake, "champion_changes", night):
        changes = lake.read("champion_changes", day).filter(pl.col("cause") == "demoted")
        for row in changes.to_dicts():
            text = f"The champion was taken back on {day}: {row['reason']}"
            yield Alert("withdrawn_champion", f"{row['from_version']} {day}", text)


def _list_recent(lake: Lake, table: str, night: date) -> list[date]:
    """Return a table's days of the last week."""
    return [day for day in lake.dates(table) if night - timedelta(days=7) <= day <= night]
