"""Decide: what a policy does with a budget and limits, exploration and chance counted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ml.allocation.budget import BudgetCut, exploration_cost, reserve_for_chance, solve_budget
from ml.allocation.dual import solve_limits
from ml.allocation.limits import Limit, LimitedCut
from ml.core.actions import ActionSet
from ml.core.contexts import Contexts
from ml.core.errors import BudgetError, ContractError
from ml.core.rules import LIFECYCLES, LimitRule
from ml.core.schemas import LimitUsage
from ml.pipeline.policies import BudgetedPolicy, Scores

BUDGET = "budget"
RESERVE_DEVIATIONS = 3.0
_TIGHTENINGS, _LOOSENINGS = 20, 6


def spend(
    policy: BudgetedPolicy,
    scores: Scores,
    contexts: Contexts,
    *,
    actions: ActionSet,
    budget: float,
    is_solved_on: np.ndarray,
    limits: Sequence[LimitRule] = (),
    typical_night: tuple[int, int] | None = None,
    deviations: float = RESERVE_DEVIATIONS,
) -> BudgetedPolicy:
    """Return the policy whose cut spends a budget on the given customers within all limits.

    Prices are solved on the customers outside the evaluation cohort. A reserve for chance is held
    back from the budget and from what a limit allows; if the expected use of all customers still
    exceeds one, those that the prices are solved on get less until it doesn't.

    Parameters
    ----------
    policy
        Its own cut is not used.
    scores
        Of n customers.
    contexts
        Theirs.
    actions
        The K actions of the scores.
    budget
        Total for all n, currency.
    is_solved_on : shape (n,), bool
        Not in the evaluation cohort.
    limits
        Beside the budget.
    typical_night
        Where the given customers are many nights': how many a night has, and how many of those
        the prices are solved on; the reserve is such nights'. None: they are one night.
    deviations
        Of chance, held back as reserve.

    Returns
    -------
    BudgetedPolicy
        With the new cut.

    Raises
    ------
    BudgetError
        If exploration alone uses more than the budget or a limit, limits conflict, or no price
        keeps them.
    """
    n = contexts.n_customers
    solved = is_solved_on if is_solved_on.any() else np.ones(n, dtype=bool)
    if not n:
        return policy
    weights = 1 - policy.floor * contexts.eligible.sum(axis=1)
    n_night, n_solved = typical_night or (n, int(solved.sum()))
    uses = list_limits(limits, actions, n_decisions=n, budget=budget)
    measured = [measure_use(each, scores, contexts) for each in uses]  # (n, K) each
    explored = [exploration_cost(use, contexts.eligible, floor=policy.floor) for use in measured]
    for each, used in zip(uses, explored, strict=True):
        if used.sum() > each.most:
            raise BudgetError(
                f"exploration at propensity_floor {policy.floor} uses {used.sum():.2f} of limit "
                f"'{each.name}', which allows {each.most:.2f}: lower the floor or raise the limit"
            )

    def solve(available: Sequence[float]) -> BudgetedPolicy:
        share = float(solved.mean())
        left = [
            replace(
                each,
                most=max(most * share - float(used[solved].sum()), 0.0),
                least=each.least * share - float(used[solved].sum()),
            )
            for each, most, used in zip(uses, available, explored, strict=True)
        ]
        offered = scores.reward[solved], scores.cost_effect[solved], scores.allowed[solved]
        if len(left) == 1:
            cut = solve_budget(*offered, budget=left[0].most, weights=weights[solved])
            return replace(policy, cut=cut)
        limited = solve_limits(
            *offered, left, segment=contexts.lifecycle_index[solved], weights=weights[solved]
        )
        return replace(policy, cut=limited)

    first = solve([each.most for each in uses]).mix(scores, contexts)
    available = []
    for each, use in zip(uses, measured, strict=True):
        reserve = reserve_for_chance(
            first[solved],
            use[solved],
            n_solved=n_solved,
            n_customers=n_night,
            deviations=deviations,
        )
        available.append(each.most - reserve * n / n_night)

    def use_of(solved: BudgetedPolicy) -> list[float]:
        probabilities = solved.mix(scores, contexts)
        return [float((probabilities * use).sum()) for use in measured]

    spent = solve(available)
    totals = use_of(spent)
    for tightening in range(_TIGHTENINGS):
        if all(total <= each.most for each, total in zip(uses, totals, strict=True)):
            break
        # Less by what is over, and a little more each time: a step may be coarse.
        margin = 1 - 0.001 * 1.5**tightening
        available = [
            max(most * margin * min(1.0, each.most / total), 0.0) if total > each.most else most
            for each, total, most in zip(uses, totals, available, strict=True)
        ]
        spent = solve(available)
        totals = use_of(spent)
    over = [each.name for each, total in zip(uses, totals, strict=True) if total > each.most]
    if over:
        raise BudgetError(f"no price keeps the expected use within: {', '.join(over)}")
    if deviations > 0:
        return spent
    # Nothing is held back for chance: what the customers that the prices weren't solved on leave
    # is spent too, as far as everybody together stays within.
    step = 1.0
    for _ in range(_LOOSENINGS):
        more = [
            most + step * (each.most - total) if np.isfinite(each.most) else most
            for each, total, most in zip(uses, totals, available, strict=True)
        ]
        looser = solve(more)
        tried = use_of(looser)
        if any(total > each.most for each, total in zip(uses, tried, strict=True)):
            step /= 2
        else:
            spent, totals, available = looser, tried, more
    return spent


def hold_back(
    probabilities: np.ndarray,
    scores: Scores,
    contexts: Contexts,
    *,
    actions: ActionSet,
    limits: Sequence[LimitRule],
    floor: float,
) -> np.ndarray:
    """Return a policy of chance with as many offers as the limits allow, each as likely as before.

    Parameters
    ----------
    probabilities : shape (n, K)
        Before there is anything learned.
    scores, contexts, actions, limits
        As for ``spend``; floors are left to policies that know effects.
    floor
        Least probability of every eligible action.

    Returns
    -------
    np.ndarray
        Shape (n, K), rows sum to 1.

    Raises
    ------
    BudgetError
        If a limit leaves no room for exploration.
    """
    held = probabilities
    # The budget is kept already.
    for each in list_limits(limits, actions, n_decisions=len(held), budget=np.inf):
        used = float((held * measure_use(each, scores, contexts)).sum())
        if used <= each.most:
            continue
        share = each.most / used
        held = share * held
        held[:, 0] += 1 - share
        if held[contexts.eligible].min() < floor:
            raise BudgetError(
                f"limit '{each.name}' allows {each.most:.2f}, too few for exploration at "
                f"propensity_floor {floor}: lower the floor or raise the limit"
            )
    return held


def check_limits(limits: Sequence[LimitRule], *known: ActionSet) -> None:
    """Check that limits name what is offered, or was when the policy was fitted.

    Parameters
    ----------
    limits
        Of the programme.
    known
        Tonight's actions and the policy's: an offer may be withdrawn before its limit is.

    Raises
    ------
    ContractError
        With the limit, the unknown name and the known ones.
    """
    for rule in limits:
        for kind, named, names in (
            ("actions", rule.actions, {each for one in known for each in one.action_ids[1:]}),
            ("channels", rule.channels, {each for one in known for each in one.channels[1:]}),
            ("families", rule.families, {each for one in known for each in one.families[1:]}),
        ):
            unknown = sorted(set(named) - names)
            if unknown:
                raise ContractError(
                    f"programme.json: limit '{rule.name}' names {kind} {unknown}; known are "
                    f"{sorted(names)}"
                )


def list_limits(
    rules: Sequence[LimitRule], actions: ActionSet, *, n_decisions: int, budget: float
) -> list[Limit]:
    """Return the budget and the limits as totals of so many decisions.

    Parameters
    ----------
    rules
        Of the programme; one about no action of the set is left out.
    actions
        K actions.
    n_decisions
        Decided on together.
    budget
        Currency.

    Returns
    -------
    list
        The budget first.
    """
    offers = np.arange(actions.n_actions) > 0
    everybody = np.ones(len(LIFECYCLES), dtype=bool)
    limits = [Limit(BUDGET, "cost", offers, everybody, most=budget)]
    for rule in rules:
        counted = actions.select(
            actions=rule.actions, channels=rule.channels, families=rule.families
        )
        segments = np.isin(LIFECYCLES, rule.lifecycles) if rule.lifecycles else everybody
        if counted.any():
            limits.append(
                Limit(
                    rule.name,
                    rule.measure,
                    counted,
                    segments,
                    most=np.inf
                    if rule.most_per_decision is None
                    else rule.most_per_decision * n_decisions,
                    least=-np.inf
                    if rule.least_per_decision is None
                    else rule.least_per_decision * n_decisions,
                )
            )
    return limits


def describe_limits(
    probabilities: np.ndarray,
    cut: BudgetCut | LimitedCut,
    scores: Scores,
    contexts: Contexts,
    *,
    actions: ActionSet,
    budget: float,
    limits: Sequence[LimitRule],
) -> pl.DataFrame:
    """Return what the budget and the limits allow, what is expected, and what more would bring.

    Parameters
    ----------
    probabilities : shape (n, K)
        As emitted, exploration included.
    cut
        The champion's after ``spend``: its prices.
    scores, contexts, actions, budget, limits
        As for ``spend``.

    Returns
    -------
    pl.DataFrame
        LimitUsage rows.
    """
    prices = {f"{BUDGET}, most": cut.shadow_price}
    if isinstance(cut, LimitedCut):
        prices = cut.prices_of
    rows = []
    for each in list_limits(limits, actions, n_decisions=contexts.n_customers, budget=budget):
        expected = float((probabilities * measure_use(each, scores, contexts)).sum())
        for side, bound in (("most", each.most), ("least", each.least)):
            if np.isfinite(bound):
                rows.append(
                    {
                        "limit": each.name,
                        "side": side,
                        "measure": each.measure,
                        "bound": bound,
                        "expected": expected,
                        "price": prices.get(f"{each.name}, {side}", 0.0),
                    }
                )
    return LimitUsage.validate(pl.DataFrame(rows, schema=LimitUsage.create_empty().schema))


def measure_use(limit: Limit, scores: Scores, contexts: Contexts) -> np.ndarray:
    """Return what a limit counts of each customer's actions, shape (n, K).

    Parameters
    ----------
    limit
        Of ``list_limits``.
    scores, contexts
        Of n customers.

    Returns
    -------
    np.ndarray
        Expected cost, or 1, where the action and the customer's lifecycle count; else 0.
    """
    use = scores.cost_effect if limit.measure == "cost" else np.ones(scores.cost_effect.shape)
    return np.asarray(use * limit.actions * limit.segments[contexts.lifecycle_index][:, None])
