"""One night from a landed delivery to its sealed table: what make nightly runs, job after job.

Reads: landing, lake. Writes: standard output; the jobs write the rest.
"""

from collections.abc import Mapping
from datetime import date, timedelta

import dagster as dg

from ml.core.errors import LiftloopError
from orchestration.catch_up import find_lost_build, find_missing_nights
from orchestration.lake import Lake
from orchestration.run_jobs import clear_lost_runs, run_job
from orchestration.settings import Settings
from orchestration.summary import summarise_night

TRAINING_DAYS = 7


def run_night(settings: Settings, night: date, *, emission: Mapping[str, bool]) -> str:
    """Catch up, train if due, decide a night that has landed.

    Parameters
    ----------
    settings
        The state folder; the caller holds it.
    night
        The decision date.
    emission
        AssignmentConfig's fields.

    Returns
    -------
    str
        The night's summary.

    Raises
    ------
    LiftloopError
        If a job failed; the reason was printed where it happened.
    """
    lake = Lake(root=str(settings.lake))
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        _clear_up(instance, settings)
        _catch_up(instance, settings, before=night)
        if not lake.has("assignment_table", night):
            _train_if_due(instance, lake, settings, night)
        run_job(
            instance,
            "nightly",
            night=night,
            config={"ops": {"assignment": {"config": dict(emission)}}},
        )
    return summarise_night(lake, settings.programme(), night)


def restore(settings: Settings) -> None:
    """Build what is lost or changed anew, up to the newest ingested night.

    Parameters
    ----------
    settings
        The state folder; the caller holds it.
    """
    ingested = Lake(root=str(settings.lake)).dates("ingestion_counts")
    if not ingested:
        return
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        _clear_up(instance, settings)
        _catch_up(instance, settings, before=ingested[-1] + timedelta(days=1))


def _clear_up(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Check that MLflow answers; mark runs whose process is gone as failed, here and there."""
    from ml.tracking.runs import check_tracking, end_lost_runs

    check_tracking(settings.tracking_uri)
    lost = clear_lost_runs(instance)
    for run_id in lost:
        print(f"  run {run_id} had been killed: marked as failed, its slots freed")
    if lost:
        end_lost_runs(settings.tracking_uri, lost)


def _catch_up(instance: dg.DagsterInstance, settings: Settings, *, before: date) -> None:
    """Build what is gone from the warehouse, ingest what is missing or changed before a night."""
    missing, causes = find_missing_nights(settings, before=before)
    # Nights that are ingested again are built by that.
    lost = [day for day in find_lost_build(settings) if not missing or day < missing[0]]
    if lost:
        print("  the warehouse is gone: built anew from the lake")
        run_job(instance, "rebuild", night=lost[0], until=lost[-1])
    for cause in causes[:8]:
        print(f"  {cause}: ingested again from {missing[0]} on")
    if missing:
        run_job(instance, "history", night=missing[0], until=missing[-1])


def _train_if_due(
    instance: dg.DagsterInstance, lake: Lake, settings: Settings, night: date
) -> None:
    """Train, or act on a record that a killed run left.

    A failure leaves the champion, and the night goes on with it.
    """
    records = lake.dates("evaluation_record")
    is_pending = bool(records) and not lake.has("promotions", records[-1])
    if not is_pending and not _is_training_due(lake, settings, night):
        return
    try:
        run_job(instance, "promotion" if is_pending else "weekly_training")
    except LiftloopError as error:
        print(f"  training did not end ({error}); the night goes on with what there is")


def _is_training_due(lake: Lake, settings: Settings, night: date) -> bool:
    """Return whether a week has passed since the last gate, and there is something to learn."""
    records = lake.dates("evaluation_record")
    if records:
        return (night - records[-1]).days > TRAINING_DAYS
    decided = [
        day for day in lake.dates("logged_decisions") if lake.read("logged_decisions", day).height
    ]
    return bool(decided) and (night - decided[0]).days > settings.programme().matured_after_days
