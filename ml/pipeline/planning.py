"""The action-space planner: support per cell, and the next compact set of actions to explore."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from ml.core.actions import ActionSet
from ml.core.logged import LoggedDecisions
from ml.core.schemas import ActionPlan
from ml.ope.design import plan_exploration
from ml.ope.estimators import contrast_actions, effective_sample_size
from ml.ope.intervals import Estimate, estimate_mean

PROOF_LEVEL = 0.95
_DAYS_A_WEEK = 7


@dataclass(frozen=True)
class _Verdict:
    """What becomes of an action, and why."""

    proposal: str
    reason: str
    is_strong: bool = False


def plan_actions(logged: LoggedDecisions, *, actions: ActionSet) -> pl.DataFrame:
    """Propose the next action set, with the decisions that each cell needs.

    A large set starves every cell of evidence, so it begins compact and grows locally. Over all
    lifecycles, by net value per decision against no-offer, one-sided 95 %:

    - a family proven worthless is dropped; one not proven either way keeps its best member alone;
    - in a proven family members proven worse than its best on the same channel are dropped (another
      channel may not reach the same customers);
    - the best proven family with a face value gets one new depth: between its best depth and the
      better neighbour; half of it where it is the shallowest, half a step beyond where the deepest.

    A cell's need is the decisions of the lifecycle until a test (5 %, power 80 %) tells half the
    family's best net effect there from 0, at the log's mean propensities.

    Parameters
    ----------
    logged
        Matured decisions of everybody whom policies decide about.
    actions
        K actions.

    Returns
    -------
    pl.DataFrame
        ActionPlan: a row per lifecycle and action, the proposed ones included; none without logged
        propensities.
    """
    known = logged.take(logged.has_vector)
    if not known.n_decisions:
        return ActionPlan.create_empty()
    everywhere = {action: _estimate_net(known, action) for action in range(1, actions.n_actions)}
    verdicts = _judge_actions(known, everywhere, actions)
    proposed = _propose_depth(everywhere, verdicts, actions)
    lifecycle = known.contexts.frame["lifecycle"].to_numpy()
    days = known.contexts.frame["decision_date"].to_physical().to_numpy()
    span = max(int(days.max() - days.min()) + 1, _DAYS_A_WEEK)
    rows = []
    for name in sorted(set(lifecycle.tolist())):
        part = known.take(lifecycle == name)
        nets = {action: _estimate_net(part, action) for action in range(1, actions.n_actions)}
        weekly = part.n_decisions * _DAYS_A_WEEK / span
        for action in range(1, actions.n_actions):
            relatives = [
                nets[each]
                for each in range(1, actions.n_actions)
                if actions.families[each] == actions.families[action]
            ]
            worth = max((each.value for each in relatives if each is not None), default=0.0)
            rows.append(
                {
                    "lifecycle": name,
                    "action_id": actions.action_ids[action],
                    "family": actions.families[action],
                    "channel": actions.channels[action],
                    "face_value": float(actions.face_values[action]),
                    "proposal": verdicts[action].proposal,
                    "reason": verdicts[action].reason,
                    **_describe_support(part, action, nets[action]),
                    **_describe_need(part, action, worth=worth, weekly=weekly),
                }
            )
        if proposed is not None:
            parent, face_value, reason = proposed
            like = next(
                each
                for each in rows
                if each["lifecycle"] == name and each["action_id"] == actions.action_ids[parent]
            )
            rows.append(
                {
                    **like,
                    "action_id": f"{actions.action_ids[parent]}_at_{face_value:g}",
                    "face_value": face_value,
                    "proposal": "add",
                    "reason": reason,
                    **_describe_support(part, -1, None),
                }
            )
    return ActionPlan.validate(
        pl.DataFrame(rows, schema=ActionPlan.create_empty().schema).sort("lifecycle", "action_id")
    )


def _estimate_net(logged: LoggedDecisions, action: int, *, against: int = 0) -> Estimate | None:
    """Return an action's net value over another's, self-normalised; None without two customers."""
    policy = logged.logging_policy
    part = logged.take((policy[:, action] > 0) & (policy[:, against] > 0))
    if not {action, against} <= set(part.action.tolist()) or len(np.unique(part.customer)) < 2:
        return None
    contrast = contrast_actions(
        part.net_value, part.action, part.propensity, chosen=action, against=against
    )
    return estimate_mean(contrast, part.customer)


def _judge_actions(
    logged: LoggedDecisions, nets: Mapping[int, Estimate | None], actions: ActionSet
) -> dict[int, _Verdict]:
    """Return each action's verdict."""
    quantile = float(stats.norm.ppf(PROOF_LEVEL))
    verdicts = {}
    for family in sorted(set(actions.families[1:])):
        members = [k for k in range(1, actions.n_actions) if actions.families[k] == family]
        seen = {k: each for k in members if (each := nets[k]) is not None}
        for action in set(members) - set(seen):
            verdicts[action] = _Verdict("keep", "never taken beside no-offer: no evidence yet")
        if not seen:
            continue
        best = max(seen, key=lambda k: seen[k].value)
        is_strong = seen[best].value > _adjust(quantile, len(seen)) * seen[best].standard_error
        is_worthless = all(
            each.value + quantile * each.standard_error < 0 for each in seen.values()
        )
        for action in seen:
            if is_worthless:
                verdict = _Verdict("drop", f"family {family}: every net effect is proven negative")
            elif not is_strong and action != best:
                best_id = actions.action_ids[best]
                verdict = _Verdict(
                    "drop", f"family {family} is not proven; {best_id} stands for it"
                )
            elif not is_strong:
                verdict = _Verdict("keep", f"stands for family {family}, which is not proven")
            else:
                rival = max(
                    (k for k in seen if actions.channels[k] == actions.channels[action]),
                    key=lambda k: seen[k].value,
                )
                gap = _estimate_net(logged, rival, against=action) if action != rival else None
                is_worse = gap is not None and gap.value > quantile * gap.standard_error
                verdict = (
                    _Verdict("drop", f"proven worse than {actions.action_ids[rival]}")
                    if is_worse
                    else _Verdict("keep", f"family {family} is proven", is_strong=True)
                )
            verdicts[action] = verdict
    return verdicts


def _adjust(quantile: float, n_members: int) -> float:
    """Return the one-sided quantile for the best of several (Bonferroni)."""
    return float(stats.norm.ppf(1 - (1 - stats.norm.cdf(quantile)) / n_members))


def _propose_depth(
    nets: Mapping[int, Estimate | None],
    verdicts: Mapping[int, _Verdict],
    actions: ActionSet,
) -> tuple[int, float, str] | None:
    """Return the action to vary, the new face value and why; None where nothing is proven."""
    strong = {
        action: each
        for action, each in nets.items()
        if each is not None and verdicts[action].is_strong and actions.face_values[action] > 0
    }
    if not strong:
        return None
    best = max(strong, key=lambda action: strong[action].value)
    worth: dict[float, float] = {}
    for action, each in nets.items():
        depth = float(actions.face_values[action])
        if actions.families[action] == actions.families[best] and depth > 0:
            value = -np.inf if each is None else each.value
            worth[depth] = max(worth.get(depth, -np.inf), value)
    depths = sorted(worth)
    own = float(actions.face_values[best])
    position = depths.index(own)
    if len(depths) == 1:
        return best, own / 2, "the only depth so far; half of it tells which way to go"
    if position == len(depths) - 1:
        face_value = own + (own - depths[position - 1]) / 2
        return best, face_value, "the deepest is best: half a step beyond"
    if position == 0:
        return best, own / 2, "the shallowest is best: half of it"
    neighbour = max(depths[position - 1], depths[position + 1], key=worth.__getitem__)
    return best, (own + neighbour) / 2, "between the best depth and its better neighbour"


def _describe_support(
    logged: LoggedDecisions, action: int, net: Estimate | None
) -> dict[str, float | int | None]:
    """Return how much a cell has been seen, and what was seen."""
    taken = logged.action == action
    propensity = logged.propensity[taken]
    possible = logged.logging_policy[:, action] > 0 if action > 0 else np.zeros(0, dtype=bool)
    return {
        "n_rows": int(taken.sum()),
        "effective_rows": effective_sample_size(1 / propensity) if taken.any() else 0.0,
        "mean_propensity": float(logged.logging_policy[possible, action].mean())
        if possible.any()
        else None,
        "smallest_propensity": float(propensity.min()) if taken.any() else None,
        "net_effect": None if net is None else net.value,
        "low": None if net is None else net.low,
        "high": None if net is None else net.high,
    }


def _describe_need(
    logged: LoggedDecisions, action: int, *, worth: float, weekly: float
) -> dict[str, float | int | None]:
    """Return the decisions, and weeks at the present rate, that half the worth needs."""
    possible = (logged.logging_policy[:, action] > 0) & (logged.logging_policy[:, 0] > 0)
    deviation = float(logged.net_value.std()) if logged.n_decisions else 0.0
    if worth <= 0 or deviation <= 0 or not possible.any():
        return {"needed_decisions": None, "needed_weeks": None}
    own = float(logged.logging_policy[possible, action].mean())
    control = float(logged.logging_policy[possible, 0].mean())
    rest = max(1 - own - control, 0.0)
    propensities = {"control": control, "own": own} | ({"rest": rest} if rest > 1e-6 else {})
    plan, *_ = plan_exploration(
        propensities,
        effect=worth / 2,
        standard_deviation=deviation,
        decisions_per_week=max(weekly * float(possible.mean()), 1e-9),
    )
    return {"needed_decisions": math.ceil(plan.n_decisions), "needed_weeks": plan.weeks}
