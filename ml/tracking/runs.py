"""MLflow runs: parameters, metrics and figures of one training or evaluation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib.figure
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ml.core.errors import TrackingError
from ml.core.hashing import hash_folder


@dataclass(frozen=True)
class TrackedRun:
    """An active MLflow run; ``page`` is where MLflow's interface shows it, below its address."""

    run_id: str
    page: str

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters."""
        mlflow.log_params(dict(params))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int | None = None) -> None:
        """Log metrics; names may hold letters, digits, '_', '.', '/', '-'."""
        mlflow.log_metrics(dict(metrics), step=step)

    def log_figure(self, figure: matplotlib.figure.Figure, name: str) -> None:
        """Log a figure as a PNG artifact."""
        mlflow.log_figure(figure, name)

    def log_text(self, text: str, name: str) -> None:
        """Log a text artifact."""
        mlflow.log_text(text, name)

    def log_folder(self, folder: Path, name: str) -> None:
        """Log a folder's files, and their hash as a tag: ``fetch_folder`` finds them by it."""
        mlflow.log_artifacts(str(folder), name)
        mlflow.set_tag(f"{name}_hash", hash_folder(folder))


@contextmanager
def track_run(
    tracking_uri: str, *, experiment: str, name: str, tags: Mapping[str, str]
) -> Iterator[TrackedRun]:
    """Open an MLflow run; it is marked failed if the block raises.

    Parameters
    ----------
    tracking_uri
        SQLite file or server.
    experiment, name
        Where the run appears.
    tags
        Dagster run id, dates and hashes.

    Yields
    ------
    TrackedRun
        To log to.
    """
    mlflow.set_tracking_uri(tracking_uri)
    _open_experiment(tracking_uri, experiment)
    with mlflow.start_run(run_name=name, tags=dict(tags)) as run:
        where = run.info
        yield TrackedRun(where.run_id, f"#/experiments/{where.experiment_id}/runs/{where.run_id}")


def _open_experiment(tracking_uri: str, experiment: str) -> None:
    """Make the experiment current; on the embedded SQLite its artifacts lie beside the file.

    Without this MLflow would put them into the current folder. A server decides for itself.
    """
    path = tracking_uri.removeprefix("sqlite:///")
    if path != tracking_uri and mlflow.get_experiment_by_name(experiment) is None:
        # Another run may have made it meanwhile.
        with suppress(MlflowException):
            mlflow.create_experiment(experiment, artifact_location=f"{Path(path).parent}/artifacts")
    mlflow.set_experiment(experiment)


def fetch_folder(
    tracking_uri: str, tags: Mapping[str, str], *, name: str, scratch: Path
) -> Path | None:
    """Download the files that ``log_folder`` logged in the newest run with some tags.

    Parameters
    ----------
    tracking_uri
        SQLite file or server.
    tags
        Of the run.
    name
        Of the folder.
    scratch
        Where to put it.

    Returns
    -------
    Path
        Of the folder, None if no such run logged one.

    Raises
    ------
    TrackingError
        If its hash is not the one that was logged.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(
        experiments, wanted, max_results=1, order_by=["attributes.start_time DESC"]
    )
    logged = found[0].data.tags.get(f"{name}_hash") if found else None
    if logged is None:
        return None
    folder = Path(client.download_artifacts(found[0].info.run_id, name, str(scratch)))
    if hash_folder(folder) != logged:
        raise TrackingError(f"the files of {name} in MLflow were changed since: make them anew")
    return folder


def end_lost_runs(tracking_uri: str, *, is_running: Callable[[str], bool]) -> int:
    """Mark the MLflow runs that killed orchestration runs left open as failed.

    Parameters
    ----------
    tracking_uri
        SQLite file or server.
    is_running
        Whether the orchestration run of an id, as in the tag dagster/run_id, still runs.

    Returns
    -------
    int
        Runs that were marked.
    """
    client = MlflowClient(tracking_uri=tracking_uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    open_runs = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    lost = [
        run
        for run in open_runs
        if (starter := run.data.tags.get("dagster/run_id")) is not None and not is_running(starter)
    ]
    for run in lost:
        client.set_terminated(run.info.run_id, status="FAILED")
    return len(lost)


def check_tracking(tracking_uri: str) -> None:
    """Raise if MLflow doesn't answer.

    Raises
    ------
    TrackingError
        Naming the address, without credentials, and the remedy.
    """
    try:
        MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    # MLflow's own errors, those of its HTTP client and of its database: all mean that it's down.
    except Exception as error:
        address = urlsplit(tracking_uri)
        if address.scheme.startswith("sqlite"):
            raise TrackingError(
                f"MLflow's database {address.path} can't be used ({error}): free space or grant "
                "it, and run the night again; nothing was decided"
            ) from error
        shown = f"{address.scheme}://{address.hostname or address.path}"
        raise TrackingError(
            f"MLflow at {shown}{f':{address.port}' if address.port else ''} does not answer "
            f"({type(error).__name__}): start it, or correct MLFLOW_TRACKING_URI; nothing was "
            "decided, run the night again then"
        ) from error
