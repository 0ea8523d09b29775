"""The GPU code location: the world model, on whichever worker serves this location."""

import dagster as dg

from ml.core.errors import NotBuiltError


@dg.asset(group_name="learn", kinds={"torch"}, pool="gpu")
def world_model(context: dg.AssetExecutionContext) -> None:
    """Train the Deep Boltzmann Machine over customer-days: not built yet, in no job."""
    raise NotBuiltError(
        "the world model is not built yet: heads use raw features, and nothing "
        "depends on it; ml/world_model is a library so far"
    )


defs = dg.Definitions(assets=[world_model])
