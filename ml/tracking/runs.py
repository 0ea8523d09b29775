"""MLflow runs: parameters, metrics and figures of one training or evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import mlflow


@dataclass(frozen=True)
class TrackedRun:
    """An active MLflow run."""

    run_id: str

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters."""
        mlflow.log_params(dict(params))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log metrics; names may hold letters, digits, '_', '.', '/', '-'."""
        mlflow.log_metrics(dict(metrics))

    def log_figure(self, figure: matplotlib.figure.Figure, name: str) -> None:
        """Log a figure as a PNG artifact."""
        mlflow.log_figure(figure, name)

    def log_text(self, text: str, name: str) -> None:
        """Log a text artifact."""
        mlflow.log_text(text, name)


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
        yield TrackedRun(run.info.run_id)


def _open_experiment(tracking_uri: str, experiment: str) -> None:
    """Make the experiment current; on the embedded SQLite its artifacts lie beside the file.

    Without this MLflow would put them into the current folder. A server decides for itself.
    """
    path = tracking_uri.removeprefix("sqlite:///")
    if path != tracking_uri and mlflow.get_experiment_by_name(experiment) is None:
        mlflow.create_experiment(experiment, artifact_location=f"{Path(path).parent}/artifacts")
    mlflow.set_experiment(experiment)
