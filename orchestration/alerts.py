"""What somebody should hear of, told once each: by webhook, e-mail or whatever apprise speaks.

Reads: lake monitoring, promotions, champion_changes, night_pace, alerts. Writes: lake alerts,
messages. No message names a customer or repeats an error's text, which may.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dataframely as dy
import polars as pl

from orchestration.lake import Lake
from orchestration.settings import Settings, read_channels

TABLE = "alerts"
_REMEMBERED_DAYS = 60


class Alerts(dy.Schema):
    """What somebody should hear of: one row each, once, whatever runs again.

    ``kind``: failure, late_table, refused_promotion, withdrawn_champion, budget, drift.
    ``sent_at`` is null until every channel took it.
    """

    kind = dy.String(primary_key=True)
    subject = dy.String(primary_key=True)
    text = dy.String(nullable=False)
    found_at = dy.Datetime(nullable=False)
    sent_at = dy.Datetime(nullable=True)


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
        Of drift, the budget, a refused promotion, a champion that was withdrawn.
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
    """Keep new alerts and send what was not sent yet.

    A channel that doesn't answer holds nothing up: what it should have told is sent the next time.

    Parameters
    ----------
    lake
        Where they are kept.
    day
        Of the alerts.
    alerts
        Those told before are left out.
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
        known = _list_known(lake, day)
        now = datetime.now(UTC).replace(tzinfo=None)
        new = [each for each in alerts if (each.kind, each.subject) not in known]
        rows = kept.rows(named=True) + [
            {**vars(each), "found_at": now, "sent_at": None} for each in dict.fromkeys(new)
        ]
        for row in rows:
            if row["sent_at"] is None and channels:
                title = f"{programme}: {row['kind'].replace('_', ' ')}"
                if _send(title, row["text"], channels):
                    row["sent_at"] = now
                else:
                    say(f"an alert ({row['kind']}) could not be sent: it is tried again")
        table = pl.DataFrame(rows, schema=kept.schema)
        lake.write(table, TABLE, day, schema=Alerts)
    return table


def tell_failure(settings: Settings, what: str, error: Exception) -> None:
    """Tell that a command failed; the night is still to be decided."""
    kind = type(error).__name__
    alert = Alert(
        "failure",
        f"{what} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        f"{what} failed ({kind}); what was printed says why. Nothing that was sealed is changed: "
        "mend it and run the same command again.",
    )
    today = datetime.now(UTC).date()
    lake, programme = Lake(root=str(settings.lake)), settings.programme().name
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


def _send(title: str, text: str, channels: Sequence[str]) -> bool:
    """Send one message to every channel; whether all took it."""
    import apprise

    # Its own log may repeat addresses, which carry passwords.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    sender = apprise.Apprise()
    are_known = [sender.add(each) for each in channels]
    # Those that are known are told whatever the others are.
    return bool(sender.notify(title=title, body=text)) and all(are_known)


def _list_known(lake: Lake, day: date) -> set[tuple[str, str]]:
    """Return what was found in the last weeks."""
    since = day - timedelta(days=_REMEMBERED_DAYS)
    days = [each for each in lake.dates(TABLE) if each >= since]
    return {row for each in days for row in lake.read(TABLE, each)["kind", "subject"].iter_rows()}


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
    days = [day for day in lake.dates("promotions") if night - timedelta(days=7) <= day <= night]
    for day in days[-1:]:
        for row in lake.read("promotions", day).filter(~pl.col("is_promoted")).to_dicts():
            candidate = row["candidate_version"]
            text = f"Version {candidate} is not promoted ({day}): {row['reason']}"
            yield Alert("refused_promotion", f"{candidate} {day}", text)


def _find_withdrawals(lake: Lake, night: date) -> Iterator[Alert]:
    days = [day for day in lake.dates("champion_changes") if day <= night]
    for day in days[-1:]:
        changes = lake.read("champion_changes", day).filter(pl.col("cause") == "demoted")
        for row in changes.to_dicts():
            text = f"The champion was taken back on {day}: {row['reason']}"
            yield Alert("withdrawn_champion", f"{row['from_version']} {day}", text)
