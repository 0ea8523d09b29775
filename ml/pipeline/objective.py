"""Validate: the one objective of training, gate and allocation, on logged decisions."""

from collections.abc import Callable

import numpy as np

from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.ope.estimators import find_estimator, weigh_decisions
from ml.pipeline.later import realise_later, take_accounted
from ml.pipeline.policies import BudgetedPolicy
from ml.pipeline.snapshots import Snapshot

REWARDS = ("value", "cost", "net_value")


def take_judged(logged: LoggedDecisions, programme: Programme) -> LoggedDecisions:
    """Return the decisions that the objective can judge: all, or those whose later value is known.

    Parameters
    ----------
    logged
        Evaluation decisions.
    programme
        Whether later value counts.

    Returns
    -------
    LoggedDecisions
        In the same order.
    """
    return take_accounted(logged) if programme.later_value_weight > 0 else logged


def realise_rewards(judged: LoggedDecisions, programme: Programme) -> dict[str, np.ndarray]:
    """Return what each decision brought by reward, shape (n,): the objective that is judged.

    Net value is value - cost over the learning horizon, plus ``later_value_weight`` times what came
    of the decision between that and the accounting horizon: one objective for training, gate and
    allocation, chosen in programme.json.

    Parameters
    ----------
    judged
        Of ``take_judged``.
    programme
        The weight.

    Returns
    -------
    dict
        Names of ``REWARDS`` to arrays, currency.
    """
    net_value = judged.net_value
    if programme.later_value_weight > 0:
        net_value = net_value + programme.later_value_weight * realise_later(judged)
    return {"value": judged.value, "cost": judged.cost, "net_value": net_value}


def find_later_mean(snapshot: Snapshot, programme: Programme) -> float:
    """Return training customers' mean of what the objective counts after the learning horizon.

    Parameters
    ----------
    snapshot
        The log.
    programme
        The weight.

    Returns
    -------
    float
        Currency per decision; 0 where later value doesn't count.
    """
    accounted = take_accounted(snapshot.training)
    if programme.later_value_weight == 0 or not accounted.n_decisions:
        return 0.0
    return programme.later_value_weight * float(realise_later(accounted).mean())


def expect_rewards(
    candidate: BudgetedPolicy, logged: LoggedDecisions, *, later_mean: float = 0.0
) -> dict[str, np.ndarray]:
    """Return the outcome model's mean of each reward, shape (n, K), for the DR estimator.

    Parameters
    ----------
    candidate
        Its heads, fitted on other customers, are the outcome model.
    logged
        Decisions to predict for.
    later_mean
        Of ``find_later_mean``: the same for everybody, it saves variance.

    Returns
    -------
    dict
        Reward name to matrix; zeros where the candidate has no heads (DR is then IPS).
    """
    shape = (logged.n_decisions, candidate.actions.n_actions)
    uplift = candidate.scorer.uplift
    if uplift is None:
        return {reward: np.zeros(shape) for reward in REWARDS}
    effects = uplift.heads.predict(logged.contexts)
    value, cost = effects.expected_value, effects.cost_effect
    later = uplift.later_effect + later_mean
    return {"value": value, "cost": cost, "net_value": value - cost + later}


def judge_by_dr(
    judged: LoggedDecisions,
    candidate: BudgetedPolicy,
    *,
    snapshot: Snapshot,
    programme: Programme,
) -> Callable[[np.ndarray, str], np.ndarray]:
    """Return what gives a policy's contributions to a reward: doubly robust, over no-offer.

    Parameters
    ----------
    judged
        Of ``take_judged``.
    candidate
        Its heads are the outcome model.
    snapshot, programme
        What follows the learning horizon, where it counts.

    Returns
    -------
    Callable
        Of a policy, shape (n, K), and a name of ``REWARDS``, to contributions, shape (n,).
    """
    contribute = find_estimator("dr").contribute
    later_mean = find_later_mean(snapshot, programme)
    expected = expect_rewards(candidate, judged, later_mean=later_mean)
    rewards = realise_rewards(judged, programme)

    def value(policy: np.ndarray, reward: str) -> np.ndarray:
        decisions = weigh_decisions(
            rewards[reward],
            policy=policy,
            action=judged.action,
            propensity=judged.propensity,
            expected_reward=expected[reward],
        )
        return contribute(decisions, np.inf)

    nothing = np.zeros(judged.contexts.eligible.shape)
    nothing[:, 0] = 1.0
    base = {reward: value(nothing, reward) for reward in REWARDS}
    return lambda policy, reward: value(policy, reward) - base[reward]
