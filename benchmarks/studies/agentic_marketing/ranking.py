"""Whether fitted Q evaluation, from a log alone, ranks policies as the simulator does."""

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import torch

from benchmarks.studies.agentic_marketing.bakery import (
    BUDGET,
    LOGGED_WEEKS,
    make_bakery,
)
from benchmarks.studies.agentic_marketing.policies import (
    choose_at_random,
    choose_by_experiment,
    choose_by_warm_start,
    choose_nothing,
    rank_inactive,
)
from benchmarks.studies.agentic_marketing.reward import fit_action_models
from ml.control.agent import FROM_LOGS
from ml.control.training import train_shaped
from ml.core.errors import SupportError
from ml.core.journeys import (
    Chooser,
    Situation,
    Transitions,
    choose_evenly,
    choose_on_log,
    live_journeys,
)
from ml.core.policy import draw_actions
from ml.ope.fitted import FittedValues, fit_values, grow_trees, list_kinds
from ml.ope.trajectories import value_by_weights
from ml.pipeline.budgeted_journeys import BudgetedChooser, find_price
from ml.simulate.config import CHANNELS
from ml.simulate.journeys import BakeryJourneys
from ml.simulate.worlds import BAKERY

_DISCOUNT = 0.9
_VALUED_WEEKS = 26
"""Of the log that values: what messages do to opt-outs takes longer than what they do to sales."""
_LIVED_WEEKS = 52
"""What comes later weighs less than a hundredth."""
_LEAST_ROWS = 5
_DECISIONS, _ROBUST_DECISIONS = (1, 2, 3, 4), 3


def run_ranking(seed: int, *, is_quick: bool) -> pl.DataFrame:
    """Learn policies from one log, value them from others, live them in the simulator.

    Parameters
    ----------
    seed
        Of the world.
    is_quick
        Few customers.

    Returns
    -------
    pl.DataFrame
        policy; figure: 'fitted' and 'true'; 'weights' and 'true' of the first decisions, and
        'doubly_robust' of whole journeys by weights of them, each '<figure>_<decisions>'; value,
        currency per customer, NaN where refused; seed.
    """
    torch.set_num_threads(1)
    n = 500 if is_quick else 10_000
    first, second, third = (
        live_journeys(
            make_bakery(1_000 * part + seed, size, n_steps=weeks), choose_by_experiment, seed=seed
        )
        for part, size, weeks in (
            (2, n, LOGGED_WEEKS),
            (3, n // 2, _VALUED_WEEKS),
            (4, n, max(_DECISIONS)),
        )
    )
    settings = replace(FROM_LOGS, seed=seed, n_members=2, n_updates=30 if is_quick else 600)
    costs = fit_action_models(first, first.cost)
    rewards = fit_action_models(first, first.reward)
    price = find_price(first, rewards.predict, costs.value, budget=BUDGET)
    agent = train_shaped(first, replace(settings, price=price))
    within = partial(BudgetedChooser, costs=costs.value)
    face = np.array([offer.face_value for offer in BAKERY.ordered_offers])
    is_coupon_or_none = (face > 0) | (np.arange(len(face)) == 0)
    policies: dict[str, Chooser] = {
        "never_send": choose_nothing,
        "even": choose_evenly,
        "warm_start": choose_by_warm_start,
        "random_within_budget": partial(choose_at_random, costs=costs, budget=BUDGET),
        "lifecycle_rule": within(rank_inactive, budget=BUDGET).choose,
        "ads_alone": partial(_choose_among, allowed=face == 0),
        "coupons_alone": partial(_choose_among, allowed=is_coupon_or_none),
        "myopic": within(rewards.predict, budget=BUDGET).choose,
        "ours": within(agent.find_advantages, budget=BUDGET, price=price).choose,
        "ours_a_third_of_it": within(agent.find_advantages, budget=BUDGET / 3, price=price).choose,
    }
    trees = grow_trees(
        second,
        described=_describe_actions(face),
        kinds=list_kinds(face),
        least_rows=_LEAST_ROWS,
        seed=seed,
    )
    lived = make_bakery(seed, n, n_steps=_LIVED_WEEKS)
    begun = lived.begin(seed)
    rows = []
    for name, choose in policies.items():
        fitted = fit_values(trees, choose_on_log(second, choose), discount=_DISCOUNT, seed=seed)
        start = (choose(begun) * fitted.value(begun.state)).sum(axis=1)
        by_week = _live(lived, choose, seed)
        found = {"fitted": float(start.mean()), "true": float(by_week.sum())}
        for n_decisions in _DECISIONS:
            found[f"true_{n_decisions}"] = float(by_week[:n_decisions].sum())
            early = third.take(third.step < n_decisions)
            found[f"weights_{n_decisions}"] = _weigh(early, choose, None)
            if n_decisions == _ROBUST_DECISIONS:
                found[f"doubly_robust_{n_decisions}"] = _weigh(early, choose, fitted)
        rows += [
            {"policy": name, "figure": figure, "value": value} for figure, value in found.items()
        ]
    return pl.DataFrame(rows).with_columns(pl.lit(seed).alias("seed"))


def _weigh(log: Transitions, choose: Chooser, values: FittedValues | None) -> float:
    """Return the value by weights, NaN where it is refused."""
    try:
        choices = choose_on_log(log, choose)
        return value_by_weights(log, choices, discount=_DISCOUNT, values=values).estimate.value
    except SupportError:
        return float("nan")


def _live(bakery: BakeryJourneys, choose: Chooser, seed: int) -> np.ndarray:
    """Return each week's discounted net margin per customer."""
    random = np.random.default_rng([seed, 63])
    now, weeks = bakery.begin(seed), []
    for week in range(bakery.n_steps):
        came = bakery.step(draw_actions(choose(now), random.random(len(now.state))))
        weeks.append(_DISCOUNT**week * came.reward.mean())
        now = came.then
    return np.array(weeks)


def _choose_among(now: Situation, *, allowed: np.ndarray) -> np.ndarray:
    """Return any of some actions, evenly, (n, K)."""
    policy = now.eligible & allowed
    return np.asarray(policy / policy.sum(axis=1, keepdims=True))


def _describe_actions(face: np.ndarray) -> np.ndarray:
    """Return what trees may split actions by, (K, 5): an offer, its face value, its channel."""
    channel = np.array([offer.channel for offer in BAKERY.ordered_offers])
    by_channel = channel[:, None] == np.array(CHANNELS)
    return np.column_stack([np.arange(len(face)) > 0, face, by_channel]).astype(float)
