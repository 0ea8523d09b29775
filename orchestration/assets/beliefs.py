"""Identify: what the registered world models believe of customers, and how odd their days are.

Reads: lake customer_days, versions of world_model and assignment_policy. Writes: lake beliefs (a
night's customers) and training_beliefs (everybody decided on so far; the newest training's alone).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec

import dagster as dg
import polars as pl

from ml.core.errors import ModelError, PromotionError
from ml.core.schemas import Beliefs
from ml.pipeline.snapshots import Snapshot
from orchestration.assets.embedding import explain, tabulate
from orchestration.assets.snapshots import find_training_date
from orchestration.lake import Lake
from orchestration.partitions import NIGHTS
from orchestration.resources import Mlflow

_PLAUSIBLE = "plausible_days"


@dataclass(frozen=True)
class Versions:
    """World models in use, in order, or why there is none."""

    found: tuple[str, ...]
    reason: str = ""


@dg.asset(
    deps=["customer_days", "world_model"],
    description=explain(Beliefs),
    group_name="identify",
    kinds={"torch", "parquet"},
    partitions_def=NIGHTS,
    check_specs=[
        dg.AssetCheckSpec(
            _PLAUSIBLE,
            asset="beliefs",
            description="At most 3 in 100 customers' days are odder than 1 in 100 was in training",
        )
    ],
)
def beliefs(
    context: dg.AssetExecutionContext, lake: Lake, mlflow: Mlflow
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Infer tonight's beliefs by every version that a policy or the next training needs."""
    night = date.fromisoformat(context.partition_key)
    versions = find_versions(mlflow)
    found = _infer(lake.read("customer_days", night), versions, mlflow, context.log.warning)
    receipt = lake.write(found, "beliefs", night, schema=Beliefs)
    yield dg.MaterializeResult(
        metadata=_describe(found, versions), data_version=dg.DataVersion(receipt.sha256)
    )
    if found.is_empty():
        detail = {"detail": versions.reason or "nobody is due"}
        yield dg.AssetCheckResult(check_name=_PLAUSIBLE, passed=True, metadata=detail)
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
    deps=["customer_days", "world_model", "randomisation_checks"],
    description="Beliefs of everybody decided on so far, for the newest training and its gate.",
    group_name="identify",
    kinds={"torch", "parquet"},
)
def training_beliefs(
    context: dg.AssetExecutionContext, lake: Lake, mlflow: Mlflow
) -> dg.MaterializeResult:
    """Infer the beliefs that the training of a date reads, once per version."""
    training_date, versions = find_training_date(lake), find_versions(mlflow)
    days = lake.scan("customer_days", until=training_date).collect()
    found = _infer(days, versions, mlflow, context.log.warning)
    receipt = lake.write(found, "training_beliefs", training_date, schema=Beliefs)
    lake.drop_before("training_beliefs", training_date)
    if versions.reason:
        context.log.info(f"heads use raw features: {versions.reason}")
    return dg.MaterializeResult(
        metadata={"training_date": str(training_date), **_describe(found, versions)},
        data_version=dg.DataVersion(receipt.sha256),
    )


def find_versions(mlflow: Mlflow) -> Versions:
    """Return the world models in use: the newest, and those that policies were fitted with.

    Parameters
    ----------
    mlflow
        Where they are registered.

    Returns
    -------
    Versions
        None without torch; a policy that needs one then says so when it decides.
    """
    if find_spec("torch") is None:
        return Versions((), "torch is not installed")
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
    found = sorted({each for each in (*used, newest) if each}, key=int)
    return Versions(tuple(found), "" if found else "no world model is registered")


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
    carried = sorted(snapshot.training.contexts.beliefs, key=int)
    versions = find_versions(mlflow)
    if not carried or versions.reason:
        return None, versions.reason or "no registered world model could be read"
    from ml.pipeline.believe import explain_staleness
    from ml.tracking.world_models import WorldModelRegistry

    newest = carried[-1]
    last = WorldModelRegistry(mlflow.tracking_uri).read_last_date(newest)
    reason = explain_staleness(last, training_date)
    return (None, reason) if reason else (newest, "")


def _describe(found: pl.DataFrame, versions: Versions) -> dict[str, int | str]:
    """Return what a person wants to know of an inference."""
    names = found["version"].unique(maintain_order=True).to_list()
    return {
        "dagster/row_count": found.height,
        "versions": ", ".join(names) or f"none: {versions.reason or 'nothing to infer'}",
    }


def _infer(
    days: pl.DataFrame, versions: Versions, mlflow: Mlflow, warn: Callable[[str], None]
) -> pl.DataFrame:
    """Return beliefs of customer-days by every version that can be read; say which can't."""
    found: list[pl.DataFrame] = [Beliefs.create_empty()]
    if versions.found and not days.is_empty():
        from ml.pipeline.believe import infer_beliefs
        from ml.tracking.world_models import WorldModelRegistry

        registry = WorldModelRegistry(mlflow.tracking_uri)
        for version in versions.found:
            try:
                model = registry.load(version)
            except (PromotionError, ModelError) as error:
                # Whoever needs it refuses by itself: nobody else is held up.
                warn(f"no beliefs of world model version {version}: {error}")
            else:
                found.append(infer_beliefs(model, version, days))
    return pl.concat(found)
