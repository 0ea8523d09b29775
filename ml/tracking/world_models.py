"""The registry of world models: versions of ``world_model``, none with an alias.

A policy names the version that it was fitted with, so no version is 'the' current one; the newest
is what the next training learns with.
"""

from collections.abc import Mapping
from datetime import date
from importlib.metadata import version as version_of
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema

from ml.core.errors import PromotionError
from ml.core.hashing import hash_folder
from ml.core.schemas import CustomerDays
from ml.tracking.versions import fetch_version, find_tagged
from ml.world_model.model import WorldModel, load_world_model, save_world_model

MODEL_NAME = "world_model"
_ARTIFACT, _HASH = "world", "world_hash"
_MODEL_FILE = Path(__file__).with_name("belief_model.py")
_COLUMN_TYPES = {"Int64": "double", "Float64": "double", "Boolean": "boolean", "Date": "datetime"}


class WorldModelRegistry:
    """Registered world models in one MLflow registry."""

    def __init__(self, tracking_uri: str) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.set_registry_uri(tracking_uri)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(self, model: WorldModel, *, tags: Mapping[str, str]) -> str:
        """Log a world model inside the active MLflow run and register it.

        Parameters
        ----------
        model
            Saved as safetensors and JSON, loaded through models-from-code: no pickle.
        tags
            For the version, beside its hash.

        Returns
        -------
        str
            The new version, or the one that a killed run registered already.
        """
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / _ARTIFACT
            save_world_model(model, folder)
            every_tag = {**tags, _HASH: hash_folder(folder)}
            version = find_tagged(self._client, MODEL_NAME, every_tag, hashed=_HASH)
            if version is None:
                logged = mlflow.pyfunc.log_model(
                    name=MODEL_NAME,
                    python_model=str(_MODEL_FILE),
                    artifacts={_ARTIFACT: str(folder)},
                    signature=_write_signature(model),
                    pip_requirements=[
                        f"{name}=={version_of(name)}"
                        for name in ("numpy", "polars", "safetensors", "torch")
                    ],
                )
                registered = mlflow.register_model(logged.model_uri, MODEL_NAME, tags=every_tag)
                version = str(registered.version)
        return version

    def load(self, version: str) -> WorldModel:
        """Load a version and verify that its files are those that were registered.

        Raises
        ------
        PromotionError
            If there is no such version, the files are gone, or their hash is not the registered
            one.
        """
        with TemporaryDirectory() as scratch:
            try:
                folder, _ = fetch_version(
                    self._client, MODEL_NAME, version, Path(scratch), artifact=_ARTIFACT
                )
            except MlflowException as error:
                raise PromotionError(f"no version {version} of {MODEL_NAME}: {error}") from error
            return load_world_model(folder)

    def read_last_date(self, version: str) -> date:
        """Return the last day that a version was trained on."""
        tags = self._client.get_model_version(MODEL_NAME, version).tags
        return date.fromisoformat(tags["last_date"])

    def newest(self) -> str | None:
        """Return the newest version, None if there is none."""
        found = self._client.search_model_versions(f"name = '{MODEL_NAME}'")
        return str(max(int(each.version) for each in found)) if found else None


def _write_signature(model: WorldModel) -> ModelSignature:
    """Return the model's signature: customer_days rows in, a belief and a plausibility out."""
    inputs = [
        ColSpec(_COLUMN_TYPES.get(str(column.dtype), "string"), name, required=not column.nullable)
        for name, column in CustomerDays.columns().items()
    ]
    outputs = [ColSpec("double", f"belief_{unit}") for unit in range(model.n_belief)]
    return ModelSignature(
        inputs=Schema(inputs), outputs=Schema([*outputs, ColSpec("double", "plausibility")])
    )
