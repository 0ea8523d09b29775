"""What a policy's one-step value says about living by it: python -m benchmarks.studies.forward.

Nine fixed policies are valued by DR on the log of the experiment, then each is lived for 60 nights
from the same morning of the bakery; the truth is the net value of all due customers over never
sending, per decision, fatigue, habits and opt-outs included. Finished seeds are kept.
"""

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.studies.nightly_loop.contenders import NeverSend
from benchmarks.studies.nightly_loop.living import live_nights, warm_up
from benchmarks.studies.nightly_loop.marts import LoopMarts
from benchmarks.studies.resuming import keep_seeds, print_line
from ml.core.contexts import Contexts, build_contexts
from ml.core.hashing import hash_uniform
from ml.core.policy import Policy, draw_actions
from ml.core.programme import Programme
from ml.ope.estimators import find_estimator, weigh_decisions
from ml.ope.gate import MOST_OFFERS_RATIO
from ml.ope.intervals import estimate_mean
from ml.pipeline.later import estimate_later_effects
from ml.pipeline.learn import (
    fit_candidate,
    fit_lifecycle_rule,
    freeze_cut,
    limit_offers,
    set_up_policy,
)
from ml.pipeline.objective import expect_rewards
from ml.pipeline.policies import BudgetedPolicy, UpliftScorer
from ml.pipeline.snapshots import Snapshot, take_snapshot
from ml.pipeline.validate import SingleAction
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import find_world


@dataclass(frozen=True)
class _Mixed:
    """Everybody gets a random eligible offer with a probability."""

    share: float

    @property
    def kind(self) -> str:
        """Name in reports."""
        return "random"

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return shape (n, K)."""
        offers = contexts.eligible.copy()
        offers[:, 0] = False
        count = offers.sum(axis=1, keepdims=True)
        policy = self.share * offers / np.maximum(count, 1)
        policy[:, 0] = 1 - policy[:, 1:].sum(axis=1)
        return np.asarray(policy)


@dataclass
class _Living:
    """A fixed policy as a contender of the loop: every night the same probabilities."""

    name: str
    policy: Policy
    programme: Programme

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Draw an action for every due customer outside the holdout."""
        features = marts.build_features(state.day).filter(~pl.col("is_holdout"))
        contexts = build_contexts(
            features.sort("customer_id"), programme=self.programme, actions=marts.actions
        )
        chances = self.policy.probabilities(contexts)
        keys = contexts.frame["customer_id"] + f":{state.day}"
        drawn = draw_actions(chances, hash_uniform(keys, salt="forward"))
        rows = contexts.frame["customer_id"].cast(pl.Int64).to_numpy()
        return world.log_decisions(
            state, rows, drawn, chances, arm=self.name, policy_version=self.name
        )


def main() -> int:
    """Run the study, print its table and its line."""
    parsed = _parse()
    started = time.monotonic()
    n_seeds, n_nights, n_customers = (1, 8, 2_000) if parsed.quick else (parsed.seeds, 60, 12_000)
    lived = keep_seeds(
        parsed.out,
        f"{n_customers}-{n_nights}",
        range(1, n_seeds + 1),
        partial(live_seed, n_nights=n_nights, n_customers=n_customers),
    )
    figures = _report(lived)
    print(f"\n{time.monotonic() - started:.0f} s")
    print_line(figures)
    return 0


def live_seed(seed: int, n_nights: int, n_customers: int) -> pl.DataFrame:
    """Value nine policies on one seed's experiment, then live by each.

    Parameters
    ----------
    seed
        Of the world.
    n_nights
        Lived.
    n_customers
        Of the world.

    Returns
    -------
    pl.DataFrame
        policy, one_step with low and high, offer_share, log_offer_share, lived; net value over
        never sending, currency per decision.
    """
    config = replace(find_world("bakery"), n_customers=n_customers, seed=seed)
    world = World(config)
    morning, marts, system = warm_up(world, n_nights=n_nights)
    snapshot = take_snapshot(system.read_log(), programme=config.programme, actions=marts.actions)
    uplift = fit_candidate(snapshot, programme=config.programme, actions=marts.actions)
    policies = _make_policies(snapshot, marts, config.programme, uplift)
    valued = _value(snapshot, policies, uplift)
    never = live_nights(world, NeverSend(), morning, marts.branch(), n_nights=n_nights)
    rows = []
    for name, policy in policies.items():
        living = _Living(name, policy, config.programme)
        lived = live_nights(world, living, morning, marts.branch(), n_nights=n_nights)
        n_decided = float(lived["budget"].to_numpy().sum()) / config.budget_per_decision
        gain = float(lived["net_value"].to_numpy().sum() - never["net_value"].to_numpy().sum())
        rows.append({"policy": name, **valued[name], "lived": gain / n_decided})
    return pl.DataFrame(rows).with_columns(pl.lit(seed).alias("seed"))


def _make_policies(
    snapshot: Snapshot, marts: LoopMarts, programme: Programme, uplift: BudgetedPolicy
) -> dict[str, Policy]:
    """Return nine policies, from hardly sending to always."""
    actions = marts.actions
    if not isinstance(uplift.scorer, UpliftScorer):
        raise AssertionError("fit_candidate fits uplift heads")
    scores = uplift.scorer.score(snapshot.training.contexts)

    def at(share: float) -> Policy:
        budget = share * programme.budget_per_decision
        return freeze_cut(uplift, snapshot, scores, actions=actions, budget_per_decision=budget)

    later = estimate_later_effects(snapshot.training, actions=actions, weight=1.0)
    counting = replace(uplift.scorer, later_effect=later.per_action)
    return {
        "uplift": uplift,
        "uplift, later counted": set_up_policy(
            limit_offers(counting, snapshot), snapshot, programme=programme, actions=actions
        ),
        "uplift, half": at(0.5),
        "uplift, double": at(2.0),
        "uplift, five times": at(5.0),
        "rule": fit_lifecycle_rule(snapshot, programme=programme, actions=actions),
        "random half": _Mixed(0.5),
        "random all": _Mixed(1.0),
        "all email_coupon_2": SingleAction(actions.action_ids.index("email_coupon_2")),
    }


def _value(
    snapshot: Snapshot, policies: dict[str, Policy], uplift: BudgetedPolicy
) -> dict[str, dict[str, float]]:
    """Return each policy's one-step net value over no-offer, by DR, and how much it sends."""
    logged, contribute = snapshot.evaluation, find_estimator("dr").contribute
    expected = expect_rewards(uplift, logged)["net_value"]
    sent = float((logged.action > 0).mean())

    def contributions(policy: Policy) -> tuple[np.ndarray, float]:
        chances = policy.probabilities(logged.contexts)
        decisions = weigh_decisions(
            logged.net_value,
            policy=chances,
            action=logged.action,
            propensity=logged.propensity,
            expected_reward=expected,
        )
        return contribute(decisions, np.inf), float((1 - chances[:, 0]).mean())

    nothing, _ = contributions(SingleAction(0))
    valued = {}
    for name, policy in policies.items():
        own, offers = contributions(policy)
        gain = estimate_mean(own - nothing, logged.customer)
        valued[name] = {
            "one_step": gain.value,
            "low": gain.low,
            "high": gain.high,
            "offer_share": offers,
            "log_offer_share": sent,
        }
    return valued


def _report(rows: pl.DataFrame) -> dict[str, float]:
    """Print both values side by side, and return the line's figures."""
    means = rows.group_by("policy", maintain_order=True).agg(
        pl.col("offer_share", "log_offer_share", "one_step", "lived").mean(),
        (pl.col("one_step") - pl.col("lived")).mean().alias("bias"),
    )
    print(f"\n{'policy':<22}{'offers':>8}{'one step':>10}{'lived':>8}{'bias':>8}  gate")
    for row in means.iter_rows(named=True):
        is_refused = row["offer_share"] > MOST_OFFERS_RATIO * row["log_offer_share"]
        print(
            f"{row['policy']:<22}{row['offer_share']:>8.1%}{row['one_step']:>10.3f}"
            f"{row['lived']:>8.3f}{row['bias']:>+8.3f}  "
            + ("refused: sends more than the log" if is_refused else "")
        )
    by_seed = [part for _, part in rows.group_by("seed", maintain_order=True)]
    ranks = [stats.spearmanr(part["one_step"], part["lived"]).statistic for part in by_seed]
    supported = means.filter(pl.col("offer_share") <= MOST_OFFERS_RATIO * pl.col("log_offer_share"))
    return {
        "seeds": len(by_seed),
        "rank_correlation": float(np.mean(ranks)),
        "bias_mean": float(means["bias"].to_numpy().mean()),
        "bias_supported_mean": float(supported["bias"].to_numpy().mean()),
        "best_is_best_share": float(
            np.mean([part["one_step"].arg_max() == part["lived"].arg_max() for part in by_seed])
        ),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="forward", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a minute: one small life, 8 nights")
    parser.add_argument("--out", default=".liftloop-forward", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
