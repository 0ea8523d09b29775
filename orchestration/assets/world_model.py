"""Learn, on the GPU location's workers: the world model, trained weekly.

Reads: lake customer_days. Writes: MLflow runs, versions of world_model; checkpoints while it runs.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import polars as pl

from orchestration.assets.embedding import embed_figure, tabulate
from orchestration.lake import Lake
from orchestration.resources import Checkpoints, Mlflow, ProgrammeFile

_HEALTH = "health"


@dg.asset(
    deps=["customer_days"],
    group_name="learn",
    kinds={"torch", "mlflow"},
    pool="gpu",
    check_specs=[
        dg.AssetCheckSpec(
            _HEALTH,
            asset="world_model",
            description="Units, layers, chains, mean field and overfitting are within their limits",
        )
    ],
)
def world_model(
    context: dg.AssetExecutionContext,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    checkpoints: Checkpoints,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Train a Boltzmann machine over customer-days, on a GPU if there; register it if healthy."""
    from ml.pipeline.believe import train_world_model
    from ml.plots.world_model import plot_beliefs, plot_chains, plot_learning, plot_weights
    from ml.tracking.runs import track_run
    from ml.tracking.world_models import WorldModelRegistry
    from ml.world_model.fitting import list_gates

    days = lake.scan("customer_days").collect()
    folder = Path(checkpoints.root)
    fitted = train_world_model(
        days,
        programme=programme.read(),
        checkpoints=folder,
        progress=lambda epoch: context.log.info(
            f"epoch {epoch.epoch}: free energy {epoch.training_free_energy:.2f}, of other "
            f"customers {epoch.validation_free_energy:.2f} nats a row, {epoch.seconds:.1f} s"
        ),
    )
    newest = fitted.model.notes["last_date"]
    network, names = fitted.model.network, fitted.model.encoder.layout.names
    curve = pl.DataFrame([asdict(epoch) for epoch in fitted.curve])
    gates = list_gates(fitted.gates)
    figures = {
        "learning_curve": plot_learning(curve),
        "weights": plot_weights(network.weights[0].numpy(), names),
        "beliefs": plot_beliefs(fitted.belief),
        "chains_against_data": plot_chains(fitted.data_mean, fitted.chain_mean, names),
    }
    version = None
    with track_run(
        mlflow.tracking_uri,
        experiment=mlflow.experiment,
        name=f"world_model {newest}",
        tags={"dagster/run_id": context.run_id, "dagster/asset": "world_model"},
    ) as run:
        run.log_params(
            {
                "first_date": fitted.model.notes["first_date"],
                "last_date": newest,
                "n_rows": fitted.model.notes["n_rows"],
                "device": fitted.model.notes["device"],
                "visible_units": len(names),
                **{f"training.{name}": each for name, each in asdict(fitted.config).items()},
            }
        )
        for epoch in fitted.curve:
            run.log_metrics(
                {
                    "training_free_energy": epoch.training_free_energy,
                    "validation_free_energy": epoch.validation_free_energy,
                    "moment_error": epoch.moment_error,
                },
                step=epoch.epoch,
            )
        run.log_metrics({f"health.{gate.name}": gate.value for gate in fitted.gates})
        for name, figure in figures.items():
            run.log_figure(figure, f"{name}.png")
        if not fitted.failed:
            version = WorldModelRegistry(mlflow.tracking_uri).register(
                fitted.model, tags={"last_date": str(newest)}
            )
    shutil.rmtree(folder, ignore_errors=True)
    if version is None:
        told = ", ".join(f"{gate.name} {gate.value:.3g}" for gate in fitted.failed)
        context.log.warning(f"the world model is not registered, beyond its limits: {told}")
    yield dg.MaterializeResult(
        metadata={
            "version": version or "not registered",
            "mlflow_run": mlflow.link(run.page),
            "n_rows": fitted.model.notes["n_rows"],
            "device": fitted.model.notes["device"],
            "layers_dropped": fitted.n_dropped,
            "health": tabulate(gates),
            **{name: embed_figure(figure) for name, figure in figures.items()},
        },
        data_version=None if version is None else dg.DataVersion(version),
    )
    yield dg.AssetCheckResult(
        check_name=_HEALTH,
        passed=not fitted.failed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "gates": tabulate(gates),
            **{gate.name: float(gate.value) for gate in fitted.gates},
        },
    )
