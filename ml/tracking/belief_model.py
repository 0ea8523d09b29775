"""The registered world model's code: customer_days rows in, beliefs out.

MLflow runs this file when it loads a version (models from code), so that no pickle is stored.
"""

from pathlib import Path

import mlflow
import pandas as pd
import polars as pl
from mlflow.pyfunc import PythonModel, PythonModelContext

from ml.pipeline.believe import infer_beliefs
from ml.world_model.model import load_world_model


class BeliefModel(PythonModel):
    """Serves a saved world model through MLflow's pyfunc interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model's files."""
        self._model = load_world_model(Path(context.artifacts["world"]))

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame) -> pd.DataFrame:
        """Return a column per unit of the belief, and the plausibility."""
        days = pl.from_pandas(model_input).with_columns(
            pl.col("decision_date").cast(pl.Date),
            # Signatures know no whole numbers that may be missing.
            pl.selectors.ends_with("_days").cast(pl.Int64),
        )
        beliefs = infer_beliefs(self._model, "served", days)
        size = self._model.n_belief
        columns = beliefs["belief"].list.to_array(size).to_numpy()
        served = pd.DataFrame(columns, columns=[f"belief_{unit}" for unit in range(size)])
        return served.assign(plausibility=beliefs["plausibility"].to_numpy())


mlflow.models.set_model(BeliefModel())
