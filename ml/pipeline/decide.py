"""Decide: tonight's assignment table, from features and the champion policy."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time

import numpy as np
import polars as pl

from ml.allocation.budget import UNLIMITED, BudgetCut, exploration_cost
from ml.allocation.limits import LimitedCut
from ml.allocation.pruning import PrunedPairs
from ml.core.actions import ActionSet
from ml.core.contexts import Contexts, build_contexts, hash_feature_schema
from ml.core.errors import BudgetError, ContractError
from ml.core.hashing import hash_uniform
from ml.core.policy import draw_actions, explore
from ml.core.programme import Programme
from ml.core.schemas import AssignmentTable, HoldoutTable
from ml.pipeline.eligibility import check_names, restrict, take_audience
from ml.pipeline.night_table import explain_rows, write_pairs
from ml.pipeline.policies import (
    AlignedPolicy,
    BudgetedPolicy,
    ExplorationOnly,
    NoOffers,
    Scores,
)
from ml.pipeline.spending import (
    RESERVE_DEVIATIONS,
    check_limits,
    describe_limits,
    hold_back,
    spend,
)
from ml.pipeline.windows import find_windows

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
    """What an arm does: its policy with and without exploration, and what it prunes; (n, K)."""

    probabilities: np.ndarray
    target: np.ndarray
    pruned: PrunedPairs
    cut: BudgetCut | LimitedCut = UNLIMITED
    is_stopped: bool = False


@dataclass(frozen=True)
class _Purse:
    """What the night may promise: its budget, and whether a pacer makes up for its chance."""

    budget: float
    is_paced: bool = False

    @property
    def deviations(self) -> float:
        """How many deviations of chance are held back."""
        return 0.0 if self.is_paced else RESERVE_DEVIATIONS


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
    budget: float | None = None,
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
    budget
        What the pacer allows a champion tonight, currency for the night; exploration is paid in any
        case, and no reserve for chance is held back, since the pacer makes up for it. None:
        ``budget_per_decision``.

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
    check_names(programme, catalogue, policy.actions)
    due = take_audience(features, programme).filter(pl.col("is_due")).sort("customer_id")
    holdout = due.filter(pl.col("is_holdout")).select("customer_id", "decision_date", "lifecycle")
    actions = policy.actions.with_channels_of(catalogue)
    encoding = programme
    if isinstance(policy, BudgetedPolicy):
        encoding = replace(programme, attributes=policy.attributes)
    contexts = build_contexts(
        due.filter(~pl.col("is_holdout")), programme=encoding, actions=actions
    )
    decided_at = datetime.combine(decision_date, DECISION_TIME, UTC)
    channels = sorted(set(actions.channels[1:]))
    windows = find_windows(
        channels, programme.quiet_hours, timezone=programme.timezone, decided_at=decided_at
    )
    contexts, ineligible = restrict(
        contexts,
        programme=programme,
        actions=actions,
        offered=() if isinstance(policy, NoOffers) else catalogue.action_ids,
        quiet_channels=[each for each in channels if each not in windows],
        night=decision_date,
    )
    purse = _Purse(programme.budget_per_decision * contexts.n_customers)
    second, notes = None, []
    if isinstance(policy, BudgetedPolicy):
        if contexts.schema_hash != policy.schema_hash:
            raise ContractError(
                f"policy {policy_version} was fitted on feature schema {policy.schema_hash}, "
                f"this version encodes {contexts.schema_hash}: roll back, or train and promote anew"
            )
        scores, arm = policy.scorer.score(contexts), "champion"
        if budget is not None:
            explored = exploration_cost(scores.cost_effect, contexts.eligible, floor=policy.floor)
            purse = _Purse(max(budget, float(explored.sum()) * (1 + 1e-9)), is_paced=True)
        first = _plan(policy, scores, contexts, actions, programme, purse)
        if first.is_stopped:
            notes.append("the pacer leaves too little for more than exploration tonight")
        if challenger is not None:
            try:
                second = _plan_challenger(challenger, scores, contexts, actions, programme, purse)
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
        first = _Plan(probabilities, target, scores.pruned)
    # Programmes side by side must not draw alike: theirs and ours are to be independent.
    salt = f"{programme.surface or programme.name}-{programme.seed}"
    draw_key = contexts.frame["customer_id"] + f":{decision_date}:r{revision}"
    share = 0.0 if second is None else programme.challenger_share
    is_second = hash_uniform(draw_key, salt=f"arm-{salt}") < share
    other = second or first
    drawn = draw_actions(
        np.where(is_second[:, None], other.probabilities, first.probabilities),
        hash_uniform(draw_key, salt=f"assignment-{salt}"),
    )
    probabilities = (1 - share) * first.probabilities + share * other.probabilities
    rows = np.arange(contexts.n_customers)
    is_exploration = np.where(is_second, other.target[rows, drawn], first.target[rows, drawn]) == 0
    arms = np.where(is_second, "challenger", arm)
    versions = f"assignment_policy={policy_version} ({policy.kind})"
    challenged = None if second is None or challenger is None else challenger
    if challenged is not None:
        versions += f", challenger {challenged.version} ({challenged.policy.kind}) {share:.0%}"
    if programme.eligibility is not None and programme.eligibility.valid_from <= decision_date:
        versions += f", eligibility={programme.eligibility.version}"
    codes = np.where(is_second[:, None], other.pruned.codes, first.pruned.codes)
    codes = np.where(ineligible.is_kept, codes, ineligible.codes)
    assignments = write_pairs(
        contexts,
        actions,
        probabilities=probabilities,
        drawn=drawn,
        is_exploration=is_exploration,
        scores=scores,
        windows=windows,
        codes=codes,
        reasons=explain_rows(codes, drawn, is_exploration, arm),
    ).with_columns(
        (
            pl.lit(f"{decision_date}:")
            + pl.col("customer_id")
            + pl.lit("" if revision == 1 else f":r{revision}")
        ).alias("decision_id"),
        pl.lit(decided_at).cast(pl.Datetime("us", "UTC")).alias("decided_at"),
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
        budget=purse.budget,
        expected_cost=float((probabilities * scores.cost_effect).sum()),
        limits=describe_limits(
            probabilities,
            first.cut,
            scores,
            contexts,
            actions=actions,
            budget=purse.budget,
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
    purse: _Purse,
) -> _Plan:
    """Return what a policy does with tonight's budget and limits."""
    try:
        solved = spend(
            policy,
            scores,
            contexts,
            actions=actions,
            budget=purse.budget,
            is_solved_on=~contexts.frame["is_evaluation"].to_numpy(),
            limits=programme.limits,
            deviations=purse.deviations,
        )
    except BudgetError:
        if not purse.is_paced:
            raise
        # The period has so little left that no price keeps it, or no floor beside it.
        control = np.zeros(contexts.eligible.shape)
        control[:, 0] = 1.0
        explored = explore(control, contexts.eligible, floor=policy.floor)
        return _Plan(explored, control, scores.pruned, is_stopped=True)
    return _Plan(
        solved.mix(scores, contexts),
        replace(solved, floor=0.0).mix(scores, contexts),
        scores.pruned,
        solved.cut,
    )


def _plan_challenger(
    challenger: Challenger,
    scores: Scores,
    contexts: Contexts,
    actions: ActionSet,
    programme: Programme,
    purse: _Purse,
) -> _Plan:
    """Return what the challenger does; the champion's costs hold for both, so the budget does."""
    own_schema = hash_feature_schema(replace(programme, attributes=challenger.policy.attributes))
    if own_schema != challenger.policy.schema_hash:
        raise ContractError("it was fitted on another feature schema")
    aligned = AlignedPolicy(challenger.policy, actions, programme)
    own = replace(aligned.score(contexts), cost_effect=scores.cost_effect)
    return _plan(challenger.policy, own, contexts, actions, programme, purse)


def _score_nothing(policy: ExplorationOnly | NoOffers, contexts: Contexts) -> Scores:
    """Return scores where no policy knows any: costs are at their declared most."""
    shape = contexts.eligible.shape
    most = policy.actions.face_values + policy.actions.message_costs
    return Scores(
        reward=np.zeros(shape),
        eligible=contexts.eligible,
        pruned=PrunedPairs(*shape),
        value_effect=np.zeros(shape),
        cost_effect=np.broadcast_to(most, shape),
    )
