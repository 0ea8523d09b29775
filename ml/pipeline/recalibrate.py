"""Learn, between trainings: the champion brought in line with what matured since a drift."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from ml.core.errors import ContractError, SupportError
from ml.core.programme import Programme
from ml.pipeline.learn import describe_heads, limit_offers, set_up_policy
from ml.pipeline.policies import TREE, BudgetedPolicy
from ml.pipeline.snapshots import Snapshot
from ml.uplift.recalibration import recalibrate_heads


def recalibrate_policy(
    policy: BudgetedPolicy,
    recent: Snapshot,
    *,
    programme: Programme,
    progress: Callable[[str], None] = lambda message: None,
) -> BudgetedPolicy:
    """Return a policy whose effects are calibrated on recent decisions of training customers.

    Parameters
    ----------
    policy
        The champion, with uplift heads.
    recent
        Decisions since the drift, encoded as the policy encodes them.
    programme
        Budget and floor.
    progress
        Called with a line per step.

    Returns
    -------
    BudgetedPolicy
        Its cut solved on the recent decisions: a candidate like any other.

    Raises
    ------
    ContractError
        If the policy has no heads or is a tree, or has another action set than the log.
    SupportError
        If no recent decision of a training customer has all its propensities.
    """
    uplift = policy.scorer.uplift
    if uplift is None:
        raise ContractError(
            f"a {policy.kind} policy has no heads to recalibrate: run weekly_training"
        )
    if policy.kind == TREE:
        raise ContractError("a tree is grown anew, not recalibrated: make interactors CANDIDATE=1")
    training = recent.training
    if training.logging_policy.shape[1] != policy.actions.n_actions:
        raise ContractError(
            "the catalogue's actions are not those that the champion was fitted on: run "
            "weekly_training"
        )
    if not training.n_decisions:
        raise SupportError(
            "no decision of a training customer has matured since: wait, or go further back"
        )
    progress(f"recalibrating on {training.n_decisions:,} decisions")
    heads = recalibrate_heads(uplift.heads, training, families=policy.actions.families)
    scorer = limit_offers(policy.scorer.stand_on(replace(uplift, heads=heads)), recent)
    encoding = replace(programme, attributes=policy.attributes)
    return set_up_policy(scorer, recent, programme=encoding, actions=policy.actions)


def compare_heads(before: BudgetedPolicy, after: BudgetedPolicy) -> pl.DataFrame:
    """Return the effects and slopes of supported offers before a recalibration and after it.

    Parameters
    ----------
    before, after
        The champion and what became of it.

    Returns
    -------
    pl.DataFrame
        lifecycle, action_id; value_effect, value_slope, cost_effect, cost_slope with the suffixes
        _before and _after.
    """
    key = ["lifecycle", "action_id"]
    figures = ["value_effect", "value_slope", "cost_effect", "cost_slope"]
    old, new = (
        describe_heads(policy).select(*key, "is_supported", pl.col(figures).name.suffix(suffix))
        for policy, suffix in ((before, "_before"), (after, "_after"))
    )
    moved = old.filter("is_supported").join(new.drop("is_supported"), on=key, maintain_order="left")
    return moved.select(
        *key, *(f"{name}_{when}" for name in figures for when in ("before", "after"))
    )
