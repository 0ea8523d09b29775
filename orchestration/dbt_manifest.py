"""dbt's manifest: parsed once per version of the dbt project, kept in the state folder.

Reads: dbt_project/. Writes: <home>/dbt/manifest-<hash>.json.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from ml.core.errors import ContractError
from orchestration.settings import DBT_EXECUTABLE, DBT_PROJECT, prepare_home, read_settings

_PARTS = ("dbt_project.yml", "profiles.yml", "models", "macros", "tests")


def find_manifest() -> Path:
    """Return the manifest of the dbt project as it is, parsing it if it changed.

    LIFTLOOP_DBT_MANIFEST names a manifest baked into an image instead.

    Returns
    -------
    Path
        Of manifest.json.

    Raises
    ------
    ContractError
        If dbt can't parse the project; the message is dbt's own.
    """
    settings = read_settings()
    baked = settings.baked_manifest
    if baked is not None:
        return baked
    prepare_home(settings)
    manifest = settings.dbt_target / f"manifest-{_hash_project()}.json"
    if manifest.exists():
        return manifest
    with FileLock(settings.dbt_target / "parse.lock"):
        if manifest.exists():
            return manifest
        target = settings.dbt_target / "parse"
        parsed = subprocess.run(
            [
                str(DBT_EXECUTABLE),
                "parse",
                "--project-dir",
                str(DBT_PROJECT),
                "--profiles-dir",
                str(DBT_PROJECT),
                "--target-path",
                str(target),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "LIFTLOOP_WAREHOUSE": str(settings.warehouse)},
            check=False,
        )
        if parsed.returncode:
            raise ContractError(f"dbt cannot parse dbt_project:\n{parsed.stdout}{parsed.stderr}")
        temporary = manifest.with_suffix(".tmp")
        shutil.copyfile(target / "manifest.json", temporary)
        os.replace(temporary, manifest)
    return manifest


def _hash_project() -> str:
    """Return a hash over every file of the dbt project that parsing reads."""
    digest = hashlib.sha256()
    for part in _PARTS:
        root = DBT_PROJECT / part
        files = [root] if root.is_file() else sorted(root.rglob("*"))
        for path in files:
            if path.is_file():
                digest.update(path.relative_to(DBT_PROJECT).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
