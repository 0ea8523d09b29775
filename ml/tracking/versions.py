"""Versions of registered models whose files carry their hash: found again, fetched, verified."""

from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from ml.core.errors import PromotionError
from ml.core.hashing import hash_folder


def find_tagged(
    client: MlflowClient, name: str, tags: Mapping[str, str], *, hashed: str
) -> str | None:
    """Return the newest version with all these tags, None if there is none.

    Parameters
    ----------
    client, name
        Of the registered model.
    tags
        Wanted.
    hashed
        Which of them is the files' hash.
    """
    same_files = f"name = '{name}' and tags.{hashed} = '{tags[hashed]}'"
    same = [
        int(found.version)
        for found in client.search_model_versions(same_files)
        if tags.items() <= found.tags.items()
    ]
    return str(max(same)) if same else None


def fetch_version(
    client: MlflowClient, name: str, version: str, scratch: Path, *, artifact: str
) -> tuple[Path, Mapping[str, str]]:
    """Download a version's files and verify that they are those that were registered.

    Parameters
    ----------
    client, name, version
        Of the registered model.
    scratch
        Where to put them.
    artifact
        Folder of the model's artifacts; its hash is the tag '<artifact>_hash'.

    Returns
    -------
    tuple
        The folder, and the version's tags.

    Raises
    ------
    PromotionError
        If the files are gone, or their hash is not the registered one.
    """
    registered = client.get_model_version(name, version)
    local = mlflow.artifacts.download_artifacts(
        artifact_uri=f"models:/{name}/{version}", dst_path=str(scratch)
    )
    folder = Path(local) / "artifacts" / artifact
    if not folder.is_dir():
        raise PromotionError(
            f"{name} version {version}: its files are gone from {registered.source}. Put MLflow's "
            "artifacts back where they were (a state folder can't be moved), or roll back to "
            "another version"
        )
    if hash_folder(folder) != registered.tags.get(f"{artifact}_hash"):
        raise PromotionError(
            f"{name} version {version}: its files' hash is not the registered one; they were "
            "changed after registration. Roll back to another version"
        )
    return folder, dict(registered.tags)
