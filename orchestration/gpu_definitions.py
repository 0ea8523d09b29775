"""The GPU code location: the world model, on whichever worker serves this location."""

import dagster as dg

from ml.core.errors import NotBuiltError


@dg.asset(group_name="learn", kinds={"torch"}, pool="gpu")
def world_model(context: dg.AssetExecutionContext) -> None:
    """The Deep Boltzmann Machine over customer-days. Not built yet; no job contains it."""
    raise NotBuiltError(
        "the world model is not built yet: heads use raw features, and nothing depends on it"
    )


defs = dg.Definitions(assets=[world_model])
