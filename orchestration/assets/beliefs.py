"""Identify: what the registered world models believe of customers, and how odd their days are.

Reads: lake customer_days, versions of world_model and assignment_policy. Writes: lake beliefs (a
night's customers) and training_beliefs (everybody decided on so far).
"""

from collections.abc import Iterator, Sequence
from datetime import date
from importlib.util import find_spec

import dagster as dg
import polars as pl

from ml.core.schemas import Beliefs
from ml.pipeline.snapshots import Snapshot
from orchestration.assets.embedding import explain, tabulate
from orchestration.assets.snapshots import find_training_date
from orchestration.lake import Lake
from orchestration.partitions import NIGHTS
from orchestration.resources import Mlflow

_PLAUSIBLE = "plausible_days"
_NONE = "no world model is registered: heads use raw features"


@dg.asset(
    deps=["customer_days"],
    description=explain(Beliefs),
    group_name="identify",
    kinds={"torch", "parquet"},
    partitions_def=NIGHTS,
    check_specs=[
        dg.AssetCheckSpec(
            _PLAUSIBLE,
            asset="beliefs",
            description="No more days than chance has are odder than one in a hundred was",
        )
    ],
)
def beliefs(
    context: dg.AssetExecutionContext, lake: Lake, mlflow: Mlflow
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Infer tonight's beliefs by every version that a policy or the next training needs."""
    night = date.fromisoformat(context.partition_key)
    found = _infer(lake.read("customer_days", night), find_versions(mlflow), mlflow)
    receipt = lake.write(found, "beliefs", night, schema=Beliefs)
    versions = found["version"].unique(maintain_order=True).to_list()
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": found.height,
            "versions": ", ".join(versions) or _NONE,
        },
        data_version=dg.DataVersion(receipt.sha256),
    )
    if not versions:
        yield dg.AssetCheckResult(check_name=_PLAUSIBLE, passed=True, metadata={"detail": _NONE})
        return
    from ml.pipeline.believe import count_implausible

    counted = count_implausible(found)
    yield dg.AssetCheckResult(
        check_name=_PLAUSIBLE,
        passed=bool(counted["is_usual"].all()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"days": tabulate(counted)},
    )


@dg.asset(
    deps=["customer_days", "randomisation_checks"],
    description="Beliefs of everybody decided on so far, for training and evaluation.",
    group_name="identify",
    kinds={"torch", "parquet"},
)
def training_beliefs(
    context: dg.AssetExecutionContext, lake: Lake, mlflow: Mlflow
) -> dg.MaterializeResult:
    """Infer the beliefs that the training of a date reads, once per version."""
    training_date = find_training_date(lake)
    days = lake.scan("customer_days", until=training_date).collect()
    found = _infer(days, find_versions(mlflow), mlflow)
    receipt = lake.write(found, "training_beliefs", training_date, schema=Beliefs)
    versions = found["version"].unique(maintain_order=True).to_list()
    if not versions:
        context.log.info(_NONE)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": found.height,
            "training_date": str(training_date),
            "versions": ", ".join(versions) or _NONE,
        },
        data_version=dg.DataVersion(receipt.sha256),
    )


def find_versions(mlflow: Mlflow) -> list[str]:
    """Return the world models in use: the newest, and those that policies were fitted with.

    Without torch there is none to be had, and a policy that needs one says so when it decides.
    """
    if find_spec("torch") is None:
        return []
    from ml.tracking.registry import CANDIDATE, CHAMPION, PREVIOUS, PolicyRegistry
    from ml.tracking.world_models import WorldModelRegistry

    registry = PolicyRegistry(mlflow.tracking_uri)
    policies = [registry.version_of(alias) for alias in (CHAMPION, CANDIDATE, PREVIOUS)]
    used = [
        registry.read_tags(version).get("belief_version")
        for version in policies
        if version is not None
    ]
    newest = WorldModelRegistry(mlflow.tracking_uri).newest()
    return sorted({each for each in (*used, newest) if each}, key=int)


def choose_belief(
    snapshot: Snapshot, mlflow: Mlflow, training_date: date
) -> tuple[str | None, str]:
    """Return the world model that heads may learn with, or why there is none.

    Parameters
    ----------
    snapshot
        Its rows carry the beliefs of some versions.
    mlflow
        Where these are registered.
    training_date
        Of the training.

    Returns
    -------
    tuple
        The newest version that the snapshot carries, unless it is stale, and an empty text; or None
        and the reason.
    """
    versions = sorted(snapshot.training.contexts.beliefs, key=int)
    if not versions:
        return None, "no world model is registered"
    from ml.pipeline.believe import explain_staleness
    from ml.tracking.world_models import WorldModelRegistry

    notes = WorldModelRegistry(mlflow.tracking_uri).load(versions[-1]).notes
    reason = explain_staleness(notes, training_date)
    return (None, reason) if reason else (versions[-1], "")


def _infer(days: pl.DataFrame, versions: Sequence[str], mlflow: Mlflow) -> pl.DataFrame:
    """Return every version's beliefs of customer-days."""
    if not versions or days.is_empty():
        return Beliefs.create_empty()
    from ml.pipeline.believe import infer_beliefs
    from ml.tracking.world_models import WorldModelRegistry

    registry = WorldModelRegistry(mlflow.tracking_uri)
    return pl.concat([infer_beliefs(registry.load(each), each, days) for each in versions])
