"""The registered model's code: customer_features rows in, action probabilities out.

MLflow runs this file when it loads a version (models from code), so that no pickle is stored.
"""

from pathlib import Path

import mlflow
import pandas as pd
import polars as pl
from mlflow.pyfunc import PythonModel, PythonModelContext

from ml.core.contexts import build_contexts
from ml.core.programme import read_programme
from ml.pipeline.policy_files import load_policy


class AssignmentPolicyModel(PythonModel):
    """Serves a saved policy through MLflow's pyfunc interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the policy's files."""
        folder = Path(context.artifacts["policy"])
        self._policy = load_policy(folder)
        self._programme = read_programme(folder / "programme.json")

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame) -> pd.DataFrame:
        """Return one column per action, rows summing to 1."""
        contexts = build_contexts(
            pl.from_pandas(model_input), programme=self._programme, actions=self._policy.actions
        )
        probabilities = self._policy.probabilities(contexts)
        return pd.DataFrame(probabilities, columns=list(self._policy.actions.action_ids))


mlflow.models.set_model(AssignmentPolicyModel())
