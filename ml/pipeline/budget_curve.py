"""Validate: what a policy would be worth at other budgets, as deployed at each."""

import polars as pl

from ml.core.errors import BudgetError
from ml.core.programme import Programme
from ml.core.schemas import BudgetCurve
from ml.ope.intervals import estimate_mean
from ml.pipeline.learn import freeze_cut
from ml.pipeline.objective import judge_by_dr, take_judged
from ml.pipeline.policies import AlignedPolicy, BudgetedPolicy
from ml.pipeline.snapshots import Snapshot

UNLIMITED = "candidate without limits"
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)


def trace_budget(
    snapshot: Snapshot,
    *,
    candidate: BudgetedPolicy,
    champion: BudgetedPolicy,
    programme: Programme,
    shares: tuple[float, ...] = SHARES,
) -> pl.DataFrame:
    """Return what candidate and champion are worth over no-offer at several budgets.

    At each budget the cut is solved anew on the training customers and frozen; pruning, limits, the
    reserve and exploration are those of the deployed policy. Where limits are declared the
    candidate is traced without them, too: what they forgo. Valued on the evaluation customers by
    DR, paired with no-offer, intervals clustered by customer (Sverdrup, Wu, Athey and Wager 2025,
    whose Qini curves have several actions and costs, too).

    Parameters
    ----------
    snapshot
        The log.
    candidate, champion
        The candidate's heads are the outcome model.
    programme
        Its budget is share 1.
    shares
        Of that budget.

    Returns
    -------
    pl.DataFrame
        BudgetCurve rows; a budget that doesn't pay for exploration has none.
    """
    logged = take_judged(snapshot.evaluation, programme)
    trained = snapshot.training.contexts
    gain_of = judge_by_dr(logged, candidate, snapshot=snapshot, programme=programme)
    limits, rows = programme.limits, []
    traced = [("champion", champion, limits), ("candidate", candidate, limits)]
    if limits:
        traced.append((UNLIMITED, candidate, ()))
    for name, policy, kept in traced:
        seen = AlignedPolicy(policy, candidate.actions, programme)
        on_training, on_evaluation = seen.score(trained), seen.score(logged.contexts)
        for share in shares:
            budget = share * programme.budget_per_decision
            try:
                frozen = freeze_cut(
                    policy,
                    snapshot,
                    on_training,
                    actions=candidate.actions,
                    budget_per_decision=budget,
                    limits=kept,
                )
            except BudgetError:
                continue
            deployed = frozen.mix(on_evaluation, logged.contexts)
            net, cost = (
                estimate_mean(gain_of(deployed, reward), logged.customer)
                for reward in ("net_value", "cost")
            )
            rows.append(
                {
                    "policy": name,
                    "budget_per_decision": budget,
                    "shadow_price": frozen.cut.shadow_price,
                    "cost": cost.value,
                    "incremental_net_value": net.value,
                    "low": net.low,
                    "high": net.high,
                    "level": net.level,
                }
            )
    return BudgetCurve.validate(pl.DataFrame(rows, schema=BudgetCurve.create_empty().schema))
