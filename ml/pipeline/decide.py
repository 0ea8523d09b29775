"""Decide: tonight's assignment table, from features and the champion policy."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

import numpy as np
import polars as pl

from ml.allocation.budget import UNLIMITED, BudgetCut
from ml.allocation.limits import LimitedCut
from ml.core.actions import ActionSet
from ml.core.contexts import Contexts, build_contexts, hash_feature_schema
from ml.core.errors import BudgetError, ContractError
from ml.core.hashing import hash_uniform
from ml.core.policy import draw_actions
from ml.core.programme import Programme
from ml.core.schemas import AssignmentTable, HoldoutTable
from ml.pipeline.policies import (
    AlignedPolicy,
    BudgetedPolicy,
    ExplorationOnly,
    NoOffers,
    Scores,
)
from ml.pipeline.spending import check_limits, describe_limits, hold_back, spend

DECISION_TIME = time(1, 30)


@dataclass(frozen=True)
class Challenger:
    """The policy that the champion replaced; it decides a share of the customers."""

    policy: BudgetedPolicy
    version: str


@dataclass(frozen=True)
class Night:
    """One night's decisions.

    ``assignments`` is AssignmentTable rows in order of customer_id, ``holdout`` HoldoutTable
    rows; ``budget`` and ``expected_cost`` in currency for the night, ``limits`` LimitUsage rows.
    ``notes`` say what a reader
    of the run should know.
    """

    assignments: pl.DataFrame
    holdout: pl.DataFrame
    budget: float
    expected_cost: float
    limits: pl.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """What an arm does: its policy with and without exploration, and its unpruned pairs; (n, K)."""

    probabilities: np.ndarray
    target: np.ndarray
    allowed: np.ndarray
    cut: BudgetCut | LimitedCut = UNLIMITED


def decide_night(
    features: pl.DataFrame,
    *,
    policy: BudgetedPolicy | ExplorationOnly | NoOffers,
    policy_version: str,
    catalogue: ActionSet,
    programme: Programme,
    decision_date: date,
    revision: int = 1,
    challenger: Challenger | None = None,
) -> Night:
    """Assign an action to every due customer outside the holdout.

    The champion scores them, its cut is solved for tonight's budget on customers outside the
    evaluation cohort, exploration is added, and each action is drawn by a hash of customer, date
    and revision, so the emitted propensity is exactly the probability used and a re-run gives the
    same table. With a challenger, a hash draws each decision's arm first, and the emitted
    propensity is the mixture's.

    Parameters
    ----------
    features
        customer_features of the decision date.
    policy
        The champion, or exploration where nothing was learned yet, or no offers.
    policy_version
        Registered version, goes into every row.
    catalogue
        Tonight's actions and their channels; an action that it lacks is not offered.
    programme
        Budget, floor, seed, the challenger's share.
    decision_date
        The night.
    revision
        1, or more for a re-issued night.
    challenger
        Beside a champion, who else decides.

    Returns
    -------
    Night
        Both tables validated.

    Raises
    ------
    ContractError
        If the policy was fitted on another feature schema.
    """
    check_limits(programme.limits, catalogue, policy.actions)
    due = features.filter(pl.col("is_due")).sort("customer_id")
    holdout = due.filter(pl.col("is_holdout")).select("customer_id", "decision_date", "lifecycle")
    actions = policy.actions.with_channels_of(catalogue)
    encoding = programme
    if isinstance(policy, BudgetedPolicy):
        encoding = replace(programme, attributes=policy.attributes)
    contexts = build_contexts(
        due.filter(~pl.col("is_holdout")), programme=encoding, actions=actions
    )
    still_offered = np.array([each in catalogue.action_ids for each in actions.action_ids])
    if isinstance(policy, NoOffers):
        still_offered[1:] = False
    contexts = replace(contexts, eligible=contexts.eligible & still_offered)
    budget = programme.budget_per_decision * contexts.n_customers
    second, notes = None, []
    if isinstance(policy, BudgetedPolicy):
        if contexts.schema_hash != policy.schema_hash:
            raise ContractError(
                f"policy {policy_version} was fitted on feature schema {policy.schema_hash}, "
                f"this version encodes {contexts.schema_hash}: roll back, or train and promote anew"
            )
        scores, arm = policy.scorer.score(contexts), "champion"
        first = _plan(policy, scores, contexts, actions, programme, budget)
        if challenger is not None:
            try:
                second = _plan_challenger(challenger, scores, contexts, actions, programme, budget)
            except (BudgetError, ContractError) as error:
                notes.append(f"no challenger tonight: version {challenger.version}: {error}")
    else:
        scores, arm = _score_nothing(policy, contexts), policy.kind
        probabilities = hold_back(
            policy.probabilities(contexts),
            scores,
            contexts,
            actions=actions,
            limits=programme.limits,
            floor=0.0 if isinstance(policy, NoOffers) else policy.floor,
        )
        target = probabilities if isinstance(policy, NoOffers) else np.zeros_like(probabilities)
        first = _Plan(probabilities, target, contexts.eligible)
    draw_key = contexts.frame["customer_id"] + f":{decision_date}:r{revision}"
    share = 0.0 if second is None else programme.challenger_share
    is_second = hash_uniform(draw_key, salt=f"arm-{programme.seed}") < share
    other = second or first
    drawn = draw_actions(
        np.where(is_second[:, None], other.probabilities, first.probabilities),
        hash_uniform(draw_key, salt=f"assignment-{programme.seed}"),
    )
    probabilities = (1 - share) * first.probabilities + share * other.probabilities
    rows = np.arange(contexts.n_customers)
    is_exploration = np.where(is_second, other.target[rows, drawn], first.target[rows, drawn]) == 0
    arms = np.where(is_second, "challenger", arm)
    versions = f"assignment_policy={policy_version} ({policy.kind})"
    challenged = None if second is None or challenger is None else challenger
    if challenged is not None:
        versions += f", challenger {challenged.version} ({challenged.policy.kind}) {share:.0%}"
    assignments = _write_table(
        contexts,
        actions,
        probabilities=probabilities,
        drawn=drawn,
        is_exploration=is_exploration,
        scores=scores,
        reasons=_explain(
            contexts,
            np.where(is_second[:, None], other.allowed, first.allowed),
            drawn,
            is_exploration,
            arm,
        ),
    ).with_columns(
        (
            pl.lit(f"{decision_date}:")
            + pl.col("customer_id")
            + pl.lit("" if revision == 1 else f":r{revision}")
        ).alias("decision_id"),
        pl.lit(datetime.combine(decision_date, DECISION_TIME, UTC))
        .cast(pl.Datetime("us", "UTC"))
        .alias("decided_at"),
        pl.Series("arm", arms),
        pl.Series(
            "shadow_price", np.where(is_second, other.cut.shadow_price, first.cut.shadow_price)
        ),
        pl.lit(policy_version).alias("policy_version"),
        pl.lit(challenged and challenged.version, dtype=pl.String).alias("challenger_version"),
        pl.Series("champion_propensity", first.probabilities[rows, drawn])
        if challenged
        else pl.lit(None, dtype=pl.Float64).alias("champion_propensity"),
        pl.Series("challenger_propensity", other.probabilities[rows, drawn])
        if challenged
        else pl.lit(None, dtype=pl.Float64).alias("challenger_propensity"),
        pl.lit(versions).alias("model_versions"),
        pl.lit(contexts.schema_hash).alias("feature_schema_hash"),
        pl.lit(revision).cast(pl.Int64).alias("revision"),
    )
    columns = list(AssignmentTable.columns())
    return Night(
        assignments=AssignmentTable.validate(assignments.select(columns)),
        holdout=HoldoutTable.validate(holdout),
        budget=budget,
        expected_cost=float((probabilities * scores.cost_effect).sum()),
        limits=describe_limits(
            probabilities,
            first.cut,
            scores,
            contexts,
            actions=actions,
            budget=budget,
            limits=programme.limits,
        ),
        notes=tuple(notes),
    )


def to_contract(assignments: pl.DataFrame, programme: Programme) -> pl.DataFrame:
    """Return the night's table as the contract's ``assignments``: tomorrow's log.

    Parameters
    ----------
    assignments
        AssignmentTable rows.
    programme
        Names its surface.

    Returns
    -------
    pl.DataFrame
        Contract rows, without lineage.
    """
    return assignments.select(
        "decision_id",
        "customer_id",
        "decided_at",
        pl.lit(programme.surface or programme.name).alias("surface"),
        "eligible_actions",
        "action_id",
        "propensity",
        "eligible_propensities",
        "policy_version",
        "arm",
        pl.lit(None, dtype=pl.String).alias("experiment"),
        "is_exploration",
    )


def _plan(
    policy: BudgetedPolicy,
    scores: Scores,
    contexts: Contexts,
    actions: ActionSet,
    programme: Programme,
    budget: float,
) -> _Plan:
    """Return what a policy does with tonight's budget and limits."""
    solved = spend(
        policy,
        scores,
        contexts,
        actions=actions,
        budget=budget,
        is_solved_on=~contexts.frame["is_evaluation"].to_numpy(),
        limits=programme.limits,
    )
    return _Plan(
        solved.mix(scores, contexts),
        replace(solved, floor=0.0).mix(scores, contexts),
        scores.allowed,
        solved.cut,
    )


def _plan_challenger(
    challenger: Challenger,
    scores: Scores,
    contexts: Contexts,
    actions: ActionSet,
    programme: Programme,
    budget: float,
) -> _Plan:
    """Return what the challenger does; the champion's costs hold for both, so the budget does."""
    own_schema = hash_feature_schema(replace(programme, attributes=challenger.policy.attributes))
    if own_schema != challenger.policy.schema_hash:
        raise ContractError("it was fitted on another feature schema")
    aligned = AlignedPolicy(challenger.policy, actions, programme)
    own = replace(aligned.score(contexts), cost_effect=scores.cost_effect)
    return _plan(challenger.policy, own, contexts, actions, programme, budget)


def _score_nothing(policy: ExplorationOnly | NoOffers, contexts: Contexts) -> Scores:
    """Return scores where no policy knows any: costs are at their declared most."""
    shape = contexts.eligible.shape
    most = policy.actions.face_values + policy.actions.message_costs
    return Scores(
        reward=np.zeros(shape),
        allowed=contexts.eligible,
        value_effect=np.zeros(shape),
        cost_effect=np.broadcast_to(most, shape),
    )


def _write_table(
    contexts: Contexts,
    actions: ActionSet,
    *,
    probabilities: np.ndarray,
    drawn: np.ndarray,
    is_exploration: np.ndarray,
    scores: Scores,
    reasons: np.ndarray,
) -> pl.DataFrame:
    """Return the columns that differ from row to row."""
    rows = np.arange(len(drawn))
    wide = pl.DataFrame(
        {
            f"p{index}": np.where(contexts.eligible[:, index], probabilities[:, index], np.nan)
            for index in range(actions.n_actions)
        }
    ).fill_nan(None)
    vectors = wide.select(
        pl.concat_list(
            [
                pl.when(pl.col(f"p{index}").is_not_null()).then(pl.lit(name))
                for index, name in enumerate(actions.action_ids)
            ]
        )
        .list.drop_nulls()
        .alias("eligible_actions"),
        pl.concat_list(wide.columns).list.drop_nulls().alias("eligible_propensities"),
    )
    return contexts.frame.select("customer_id", "decision_date", "lifecycle").with_columns(
        pl.Series("action_id", np.array(actions.action_ids)[drawn]),
        pl.Series("propensity", probabilities[rows, drawn]),
        vectors["eligible_actions"],
        vectors["eligible_propensities"],
        pl.Series("is_exploration", is_exploration),
        pl.Series("expected_value_effect", scores.value_effect[rows, drawn]),
        pl.Series("expected_cost_effect", scores.cost_effect[rows, drawn]),
        pl.Series("reason_code", reasons),
    )


def _explain(
    contexts: Contexts, allowed: np.ndarray, drawn: np.ndarray, is_exploration: np.ndarray, arm: str
) -> np.ndarray:
    """Return a reason code per row; docs/assignment-table.md explains them."""
    has_channel = contexts.eligible[:, 1:].any(axis=1)
    has_paying_offer = allowed[:, 1:].any(axis=1)
    return np.select(
        [
            np.full(len(drawn), arm != "champion"),
            is_exploration,
            drawn > 0,
            ~has_channel,
            ~has_paying_offer,
        ],
        [arm, "exploration", "best_offer", "not_contactable", "no_offer_pays"],
        default="budget",
    )
