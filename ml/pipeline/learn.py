"""Learn: from matured logs to a candidate policy, and to the rule that it must beat."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ml.allocation.budget import cut_probabilities, solve_budget
from ml.allocation.depths import group_depths
from ml.core.actions import ActionSet
from ml.core.errors import ContractError
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.core.rules import LimitRule
from ml.ope.estimators import contrast_actions
from ml.pipeline.later import estimate_later_effects
from ml.pipeline.policies import (
    BudgetedPolicy,
    Guardrails,
    LifecycleRule,
    Scorer,
    Scores,
    UpliftScorer,
    count_inactive_days,
)
from ml.pipeline.snapshots import Snapshot, find_most_offers
from ml.pipeline.spending import spend
from ml.uplift.fitting import LearningSettings, fit_uplift_heads
from ml.uplift.heads import UpliftHeads
from ml.uplift.report import HeadReport


def fit_candidate(
    snapshot: Snapshot,
    *,
    programme: Programme,
    actions: ActionSet,
    settings: LearningSettings | None = None,
    belief_version: str | None = None,
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
    belief_version
        Of the world model whose beliefs the snapshot carries and effects may depend on; None: of
        none.
    progress
        Called with a line per step.

    Returns
    -------
    BudgetedPolicy
        Its cut solved on the training customers' decisions.
    """
    rails = Guardrails(
        least_return=programme.least_return,
        most_cost_per_value=programme.most_cost_per_value,
        depths=group_depths(actions.families, actions.channels, actions.face_values)
        if programme.has_monotone_depths
        else (),
        least_plausibility=programme.least_plausibility,
    )

    later = estimate_later_effects(
        snapshot.training, actions=actions, weight=programme.later_value_weight
    )

    def operate(
        value_effect: np.ndarray, cost_effect: np.ndarray, eligible: np.ndarray
    ) -> np.ndarray:
        """Spend the budget per decision on the best net value effects, without exploration."""
        reward = rails.reward(value_effect + later.per_action, cost_effect)
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
        later_effect=later.per_action,
        belief_version=belief_version,
        progress=progress,
    )
    scorer = UpliftScorer(
        heads,
        fallback_cost=actions.face_values + actions.message_costs,
        later_effect=later.per_action,
        guardrails=replace(rails, caution=heads.caution),
    )
    return set_up_policy(
        limit_offers(scorer, snapshot), snapshot, programme=programme, actions=actions
    )


def limit_offers(scorer: Scorer, snapshot: Snapshot) -> Scorer:
    """Return a scorer whose least reward lets as many get an offer as the log sent at most.

    An offer that costs next to nothing would else go to everybody whom it may help a little, week
    after week, and no decision in the log says what that does to the ones after it.

    Parameters
    ----------
    scorer
        Its own least reward is not used; a rule, which has none, stays as it is.
    snapshot
        The log.

    Returns
    -------
    Scorer
        Its least reward is 0 where it sends less anyway.
    """
    if scorer.uplift is None:
        return scorer
    uplift = replace(scorer.uplift, least_reward=0.0)
    scorer = scorer.stand_on(uplift)
    contexts = snapshot.training.contexts
    scores = scorer.score(contexts)
    best = np.where(scores.allowed[:, 1:], scores.reward[:, 1:], 0.0).max(axis=1, initial=0.0)
    share = find_most_offers(snapshot.training)
    if (best > 0).mean() <= share:
        return scorer
    least = float(np.quantile(best, 1 - share))
    return scorer.stand_on(replace(uplift, least_reward=least))


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
    return set_up_policy(rule, snapshot, programme=programme, actions=actions)


def set_up_policy(
    scorer: Scorer, snapshot: Snapshot, *, programme: Programme, actions: ActionSet
) -> BudgetedPolicy:
    """Return the scorer's policy with its cut solved on training decisions.

    Parameters
    ----------
    scorer
        Of contexts as the snapshot encodes them.
    snapshot
        The log.
    programme, actions
        Budget, floor, attributes; what is offered.

    Returns
    -------
    BudgetedPolicy
        Frozen: to be valued elsewhere.
    """
    contexts = snapshot.training.contexts
    policy = BudgetedPolicy(
        scorer=scorer,
        actions=actions,
        attributes=programme.attributes,
        schema_hash=contexts.schema_hash,
        floor=programme.propensity_floor,
    )
    return freeze_cut(
        policy,
        snapshot,
        scorer.score(contexts),
        actions=actions,
        budget_per_decision=programme.budget_per_decision,
        limits=programme.limits,
    )


def freeze_cut(
    policy: BudgetedPolicy,
    snapshot: Snapshot,
    scores: Scores,
    *,
    actions: ActionSet,
    budget_per_decision: float,
    limits: Sequence[LimitRule] = (),
) -> BudgetedPolicy:
    """Return a policy whose cut spends a budget on the training decisions, within limits.

    With the reserve of a night of the log's mean size, as the nights that it decides will have.

    Parameters
    ----------
    policy
        Its own cut is not used.
    snapshot
        The log.
    scores
        Of the training decisions.
    actions
        Of the scores.
    budget_per_decision
        Currency.
    limits
        Beside it.

    Returns
    -------
    BudgetedPolicy
        Frozen: to be valued elsewhere.

    Raises
    ------
    BudgetError
        If exploration alone costs more.
    """
    contexts = snapshot.training.contexts
    n_night = snapshot.n_per_night
    n_nights = max(1, contexts.frame["decision_date"].n_unique())
    n_solved = max(1, min(n_night, round(snapshot.training.n_decisions / n_nights)))
    return spend(
        policy,
        scores,
        contexts,
        actions=actions,
        budget=budget_per_decision * contexts.n_customers,
        is_solved_on=np.ones(contexts.n_customers, dtype=bool),
        limits=limits,
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
    value, cost = (
        float(
            contrast_actions(
                reward, logged.action, logged.propensity, chosen=action, against=0
            ).mean()
        )
        for reward in (logged.value, logged.cost)
    )
    return value, cost


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


def list_ensembles(candidate: BudgetedPolicy) -> list[str]:
    """Return what a candidate's effects are made of: outcome-learner-scope, in order."""
    return sorted(_heads_of(candidate).ensembles)


def _heads_of(candidate: BudgetedPolicy) -> UpliftHeads:
    if candidate.scorer.uplift is None:
        raise ContractError(f"a {candidate.kind} policy has no heads to describe")
    return candidate.scorer.uplift.heads
