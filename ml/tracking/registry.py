"""The policy registry: versions of ``assignment_policy``, its champion, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, Schema

from ml.core.contexts import BELIEF, HISTORY, PLAUSIBILITY
from ml.core.errors import PromotionError
from ml.core.hashing import hash_folder
from ml.core.programme import Programme
from ml.core.schemas import CustomerFeatures
from ml.pipeline.policies import TREE, BudgetedPolicy
from ml.pipeline.policy_files import load_policy, save_policy
from ml.tracking.versions import fetch_version, find_tagged

MODEL_NAME = "assignment_policy"
CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous_champion"
PROVEN = ("passed", "first_champion")
_MODEL_FILE = Path(__file__).with_name("policy_model.py")
_COLUMN_TYPES = {"Int64": "double", "Float64": "double", "Boolean": "boolean", "Date": "datetime"}


@dataclass(frozen=True)
class RegisteredPolicy:
    """One version, loaded and verified."""

    version: str
    policy: BudgetedPolicy
    policy_hash: str
    tags: Mapping[str, str]


class PolicyRegistry:
    """Registered versions of the assignment policy in one MLflow registry."""

    def __init__(self, tracking_uri: str) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.set_registry_uri(tracking_uri)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(
        self, policy: BudgetedPolicy, *, programme: Programme, tags: Mapping[str, str]
    ) -> RegisteredPolicy:
        """Log a policy as a model inside the active MLflow run and register it.

        The version carries its tags from the moment that it exists, and one with the same tags
        and files is taken instead of another: a run that was killed leaves no half version, and
        running it again doesn't count on.

        Parameters
        ----------
        policy
            Saved as JSON and LightGBM text, loaded through models-from-code: no pickle.
        programme
            Saved with it, so that the version scores as it was fitted.
        tags
            For the version, beside its kind and hash.

        Returns
        -------
        RegisteredPolicy
            The new version, or the one that a killed run registered already.
        """
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "policy"
            save_policy(policy, folder)
            (folder / "programme.json").write_text(programme.to_json())
            policy_hash = hash_folder(folder)
            every_tag = {**tags, "kind": policy.kind, "policy_hash": policy_hash}
            if policy.belief_version is not None:
                every_tag["belief_version"] = policy.belief_version
            if policy.needs_histories:
                every_tag["needs_histories"] = "true"
            version = find_tagged(self._client, MODEL_NAME, every_tag, hashed="policy_hash")
            if version is None:
                model = mlflow.pyfunc.log_model(
                    name=f"{policy.kind}_policy",
                    python_model=str(_MODEL_FILE),
                    artifacts={"policy": str(folder)},
                    signature=_write_signature(policy),
                    pip_requirements=_list_requirements(policy),
                )
                registered = mlflow.register_model(model.model_uri, MODEL_NAME, tags=every_tag)
                version = str(registered.version)
        return RegisteredPolicy(version, policy, policy_hash, every_tag)

    def load(self, version: str) -> RegisteredPolicy:
        """Load a version and verify that its files are those that were registered.

        Raises
        ------
        PromotionError
            If the files are gone, or their hash is not the registered one.
        """
        with TemporaryDirectory() as scratch:
            folder, tags = fetch_version(
                self._client, MODEL_NAME, version, Path(scratch), artifact="policy"
            )
            policy = load_policy(folder)
        return RegisteredPolicy(version, policy, tags["policy_hash"], tags)

    def version_of(self, alias: str) -> str | None:
        """Return the version that an alias points to, None if it points nowhere."""
        found = self._find(alias)
        return None if found is None else str(found.version)

    def load_champion(self) -> RegisteredPolicy | None:
        """Load the champion, None before there is one.

        Raises
        ------
        PromotionError
            If the champion carries no passed gate: nobody may set the alias by hand.
        """
        version = self.version_of(CHAMPION)
        if version is None:
            return None
        champion = self.load(version)
        if champion.tags.get("ope_gate") not in PROVEN:
            raise PromotionError(
                f"the champion, version {version}, carries no passed gate record: it was not "
                "promoted by the gate. Point the alias back to the version tagged ope_gate=passed"
            )
        return champion

    def mark_candidate(self, version: str) -> None:
        """Point the candidate alias at a version."""
        self._client.set_registered_model_alias(MODEL_NAME, CANDIDATE, version)

    def make_champion(self, version: str, *, ope_gate: str, evidence: Mapping[str, str]) -> None:
        """Point the champion alias at a version, the previous one kept for rollback.

        Parameters
        ----------
        version
            The new champion.
        ope_gate
            'passed' or 'first_champion'.
        evidence
            Tags that say why.
        """
        previous = self.version_of(CHAMPION)
        for key, value in {**evidence, "ope_gate": ope_gate}.items():
            self._client.set_model_version_tag(MODEL_NAME, version, key, value)
        if previous is not None and previous != version:
            self._client.set_registered_model_alias(MODEL_NAME, PREVIOUS, previous)
        self._client.set_registered_model_alias(MODEL_NAME, CHAMPION, version)

    def find_replaced(self) -> str | None:
        """Return the version that the champion replaced, None without one or if it is withdrawn."""
        champion = self._find(CHAMPION)
        replaced = None if champion is None else champion.tags.get("replaced")
        if replaced is None:
            return None
        try:
            is_withdrawn = "withdrawn" in self.read_tags(replaced)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return None if is_withdrawn else str(replaced)

    def withdraw_champion(self, *, to: str | None, reason: str) -> str:
        """Point the champion alias back, and mark the version that it leaves as withdrawn.

        Parameters
        ----------
        to
            The version to go back to; None: the one that the champion replaced.
        reason
            Tag of the withdrawn version, which no gate promotes again.

        Returns
        -------
        str
            The champion now.

        Raises
        ------
        PromotionError
            If there is no such version, it is the champion, its files were changed, or no gate
            passed it.
        """
        champion = self._find(CHAMPION)
        if champion is None:
            raise PromotionError("there is no champion yet: nothing to roll back")
        version = to or champion.tags.get("replaced")
        if version is None:
            raise PromotionError(
                f"version {champion.version} replaced no other: there is nothing to roll back to; "
                "make freeze stops all offers"
            )
        if to is None and self.find_replaced() is None:
            raise PromotionError(
                f"version {version}, which the champion replaced, was withdrawn or deleted: name "
                "the one to go back to, VERSION="
            )
        if version == str(champion.version):
            raise PromotionError(f"version {version} is the champion already")
        try:
            target = self.load(version)
        except MlflowException as error:
            raise PromotionError(f"there is no version {version} of {MODEL_NAME}") from error
        if target.tags.get("ope_gate") not in PROVEN:
            raise PromotionError(
                f"version {version} never passed the gate: go back to one tagged ope_gate=passed"
            )
        self.tag(str(champion.version), {"withdrawn": reason})
        if "withdrawn" in target.tags:
            self._client.delete_model_version_tag(MODEL_NAME, version, "withdrawn")
        self._client.set_registered_model_alias(MODEL_NAME, CHAMPION, version)
        before = target.tags.get("replaced")
        if before is not None:
            self._client.set_registered_model_alias(MODEL_NAME, PREVIOUS, before)
        elif self._find(PREVIOUS) is not None:
            self._client.delete_registered_model_alias(MODEL_NAME, PREVIOUS)
        return version

    def read_tags(self, version: str) -> Mapping[str, str]:
        """Return a version's tags."""
        return dict(self._client.get_model_version(MODEL_NAME, version).tags)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(MODEL_NAME, version, key, value)

    def _find(self, alias: str) -> ModelVersion | None:
        try:
            return self._client.get_model_version_by_alias(MODEL_NAME, alias)
        except MlflowException as error:
            if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                return None
            raise


def _list_requirements(policy: BudgetedPolicy) -> list[str]:
    """Return what a policy needs to score, at the versions that are installed."""
    names = ["lightgbm", "numba", "numpy", "polars", "scipy"]
    if policy.kind in ("agent", TREE):
        names += ["safetensors", "torch"]
    if policy.kind == TREE:
        from ml.pipeline.tree_scorer import list_requirements

        names += list_requirements(policy.scorer)
    # A build's local mark, such as +cpu, is of no package index.
    return [f"{name}=={version_of(name).partition('+')[0]}" for name in names]


def _write_signature(policy: BudgetedPolicy) -> ModelSignature:
    """Return the model's signature: customer_features rows in, a probability per action out."""
    inputs = [
        ColSpec(_COLUMN_TYPES.get(str(column.dtype), "string"), name, required=not column.nullable)
        for name, column in CustomerFeatures.columns().items()
    ]
    if policy.belief_version is not None:
        # Null where a customer has none.
        for name, kind in ((BELIEF, Array(DataType.double)), (PLAUSIBILITY, DataType.double)):
            inputs.append(ColSpec(kind, f"{name}{policy.belief_version}", required=False))
    if policy.needs_histories:
        inputs.append(ColSpec(Array(DataType.string), HISTORY, required=False))
    outputs = [ColSpec("double", action) for action in policy.actions.action_ids]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
