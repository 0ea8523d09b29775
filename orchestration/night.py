"""One night from a landed delivery to its sealed table: what make nightly runs, job after job.

Reads: landing, lake. Writes: standard output; the jobs write the rest.
"""

from datetime import date, timedelta
from importlib.util import find_spec

import dagster as dg

from ml.core.errors import LiftloopError
from ml.pipeline.updates import TRAINING
from orchestration.begun import BegunNight
from orchestration.catch_up import plan_catch_up
from orchestration.instance import open_instance
from orchestration.lake import Lake
from orchestration.run_jobs import clear_lost_runs, run_job
from orchestration.settings import Settings
from orchestration.summary import summarise_night
from orchestration.updates import find_due


def run_night(settings: Settings, asked: BegunNight) -> str:
    """Catch up, train if due, decide a night that has landed.

    Parameters
    ----------
    settings
        The state folder; the caller holds it.
    asked
        The night and how it is emitted.

    Returns
    -------
    str
        The night's summary.

    Raises
    ------
    LiftloopError
        If a job failed; the reason was printed where it happened.
    """
    lake, night = Lake(root=str(settings.lake)), asked.night
    emission = {"revision": asked.revision, "export_csv": asked.has_export}
    with open_instance(settings.dagster_home) as instance:
        clear_up(instance, settings)
        _catch_up(instance, settings, before=night)
        if not lake.has("assignment_table", night):
            _train_if_due(instance, lake, settings, night)
        run_job(
            instance,
            "nightly",
            night=night,
            config={"ops": {"assignment": {"config": emission}}},
        )
    return summarise_night(lake, settings.programme(), night)


def restore(settings: Settings) -> None:
    """Build what is lost or changed anew, up to the newest ingested night.

    Parameters
    ----------
    settings
        The state folder; the caller holds it.
    """
    ingested = Lake(root=str(settings.lake)).dates("ingested_nights")
    if not ingested:
        return
    with open_instance(settings.dagster_home) as instance:
        clear_up(instance, settings)
        _catch_up(instance, settings, before=ingested[-1] + timedelta(days=1))


def clear_up(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Check that MLflow answers; mark runs whose process is gone as failed, here and there."""
    from ml.tracking.runs import check_tracking, end_lost_runs

    check_tracking(settings.tracking_uri)
    for run_id in clear_lost_runs(instance):
        print(f"  run {run_id} had been killed: marked as failed, its slots freed")

    def is_running(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and not run.is_finished

    end_lost_runs(settings.tracking_uri, is_running=is_running)


def _catch_up(instance: dg.DagsterInstance, settings: Settings, *, before: date) -> None:
    """Build what is gone from the warehouse, ingest what is missing or changed before a night."""
    for due in plan_catch_up(settings, before=before):
        for cause in due.causes[:8]:
            print(f"  {cause}")
        run_job(instance, due.job, night=due.first, until=due.last)


def _train_if_due(
    instance: dg.DagsterInstance, lake: Lake, settings: Settings, night: date
) -> None:
    """Train or recalibrate, or act on a record that a killed run left.

    A failure leaves the champion, and the night goes on with it.
    """
    records = lake.dates("evaluation_record")
    is_pending = bool(records) and not lake.has("promotions", records[-1])
    job: str | None = "promotion"
    if not is_pending:
        days = settings.programme().matured_after_days
        update = find_due(lake, mode=settings.updates, night=night, matured_after_days=days)
        job = update.job
        if settings.updates == "rule":
            print(f"  {job or 'no update'}: {update.reason}")
    if job is None:
        return
    if job == TRAINING:
        _train_world_model(instance, settings)
    try:
        run_job(instance, job)
    except LiftloopError as error:
        print(f"  {job} did not end ({error}); the night goes on with what there is")


def _train_world_model(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Train the world model; without a new one the heads learn from what there is."""
    if not settings.has_world_model:
        print("  no world model is trained: LIFTLOOP_WORLD_MODEL=off")
        return
    if find_spec("torch") is None:
        print("  no world model: torch is not installed, so heads use raw features")
        return
    try:
        run_job(instance, "world_model_training")
    except LiftloopError as error:
        print(f"  the world model did not end ({error}); heads go on without a new one")
