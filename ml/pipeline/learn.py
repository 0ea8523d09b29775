"""Learn: from matured logs to a candidate policy, and to the rule that it must beat."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from ml.allocation.budget import cut_probabilities, solve_budget
from ml.core.actions import ActionSet
from ml.core.errors import ContractError, SupportError
from ml.core.hashing import hash_text, hash_uniform
from ml.core.logged import LoggedDecisions, build_logged_decisions
from ml.core.programme import Programme
from ml.core.schemas import LearningSettingsRow
from ml.ope.estimators import contribute_snips, weigh
from ml.pipeline.policies import (
    BudgetedPolicy,
    LifecycleRule,
    Scorer,
    UpliftScorer,
    count_inactive_days,
)
from ml.uplift.fitting import LearningSettings, fit_uplift_heads
from ml.uplift.heads import UpliftHeads
from ml.uplift.propensity import FittedPropensities, fit_propensities
from ml.uplift.report import HeadReport
from ml.uplift.search import search_trees
from ml.uplift.trees import TreeSettings


@dataclass(frozen=True)
class Snapshot:
    """The matured decisions of a training date, split by customer.

    ``evaluation`` customers enter no training; ``data_hash`` identifies the rows. Where the log
    lacks propensities and the programme has them fitted, ``fitted`` says how; those decisions
    serve training alone. ``n_per_night`` is the mean number of decisions of a night.
    """

    everything: LoggedDecisions
    training: LoggedDecisions
    evaluation: LoggedDecisions
    data_hash: str
    n_per_night: int
    fitted: FittedPropensities | None = None

    @property
    def n_fitted(self) -> int:
        """Training decisions whose propensities are fitted."""
        return 0 if self.fitted is None else len(self.fitted.policy)


def take_snapshot(rows: pl.DataFrame, *, programme: Programme, actions: ActionSet) -> Snapshot:
    """Split matured decisions into training and evaluation customers.

    Holdout customers are left out: no policy decides about them. So are decisions that left
    nothing to chance (propensity 1 without a vector, a targeting rule's): they support no
    comparison. Decisions without a propensity are left out too, or with ``fits_propensities`` in
    the programme those of training customers get fitted ones.

    Parameters
    ----------
    rows
        Joined mart rows of matured decisions, one per decision.
    programme, actions
        How they are encoded.

    Returns
    -------
    Snapshot
        In order of decision_id.

    Raises
    ------
    ContractError
        If the mart's evaluation mark is not the one that the hash gives: a training set may hold
        evaluation customers.
    SupportError
        If there is no matured decision.
    """
    is_random = pl.col("eligible_propensities").is_not_null() | (pl.col("propensity") < 1)
    is_unknown = pl.col("propensity").is_null()
    if programme.fits_propensities:
        is_random |= is_unknown
    decided = rows.filter(~pl.col("is_holdout") & is_random).sort("decision_id")
    if decided.is_empty():
        n_unknown = rows.filter(is_unknown).height
        raise SupportError(
            "no matured decision yet: training needs decisions at least "
            f"{programme.matured_after_days} days old"
            + (
                f"; {n_unknown} lack their propensity: set fits_propensities in programme.json to "
                "learn from them"
                if n_unknown
                else ""
            )
        )
    fingerprint = (
        hash_uniform(decided["customer_id"], salt="evaluation") < programme.evaluation_share
    )
    marked = decided["is_evaluation"].to_numpy()
    if (fingerprint != marked).any():
        raise ContractError(
            f"{int((fingerprint != marked).sum())} rows carry another evaluation mark than their "
            "hash: evaluation_share changed since ingestion; ingest the customers again"
        )
    logged = build_logged_decisions(decided, programme=programme, actions=actions)
    lacks = decided["propensity"].is_null().to_numpy()
    fitted = None
    if (lacks & ~marked).any():
        fitted = _fit_missing(logged, lacks & ~marked, seed=programme.seed)
        logged = _fill_propensities(logged, lacks & ~marked, fitted.policy)
    digest = hashlib.sha256()
    digest.update(hash_text(decided["decision_id"], salt="data").tobytes())
    for array in (logged.action, logged.propensity, logged.value, logged.cost):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(np.ascontiguousarray(logged.contexts.context).tobytes())
    return Snapshot(
        everything=logged.take(~lacks),
        training=logged.take(~marked & logged.has_vector),
        evaluation=logged.take(marked & ~lacks),
        data_hash=digest.hexdigest(),
        n_per_night=max(1, round(logged.n_decisions / decided["decision_date"].n_unique())),
        fitted=fitted,
    )


def _fit_missing(logged: LoggedDecisions, rows: np.ndarray, *, seed: int) -> FittedPropensities:
    """Fit the propensities of decisions that lack them."""
    part = logged.take(rows)
    dense = np.unique(part.customer, return_inverse=True)[1]
    return fit_propensities(
        part.contexts.context, part.action, part.contexts.eligible, dense, seed=seed
    )


def _fill_propensities(
    logged: LoggedDecisions, rows: np.ndarray, policy: np.ndarray
) -> LoggedDecisions:
    """Return the decisions with fitted propensities in the given rows."""
    filled, own = logged.logging_policy.copy(), logged.propensity.copy()
    filled[rows] = policy
    own[rows] = policy[np.arange(len(policy)), logged.action[rows]]
    contexts = replace(
        logged.contexts, eligible=logged.contexts.eligible & ((filled > 0) | ~rows[:, None])
    )
    return replace(logged, contexts=contexts, logging_policy=filled, propensity=own)


def fit_candidate(
    snapshot: Snapshot,
    *,
    programme: Programme,
    actions: ActionSet,
    settings: LearningSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> BudgetedPolicy:
    """Fit the uplift policy on training customers.

    Parameters
    ----------
    snapshot
        Matured decisions.
    programme, actions
        Budget, floor, support.
    settings
        Candidates, members, trees; None takes the defaults.
    progress
        Called with a line per step.

    Returns
    -------
    BudgetedPolicy
        Its cut solved on the training customers' decisions.
    """

    def operate(
        value_effect: np.ndarray, cost_effect: np.ndarray, eligible: np.ndarray
    ) -> np.ndarray:
        """Spend the budget per decision on the best net value effects, without exploration."""
        reward = value_effect - cost_effect
        allowed = eligible & (reward > 0)
        allowed[:, 0] = True
        budget = programme.budget_per_decision * len(reward)
        cut = solve_budget(reward, cost_effect, allowed, budget=budget)
        return cut_probabilities(reward, cost_effect, allowed, cut=cut)

    heads = fit_uplift_heads(
        snapshot.training,
        actions=actions,
        minimum_support=programme.minimum_support,
        seed=programme.seed,
        settings=settings,
        operate=operate,
        progress=progress,
    )
    scorer = UpliftScorer(heads, fallback_cost=actions.face_values + actions.message_costs)
    return _freeze(scorer, snapshot, programme=programme, actions=actions)


def search_settings(
    snapshot: Snapshot,
    *,
    programme: Programme,
    actions: ActionSet,
    searched_for_date: date,
    n_trials: int,
    settings: LearningSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> pl.DataFrame:
    """Search tree settings on training customers.

    Parameters
    ----------
    snapshot
        Matured decisions.
    programme, actions
        Seed and action set.
    searched_for_date
        Of the snapshot.
    n_trials
        Settings to try.
    settings
        The present ones; None takes the defaults.
    progress
        Called with a line per trial.

    Returns
    -------
    pl.DataFrame
        LearningSettingsRow.
    """
    found = search_trees(
        snapshot.training,
        actions=actions,
        seed=programme.seed,
        n_trials=n_trials,
        settings=settings,
        progress=progress,
    )
    row = {**asdict(found.trees), **asdict(found)}
    row |= {"searched_for_date": searched_for_date, "data_hash": snapshot.data_hash}
    schema = LearningSettingsRow.create_empty().schema
    return LearningSettingsRow.validate(
        pl.DataFrame([{name: row[name] for name in schema}], schema=schema)
    )


def pin_settings(searched: pl.DataFrame) -> LearningSettings:
    """Return the newest pinned settings; the defaults where no search was pinned.

    Parameters
    ----------
    searched
        LearningSettingsRow rows.

    Returns
    -------
    LearningSettings
        For ``fit_candidate``.
    """
    pinned = searched.filter(pl.col("is_pinned")).sort("searched_for_date")
    if pinned.is_empty():
        return LearningSettings()
    row = pinned.row(-1, named=True)
    fields = ("n_trees", "n_leaves", "minimum_leaf_rows", "learning_rate", "ridge")
    return LearningSettings(trees=TreeSettings(**{name: row[name] for name in fields}))


def fit_lifecycle_rule(
    snapshot: Snapshot, *, programme: Programme, actions: ActionSet
) -> BudgetedPolicy:
    """Set up the lifecycle rule: whom the budget reaches at the log's mean costs.

    Parameters
    ----------
    snapshot
        Matured decisions.
    programme, actions
        The reactivation offer, inactivity threshold, budget.

    Returns
    -------
    BudgetedPolicy
        Its cut solved on the training customers' decisions.

    Raises
    ------
    ContractError
        If the reactivation offer is not in the action catalogue.
    """
    if programme.reactivation_action not in actions.action_ids[1:]:
        raise ContractError(
            f"reactivation_action '{programme.reactivation_action}' is no offer of the catalogue: "
            f"{list(actions.action_ids[1:])}"
        )
    most = actions.face_values + actions.message_costs  # (K,)
    is_inactive = count_inactive_days(snapshot.training.contexts) > programme.inactivity_days
    effects = [
        [
            _compare_with_control(snapshot.training.take(rows), action, most_cost=most[action])
            for action in range(actions.n_actions)
        ]
        for rows in (~is_inactive, is_inactive)
    ]
    value, cost = np.moveaxis(np.array(effects), -1, 0)  # (2, K) each
    rule = LifecycleRule(
        reactivation_action=actions.action_ids.index(programme.reactivation_action),
        inactivity_days=programme.inactivity_days,
        mean_value_effect=value,
        mean_cost_effect=cost,
    )
    return _freeze(rule, snapshot, programme=programme, actions=actions)


def _freeze(
    scorer: Scorer, snapshot: Snapshot, *, programme: Programme, actions: ActionSet
) -> BudgetedPolicy:
    """Return the scorer's policy with its cut solved on training decisions.

    With the reserve of a night of the log's mean size, as the nights that it decides will have.
    """
    contexts = snapshot.training.contexts
    n_night = snapshot.n_per_night
    n_nights = max(1, contexts.frame["decision_date"].n_unique())
    n_solved = max(1, min(n_night, round(snapshot.training.n_decisions / n_nights)))
    policy = BudgetedPolicy(
        scorer=scorer,
        actions=actions,
        attributes=programme.attributes,
        schema_hash=contexts.schema_hash,
        floor=programme.propensity_floor,
    )
    return policy.spend(
        scorer.score(contexts),
        contexts.eligible,
        budget=programme.budget_per_decision * contexts.n_customers,
        is_solved_on=np.ones(contexts.n_customers, dtype=bool),
        typical_night=(n_night, n_solved),
    )


def _compare_with_control(
    logged: LoggedDecisions, action: int, *, most_cost: float
) -> tuple[float, float]:
    """Return an action's mean value and cost effect, self-normalised.

    Where the log never took the action, no value is claimed and the declared cost assumed.
    """
    if action == 0:
        return 0.0, 0.0
    if not {0, action} <= set(logged.action.tolist()):
        return 0.0, most_cost
    means = []
    for each in (action, 0):
        single = np.zeros(logged.logging_policy.shape)
        single[:, each] = 1.0
        weight = weigh(single, logged.action, logged.propensity)
        means.append(
            [float(contribute_snips(r, weight).values.mean()) for r in (logged.value, logged.cost)]
        )
    return means[0][0] - means[1][0], means[0][1] - means[1][1]


def report_candidate(candidate: BudgetedPolicy) -> HeadReport:
    """Return what the training found out about a candidate's heads.

    Parameters
    ----------
    candidate
        With uplift heads.

    Returns
    -------
    HeadReport
        Why each learner serves; calibration, ranking and efficiency of each offer.
    """
    return _heads_of(candidate).report


def describe_heads(candidate: BudgetedPolicy) -> pl.DataFrame:
    """Return one row per lifecycle and action of a candidate's heads.

    Parameters
    ----------
    candidate
        With uplift heads.

    Returns
    -------
    pl.DataFrame
        lifecycle, action_id, n_rows, is_supported, refusal; for value and cost the learner, the
        effect (mean, currency per decision) and the slope (of the offer's family; 0 = abstains and
        uses the mean).
    """
    names, heads = candidate.actions.action_ids, _heads_of(candidate)
    return pl.DataFrame(
        [
            {
                "lifecycle": head.lifecycle,
                "action_id": names[action],
                "n_rows": int(head.n_rows[action]),
                "is_supported": bool(head.is_supported[action]),
                "refusal": head.refusals[action],
                **{
                    f"{outcome}_{key}": figure
                    for outcome, each in head.outcomes.items()
                    for key, figure in (
                        ("learner", each.candidate),
                        ("effect", float(each.effect[action])),
                        ("slope", each.calibrations[action].slope),
                    )
                },
            }
            for head in heads.heads
            for action in range(1, len(names))
        ]
    )


def _heads_of(candidate: BudgetedPolicy) -> UpliftHeads:
    if not isinstance(candidate.scorer, UpliftScorer):
        raise ContractError(f"a {candidate.kind} policy has no heads to describe")
    return candidate.scorer.heads
