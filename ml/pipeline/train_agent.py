"""Learn: an agent from consecutive logged decisions, a candidate like any other."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from ml.control.agent import FROM_LOGS, AgentSettings
from ml.control.training import Progress, train_shaped
from ml.core.errors import ContractError, SupportError
from ml.core.journeys import Choices, Transitions
from ml.core.logged import LoggedDecisions
from ml.core.policy import Policy
from ml.core.programme import Programme
from ml.ope.fitted import LogTrees, fit_values, grow_trees, list_kinds
from ml.ope.trajectories import value_by_weights
from ml.pipeline.agent_policy import AgentScorer, fit_encoder
from ml.pipeline.learn import limit_offers, set_up_policy
from ml.pipeline.policies import BudgetedPolicy
from ml.pipeline.snapshots import Snapshot

_FEWEST_STEPS = 1_000
_MOST_DECISIONS = 3
_LEAST_ROWS = 5
_FEWEST_VALUED = 50

JOURNEYS = {
    "policy": pl.String,
    "fitted": pl.Float64,
    "robust": pl.Float64,
    "robust_low": pl.Float64,
    "robust_high": pl.Float64,
    "n_decisions": pl.Int64,
    "effective_journeys": pl.Float64,
    "refusal": pl.String,
}


def fit_agent(
    snapshot: Snapshot,
    base: BudgetedPolicy,
    *,
    programme: Programme,
    settings: AgentSettings = FROM_LOGS,
    progress: Callable[[Progress], None] = lambda now: None,
) -> BudgetedPolicy:
    """Train an agent on training customers' consecutive decisions, under the budget's price.

    Parameters
    ----------
    snapshot
        Matured decisions, with beliefs if the heads use them: they are part of the state then.
    base
        A policy with heads. They say what offers cost, which are supported, and what the gate
        expects; the shadow price of its cut is what the agent learns under.
    programme
        Budget, floor, horizon, seed.
    settings
        Of the agent; seed and price are not used.
    progress
        Called some twenty times a member.

    Returns
    -------
    BudgetedPolicy
        Its cut solved on the training customers' decisions: a candidate like any other.

    Raises
    ------
    ContractError
        If the base has no heads, or other actions than the log.
    SupportError
        If the log holds too few consecutive decisions.
    """
    uplift, logged = base.scorer.uplift, snapshot.training
    if uplift is None:
        raise ContractError(f"a {base.kind} policy has no heads to stand on: run weekly_training")
    if logged.logging_policy.shape[1] != base.actions.n_actions:
        raise ContractError(
            "the catalogue's actions are not those that the heads were fitted on: run "
            "weekly_training"
        )
    encoder = fit_encoder(uplift.heads.see(logged.contexts))
    state = encoder.encode(uplift.heads.see(logged.contexts))
    log, _, _ = list_transitions(logged, state, horizon_days=programme.learning_horizon_days)
    if log.n_steps < _FEWEST_STEPS:
        raise SupportError(
            f"{log.n_steps} decisions of training customers are followed by another within "
            f"{programme.learning_horizon_days} days; an agent needs {_FEWEST_STEPS:,}: wait for "
            "more weeks"
        )
    settings = replace(
        settings,
        price=base.cut.shadow_price,
        seed=programme.seed % 1_000_000,
        batch_size=min(settings.batch_size, log.n_steps),
    )
    agent = train_shaped(log, settings, progress=progress)
    scorer = limit_offers(AgentScorer(uplift, agent, encoder), snapshot)
    encoding = replace(programme, attributes=base.attributes)
    return set_up_policy(scorer, snapshot, programme=encoding, actions=base.actions)


def list_transitions(
    logged: LoggedDecisions, state: np.ndarray, *, horizon_days: int
) -> tuple[Transitions, np.ndarray, np.ndarray]:
    """Return the decisions that another about the same customer follows, as steps of journeys.

    The reward of a step is the decision's net value over the learning horizon, at whose end the
    next decision stands. Where none does (the newest, those before a frozen night), what came next
    is not known, and the step is left out.

    Parameters
    ----------
    logged
        n decisions with every action's propensity.
    state : shape (n, F)
        Of their contexts.
    horizon_days
        The programme's learning horizon.

    Returns
    -------
    tuple
        m transitions by customer and date, ``step`` counting horizons from the customer's first;
        rows of ``logged`` that they begin at, shape (m,), and that follow, shape (m,).
    """
    days = logged.contexts.frame["decision_date"].to_physical().to_numpy().astype(np.int64)
    order = np.lexsort((days, logged.customer))
    customer, day = logged.customer[order], days[order]
    is_same = customer[1:] == customer[:-1]
    followed = np.flatnonzero(is_same & (day[1:] - day[:-1] == horizon_days))
    now, then = order[followed], order[followed + 1]
    customer, day = logged.customer[now], days[now]
    _, start, length = np.unique(customer, return_index=True, return_counts=True)
    first = np.repeat(day[start], length)
    eligible = logged.contexts.eligible
    steps = Transitions(
        state=state[now],
        eligible=eligible[now],
        action=logged.action[now],
        propensity=logged.propensity[now],
        reward=logged.net_value[now],
        cost=logged.cost[now],
        next_state=state[then],
        next_eligible=eligible[then],
        is_over=np.zeros(len(now), dtype=bool),
        customer=customer,
        step=(day - first) // horizon_days,
    )
    return steps, now, then


def value_journeys(
    snapshot: Snapshot, policies: Mapping[str, Policy], *, agent: BudgetedPolicy, horizon_days: int
) -> pl.DataFrame:
    """Value policies over whole journeys on customers who trained nothing.

    A random half of the evaluation customers fits the action values (fitted Q evaluation by trees);
    the other half's first decisions are where journeys begin, and correct them: doubly robust over
    three decisions, or as many fewer as journeys enough carry the weights of. Values are of
    journeys without end at the agent's discount, most of which lies beyond the decisions that are
    corrected: intervals are of the corrected part, clustered by customer, and hold none of the
    error of fitted values after that.

    Parameters
    ----------
    snapshot
        Its evaluation decisions are used.
    policies
        Name to policy, as deployed.
    agent
        Of ``fit_agent``: its states and discount.
    horizon_days
        The programme's learning horizon.

    Returns
    -------
    pl.DataFrame
        ``JOURNEYS``: currency per customer; null where refused. ``n_decisions`` carry weights,
        ``refusal`` says why no more do.
    """
    scorer = agent.scorer
    if not isinstance(scorer, AgentScorer):
        raise ContractError(f"a {agent.kind} policy has no journeys to value")
    logged = snapshot.evaluation.take(snapshot.evaluation.has_vector)
    steps, now, then = list_transitions(
        logged, scorer.encode(logged.contexts), horizon_days=horizon_days
    )
    random = np.random.default_rng([len(logged.action), 41])
    is_fitting = random.random(int(logged.customer.max(initial=0)) + 1) < 0.5
    is_fitting = is_fitting[steps.customer]
    if min(is_fitting.sum(), (~is_fitting).sum()) < _FEWEST_VALUED:
        refusal = f"fewer than {_FEWEST_VALUED} evaluation decisions that another follows"
        refused = [{"policy": name, "refusal": refusal} for name in policies]
        return pl.DataFrame(refused, schema=JOURNEYS)
    trees = grow_trees(
        steps.take(is_fitting),
        kinds=list_kinds(agent.actions.face_values),
        least_rows=_LEAST_ROWS,
    )
    rows = []
    for name, policy in policies.items():
        chosen = policy.probabilities(logged.contexts)
        choices = Choices(chosen[now], chosen[then])
        found = _value_policy(trees, steps, choices, is_fitting, scorer.agent.discount)
        rows.append({"policy": name, **found})
    return pl.DataFrame(rows, schema=JOURNEYS)


def _value_policy(
    trees: LogTrees,
    steps: Transitions,
    choices: Choices,
    is_fitting: np.ndarray,
    discount: float,
) -> dict[str, object]:
    """Return the figures of a row of ``JOURNEYS``, weights over as many decisions as they bear."""
    try:
        fitted = fit_values(trees, choices.take(is_fitting), discount=discount)
    except SupportError as error:
        return {"refusal": str(error)}
    begun = ~is_fitting & (steps.step == 0)
    value = (choices.now[begun] * fitted.value(steps.state[begun])).sum(axis=1)
    found: dict[str, object] = {"fitted": float(value.mean())}
    for n_decisions in range(_MOST_DECISIONS, 0, -1):
        early = ~is_fitting & (steps.step < n_decisions)
        try:
            robust = value_by_weights(
                steps.take(early), choices.take(early), discount=discount, values=fitted
            )
        except SupportError as error:
            found["refusal"] = str(error)
            continue
        estimate = robust.estimate
        return found | {
            "robust": estimate.value,
            "robust_low": estimate.low,
            "robust_high": estimate.high,
            "n_decisions": n_decisions,
            "effective_journeys": robust.effective,
        }
    return found
