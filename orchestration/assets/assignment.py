"""Decide: the nightly assignment table, sealed by its first emission.

Reads: lake customer_features, action_catalogue and beliefs, customer_tokens where a policy asks of
histories, the champion; where a period is paced, decisions and redemptions. Writes: lake
assignment_table, holdout, night_budget, limit_usage, night_pace and budget_ledger, on request a CSV
export. Tomorrow's ingestion takes the table as its log.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import dataframely as dy
import polars as pl

from ml.core.actions import ActionSet, read_actions
from ml.core.contexts import HISTORY, join_beliefs
from ml.core.errors import (
    ContractError,
    LiftloopError,
    PromotionError,
    SealedNightError,
    SupportError,
)
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.core.schemas import AssignmentTable, BudgetLedger, HoldoutTable, LimitUsage, NightPace
from ml.interactors.histories import join_histories
from ml.pipeline.consent import close_channels, find_open_channels
from ml.pipeline.decide import Challenger, decide_night
from ml.pipeline.eligibility import take_audience
from ml.pipeline.exploration import weigh_offers
from ml.pipeline.night_checks import NightCheck, check_night
from ml.pipeline.policies import BudgetedPolicy, ExplorationOnly, NoOffers
from ml.pipeline.snapshots import take_snapshot
from ml.plots.deciding import plot_assignments, plot_limits, plot_pacing, plot_pruning
from orchestration.assets.embedding import embed_figure, explain, tabulate
from orchestration.assets.snapshots import read_matured, read_tokens
from orchestration.begun import read_revision
from orchestration.champions import find_challenger_version
from orchestration.files import hash_file, replace_file
from orchestration.lake import Lake, write_parquet
from orchestration.pacing import read_pace, read_period
from orchestration.partitions import NIGHTS
from orchestration.resources import Exports, Governance, Mlflow, ProgrammeFile
from orchestration.settings import read_settings
from orchestration.summary import compare_shadow

if TYPE_CHECKING:
    from ml.tracking.registry import PolicyRegistry

CHECKS = {
    "each_due_customer_once": "Every due customer outside the holdout has exactly one row",
    "propensities_are_distributions": "Propensities lie in (0, 1] and vectors sum to 1",
    "expected_cost_within_budget": "Expected cost, exploration included, is within the budget",
    "expected_use_within_limits": "No declared limit is expected to be exceeded",
    "known_versions": "Every row names the champion's version",
    "no_ineligible_pair": "No offer goes out on a channel that is closed to the customer",
}


class NightBudget(dy.Schema):
    """One row: what the night may and is expected to cost, currency."""

    decision_date = dy.Date(primary_key=True)
    budget = dy.Float64(nullable=False, min=0)
    expected_cost = dy.Float64(nullable=False, min=0)
    policy_version = dy.String(nullable=False)
    policy_kind = dy.String(nullable=False)


_HOUR, _MINUTE = map(int, read_settings().deadline.split(":"))
"""By when a night's table is expected (UTC)."""


class AssignmentConfig(dg.Config):
    """How the night is emitted: a revision above the sealed one redoes it."""

    revision: int = 1
    export_csv: bool = False


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "assignment_table",
            deps=[
                "customer_features",
                "customer_tokens",
                "action_catalogue",
                "beliefs",
                "champion",
                "online_validation",
            ],
            description=explain(AssignmentTable),
            group_name="decide",
            kinds={"polars", "parquet"},
            freshness_policy=dg.FreshnessPolicy.cron(
                deadline_cron=f"{_MINUTE} {_HOUR} * * *",
                lower_bound_delta=timedelta(hours=_HOUR, minutes=_MINUTE) or timedelta(days=1),
                timezone="UTC",
            ),
        ),
        dg.AssetSpec(
            "holdout",
            deps=["customer_features"],
            description=explain(HoldoutTable),
            group_name="decide",
            kinds={"polars", "parquet"},
        ),
        dg.AssetSpec(
            "budget_ledger",
            deps=["logged_decisions", "assignment_table"],
            description=f"{explain(BudgetLedger)} Where programme.json has pacing.",
            group_name="decide",
            kinds={"polars", "parquet"},
            skippable=True,
        ),
    ],
    check_specs=[
        # Sealing refuses what fails; a table sealed before stops the run if consent changed since.
        dg.AssetCheckSpec(
            name,
            asset="assignment_table",
            description=text,
            blocking=name == "no_ineligible_pair",
        )
        for name, text in CHECKS.items()
    ],
    partitions_def=NIGHTS,
)
def assignment(
    context: dg.AssetExecutionContext,
    config: AssignmentConfig,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    governance: Governance,
    exports: Exports,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Decide tonight's offers and seal the table; a sealed night stays as it is."""
    night = date.fromisoformat(context.partition_key)
    # Two runs may want to decide the same night: the second finds it sealed.
    with lake.hold("assignment_table", night):
        sealed = read_revision(lake, night)
        is_sealed = sealed >= config.revision
        later = [day for day in lake.dates("assignment_table") if day > night]
        if later and not is_sealed:
            raise SealedNightError(
                f"night {night} can't be decided any more: {later[0]} was decided after it"
            )
        if not is_sealed:
            emit(context, lake, programme, mlflow, governance, night, revision=sealed + 1)
        else:
            context.log.info(
                f"night {night} is sealed: its table stays as it is (REISSUE=1 to redo)"
            )
    table = lake.read("assignment_table", night)
    written = lake.read("night_budget", night)
    limits = lake.read("limit_usage", night)
    budget = written.row(0, named=True)
    if config.export_csv:
        path = _export_csv(exports, table, night)
        context.log.info(f"exported {path}")
    sha256 = hash_file(lake.path("assignment_table", night))
    shadow = compare_shadow(lake, night)
    held = lake.read("holdout", night)
    yield dg.MaterializeResult(
        asset_key="assignment_table",
        metadata={
            "dagster/row_count": table.height,
            "path": dg.MetadataValue.path(str(lake.path("assignment_table", night))),
            "sha256": sha256,
            "sealed_before": is_sealed,
            "budget": budget["budget"],
            "expected_cost": budget["expected_cost"],
            "policy_version": budget["policy_version"],
            "limits": tabulate(limits),
            "use_of_limits": embed_figure(plot_limits(limits)),
            "customers_per_action": embed_figure(plot_assignments(table)),
            "pruned_pairs": embed_figure(plot_pruning(table)),
            **({} if shadow is None else {"shadow_of_the_candidate": tabulate(shadow)}),
        },
        data_version=dg.DataVersion(sha256),
    )
    if lake.has("budget_ledger", night):
        currency = programme.read().currency
        yield dg.MaterializeResult(
            asset_key="budget_ledger",
            metadata={
                "tonight": tabulate(lake.read("night_pace", night)),
                "ledger": tabulate(lake.read("budget_ledger", night)),
                "pacing": embed_figure(plot_pacing(read_period(lake, night), currency=currency)),
            },
        )
    yield dg.MaterializeResult(asset_key="holdout", metadata={"dagster/row_count": held.height})
    for check in _check(lake, programme.read(), night, table, written, limits):
        yield dg.AssetCheckResult(
            asset_key="assignment_table",
            check_name=check.name,
            passed=check.is_passed,
            metadata={"detail": check.detail},
        )


def emit(
    context: dg.AssetExecutionContext,
    lake: Lake,
    programme: ProgrammeFile,
    mlflow: Mlflow,
    governance: Governance,
    night: date,
    *,
    revision: int,
) -> None:
    """Decide the night, check it, and write it; the assignment table last: it is the seal."""
    from ml.tracking.registry import PolicyRegistry

    settings = programme.read()
    registry = PolicyRegistry(mlflow.tracking_uri)
    catalogue = read_actions(lake.read("action_catalogue", night))
    policy, version = _choose_policy(
        context, registry, governance, settings, catalogue, lake, night
    )
    features = close_channels(
        lake.read("customer_features", night), _read_open_channels(lake, night)
    )
    if lake.has("beliefs", night):
        features = join_beliefs(features, lake.read("beliefs", night))
    challenger = None
    challenged = None
    paced = None
    if isinstance(policy, BudgetedPolicy):
        if settings.pacing is not None and night >= settings.pacing.begins:
            paced = read_pace(lake, settings, night, catalogue)
        challenged = find_challenger_version(lake, registry, settings, until=night)
    if challenged is not None:
        try:
            loaded = registry.load(challenged).policy
            features = _show_histories(features, loaded, lake, night)
            challenger = Challenger(loaded, challenged)
        except (ContractError, PromotionError) as error:
            context.log.warning(f"no challenger tonight: {error}")
    features = _show_histories(features, policy, lake, night)
    decided = decide_night(
        features,
        policy=policy,
        policy_version=version,
        catalogue=catalogue,
        programme=settings,
        decision_date=night,
        revision=revision,
        challenger=challenger,
        budget=None if paced is None else paced.budget,
    )
    for note in decided.notes:
        context.log.warning(note)
    shadow = _find_shadow(lake, registry) if governance.promotion == "shadow" else None
    if shadow is not None:
        try:
            follower = registry.load(shadow).policy
            would = decide_night(
                _show_histories(features, follower, lake, night),
                policy=follower,
                policy_version=shadow,
                catalogue=catalogue,
                programme=settings,
                decision_date=night,
                budget=None if paced is None else paced.budget,
            )
        except LiftloopError as error:
            context.log.warning(f"the candidate, version {shadow}, could not decide: {error}")
        else:
            lake.write(would.assignments, "shadow_assignments", night, schema=AssignmentTable)
    budget = pl.DataFrame(
        {
            "decision_date": [night],
            "budget": [decided.budget],
            "expected_cost": [decided.expected_cost],
            "policy_version": [version],
            "policy_kind": [policy.kind],
        }
    )
    checks = _check(lake, settings, night, decided.assignments, budget, decided.limits)
    failed = [f"{each.name}: {each.detail}" for each in checks if not each.is_passed]
    if failed:
        raise ContractError(f"night {night} is not emitted: {'; '.join(failed)}")
    if revision > 1:
        old = lake.read("assignment_table", night)
        superseded = lake.path("superseded_assignments", night)
        write_parquet(old, superseded.with_name(f"revision-{revision - 1}.parquet"))
    lake.write(decided.holdout, "holdout", night, schema=HoldoutTable)
    lake.write(budget, "night_budget", night, schema=NightBudget)
    lake.write(decided.limits, "limit_usage", night, schema=LimitUsage)
    for name, part, schema in (
        ("night_pace", paced and paced.pace, NightPace),
        ("budget_ledger", paced and paced.ledger, BudgetLedger),
    ):
        # A revision that is not paced leaves nothing of one that was.
        lake.path(name, night).unlink(missing_ok=True)
        if isinstance(part, pl.DataFrame):
            lake.write(part, name, night, schema=schema)
    lake.write(decided.assignments, "assignment_table", night, schema=AssignmentTable)


def _choose_policy(
    context: dg.AssetExecutionContext,
    registry: "PolicyRegistry",
    governance: Governance,
    settings: Programme,
    catalogue: ActionSet,
    lake: Lake,
    night: date,
) -> tuple[BudgetedPolicy | ExplorationOnly | NoOffers, str]:
    """Return who decides tonight, and their version."""
    standing = governance.read_freeze()
    if standing is not None:
        context.log.warning(
            f"frozen since {standing.since} ({standing.reason}): nobody gets an offer tonight; "
            "make unfreeze lifts it"
        )
        return NoOffers(catalogue), "none"
    champion = registry.load_champion()
    if champion is not None:
        return champion.policy, champion.version
    context.log.warning("no champion yet: tonight's offers are exploration only")
    exploring = ExplorationOnly(
        actions=catalogue,
        floor=settings.propensity_floor,
        budget_per_decision=settings.budget_per_decision,
        weights=weigh_offers(catalogue, _read_log(lake, settings, catalogue, night)),
    )
    return exploring, "none"


def _read_log(
    lake: Lake, settings: Programme, catalogue: ActionSet, night: date
) -> LoggedDecisions | None:
    """Return what has matured and is random, None where nothing is yet."""
    try:
        matured = read_matured(lake, night)
        return take_snapshot(matured, programme=settings, actions=catalogue).training
    except SupportError:
        return None


def _find_shadow(lake: Lake, registry: "PolicyRegistry") -> str | None:
    """Return the candidate that the gate passed and nobody promoted, None without one."""
    days, version = lake.dates("evaluation_record"), registry.version_of("candidate")
    if not days or version is None or version == registry.version_of("champion"):
        return None
    row = lake.read("evaluation_record", days[-1]).row(0, named=True)
    return version if row["is_passed"] and row["candidate_version"] == version else None


def _show_histories(
    features: pl.DataFrame, policy: object, lake: Lake, night: date
) -> pl.DataFrame:
    """Return tonight's features with histories where a policy asks of them and they lack."""
    asks = isinstance(policy, BudgetedPolicy) and policy.needs_histories
    if not asks or HISTORY in features.columns:
        return features
    return join_histories(features, read_tokens(lake, until=night))


def _check(
    lake: Lake,
    settings: Programme,
    night: date,
    table: pl.DataFrame,
    budget: pl.DataFrame,
    limits: pl.DataFrame,
) -> tuple[NightCheck, ...]:
    """Check a night's table against the lake."""
    row = budget.row(0, named=True)
    return check_night(
        table,
        features=take_audience(lake.read("customer_features", night), settings),
        open_channels=_read_open_channels(lake, night),
        catalogue=read_actions(lake.read("action_catalogue", night)),
        budget=row["budget"],
        expected_cost=row["expected_cost"],
        limits=limits,
        policy_version=row["policy_version"],
    )


def _read_open_channels(lake: Lake, night: date) -> pl.DataFrame:
    """Return the channels that due customers have open, from the delivered rows."""
    due = lake.read("customer_features", night).filter(pl.col("is_due")).select("customer_id")
    contactability = lake.scan("raw_contactability", until=night).join(
        due.lazy(), on="customer_id", how="semi", maintain_order="left"
    )
    return find_open_channels(contactability, night=night)


def _export_csv(exports: Exports, table: pl.DataFrame, night: date) -> str:
    """Write who gets what for a messaging provider."""
    path = Path(exports.root) / f"assignments-{night}.csv"
    with replace_file(path) as temporary:
        table.select("decision_id", "customer_id", "decision_date", "action_id").write_csv(
            temporary
        )
    return str(path)
