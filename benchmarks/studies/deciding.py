"""What allocation brings, with the same effects for all: python -m benchmarks.studies.deciding.

Every seed's bakery fits one uplift policy on its experiment. Then 30 nights are lived by contenders
that know the same predicted effects, explore with the same floor and have the same night's budget
and cap on text messages, but spend them differently: as the pipeline does, paced (nothing held
back for a night's chance) and unpaced, by the exact optimum of each night, with exploration and
without, by predicted value, by the propensity to buy anyway, and by the lifecycle rule. Finished
seeds are kept.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.studies.nightly_loop.contenders import Contender, NeverSend
from benchmarks.studies.nightly_loop.living import live_nights, warm_up
from benchmarks.studies.nightly_loop.marts import LoopMarts
from benchmarks.studies.resuming import keep_seeds, print_line
from ml.allocation.budget import exploration_cost
from ml.allocation.dual import solve_limits
from ml.core.contexts import Contexts, build_contexts
from ml.core.hashing import hash_uniform
from ml.core.policy import draw_actions, explore
from ml.core.programme import Programme
from ml.core.rules import LimitRule
from ml.pipeline.decide import decide_night, to_contract
from ml.pipeline.learn import fit_candidate, fit_lifecycle_rule
from ml.pipeline.policies import BudgetedPolicy, Scores, UpliftScorer
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.spending import list_limits, measure_use
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import find_world

_CAP = LimitRule(name="texts", measure="offers", channels=("text",), most_per_decision=0.12)


@dataclass
class _Night:
    """A contender's way through one night: its policy, shape (n, K), by contexts and scores."""

    name: str
    policy: BudgetedPolicy
    programme: Programme
    spend: Callable[[Contexts, Scores, "_Night"], np.ndarray]

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Decide every due customer outside the holdout."""
        features = marts.build_features(state.day).filter(~pl.col("is_holdout"))
        contexts = build_contexts(
            features.sort("customer_id"), programme=self.programme, actions=marts.actions
        )
        scores = self.policy.scorer.score(contexts)
        chances = self.spend(contexts, scores, self)
        # The pipeline's own draws: contenders differ by their chances alone.
        keys = contexts.frame["customer_id"] + f":{world.date_of(state.day)}:r1"
        salt = f"assignment-{self.programme.surface}-{self.programme.seed}"
        drawn = draw_actions(chances, hash_uniform(keys, salt=salt))
        rows = contexts.frame["customer_id"].cast(pl.Int64).to_numpy()
        return world.log_decisions(
            state, rows, drawn, chances, arm=self.name, policy_version=self.name
        )


@dataclass
class _Pipeline:
    """The pipeline's own nights; beside each the optimum of the same customers is worked out."""

    name: str
    policy: BudgetedPolicy
    programme: Programme
    is_paced: bool
    predicted: list[float] = field(default_factory=list)
    optimal: list[float] = field(default_factory=list)

    def decide(self, world: World, state: WorldState, marts: LoopMarts) -> pl.DataFrame:
        """Decide as ``decide_night`` does."""
        features = marts.build_features(state.day)
        n = features.filter(~pl.col("is_holdout")).height
        night = decide_night(
            features,
            policy=self.policy,
            policy_version="1",
            catalogue=marts.actions,
            programme=self.programme,
            decision_date=world.date_of(state.day),
            budget=self.programme.budget_per_decision * n if self.is_paced else None,
        )
        contexts = build_contexts(
            features.filter(~pl.col("is_holdout")).sort("customer_id"),
            programme=self.programme,
            actions=marts.actions,
        )
        scores = self.policy.scorer.score(contexts)
        chances = marts.actions.spread_lists(
            night.assignments["eligible_actions"], night.assignments["eligible_propensities"]
        )
        best = optimise_night(contexts, scores, self.policy, self.programme)
        value = np.where(scores.allowed, scores.reward, 0.0)
        self.predicted.append(float((chances * value).sum()))
        self.optimal.append(float((best * value).sum()))
        return to_contract(night.assignments, self.programme)


def main() -> int:
    """Run the study, print its table and its line."""
    parsed = _parse()
    started = time.monotonic()
    n_seeds, n_nights = (1, 5) if parsed.quick else (parsed.seeds, 30)
    n_customers = 3_000 if parsed.quick else parsed.customers
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
    """Live one seed's nights by every contender.

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
        contender, gain over never sending, currency per decision; cost per decision; for the
        pipeline predicted over optimal value.
    """
    config = replace(find_world("bakery"), n_customers=n_customers, seed=seed)
    programme = replace(config.programme, limits=(_CAP,))
    world = World(config)
    morning, marts, system = warm_up(world, n_nights=n_nights)
    snapshot = take_snapshot(system.read_log(), programme=programme, actions=marts.actions)
    uplift = fit_candidate(snapshot, programme=programme, actions=marts.actions)
    rule = fit_lifecycle_rule(snapshot, programme=programme, actions=marts.actions)
    contenders: list[_Night | _Pipeline] = [
        _Pipeline("paced", uplift, programme, is_paced=True),
        _Pipeline("unpaced", uplift, programme, is_paced=False),
        _Night("exact", uplift, programme, _spend_exactly),
        _Night("exact, no exploration", replace(uplift, floor=0.0), programme, _spend_exactly),
        _Night("rank by value", uplift, programme, _rank_by_value),
        _Night("rank by conversion", uplift, programme, _rank_by_conversion),
        _Pipeline("lifecycle rule", rule, programme, is_paced=True),
    ]

    def live(contender: Contender) -> pl.DataFrame:
        return live_nights(world, contender, morning, marts.branch(), n_nights=n_nights)

    never = float(live(NeverSend())["net_value"].to_numpy().sum())
    rows = []
    for each in contenders:
        nights = live(each)
        n_decided = float(nights["budget"].to_numpy().sum()) / config.budget_per_decision
        rows.append(
            {
                "contender": each.name,
                "gain": (float(nights["net_value"].to_numpy().sum()) - never) / n_decided,
                "cost": float(nights["decision_cost"].to_numpy().sum()) / n_decided,
                "predicted_share": _share(each) if isinstance(each, _Pipeline) else None,
            }
        )
    return pl.DataFrame(rows, schema_overrides={"predicted_share": pl.Float64}).with_columns(
        pl.lit(seed).alias("seed")
    )


def _share(contender: _Pipeline) -> float:
    """Return what the pipeline's decisions promise over what the best ones would."""
    return sum(contender.predicted) / sum(contender.optimal)


def optimise_night(
    contexts: Contexts, scores: Scores, policy: BudgetedPolicy, programme: Programme
) -> np.ndarray:
    """Return a night's exact optimum, everybody known, evaluation's customers too.

    Parameters
    ----------
    contexts, scores
        Of the night's customers.
    policy
        Its floor of exploration is kept; its cut is not used.
    programme
        Budget and limits, per decision.

    Returns
    -------
    np.ndarray
        Shape (n, K), exploration included.
    """
    n, floor = contexts.n_customers, policy.floor
    weights = 1 - floor * contexts.eligible.sum(axis=1)
    limits = list_limits(
        programme.limits,
        policy.actions,
        n_decisions=n,
        budget=programme.budget_per_decision * n,
    )
    left = []
    for each in limits:
        explored = exploration_cost(
            measure_use(each, scores, contexts), contexts.eligible, floor=floor
        )
        left.append(replace(each, most=each.most - float(explored.sum())))
    cut = solve_limits(
        scores.reward,
        scores.cost_effect,
        scores.allowed,
        left,
        segment=contexts.lifecycle_index,
        weights=weights,
    )
    return replace(policy, cut=cut).mix(scores, contexts)


def _spend_exactly(contexts: Contexts, scores: Scores, night: _Night) -> np.ndarray:
    return optimise_night(contexts, scores, night.policy, night.programme)


def _rank_by_value(contexts: Contexts, scores: Scores, night: _Night) -> np.ndarray:
    """Give the action of the highest predicted value, to the highest values first."""
    value = np.where(scores.allowed, scores.value_effect, -np.inf)
    value[:, 0] = 0.0
    return _fill(contexts, scores, night, value.argmax(axis=1), value.max(axis=1))


def _rank_by_conversion(contexts: Contexts, scores: Scores, night: _Night) -> np.ndarray:
    """Give the deepest coupon on an open channel to who is likeliest to buy anyway."""
    if not isinstance(night.policy.scorer, UpliftScorer):
        raise AssertionError("the shared policy has heads")
    baseline = night.policy.scorer.heads.predict(contexts).control_value
    face = np.where(contexts.eligible, night.policy.actions.face_values, -1.0)
    return _fill(contexts, scores, night, face.argmax(axis=1), baseline)


def _fill(
    contexts: Contexts,
    scores: Scores,
    night: _Night,
    action: np.ndarray,
    rank: np.ndarray,
) -> np.ndarray:
    """Give customers their action by falling rank until the budget or the cap is used up."""
    policy, programme, n = night.policy, night.programme, contexts.n_customers
    rows = np.arange(n)
    weights = 1 - policy.floor * contexts.eligible.sum(axis=1)
    order = np.argsort(-rank, kind="stable")
    is_kept = np.ones(n, dtype=bool)
    for each in list_limits(
        programme.limits,
        policy.actions,
        n_decisions=n,
        budget=programme.budget_per_decision * n,
    ):
        use = measure_use(each, scores, contexts)
        room = each.most - float(exploration_cost(use, contexts.eligible, floor=policy.floor).sum())
        used = np.cumsum((weights * use[rows, action] * is_kept)[order])
        is_over = np.zeros(n, dtype=bool)
        is_over[order] = used > room
        # What a limit doesn't count goes on beyond it.
        is_kept &= ~(is_over & (use[rows, action] > 0))
    target = np.zeros(contexts.eligible.shape)
    target[rows, np.where(is_kept & (rank > 0), action, 0)] = 1.0
    return explore(target, contexts.eligible, floor=policy.floor)


def _report(rows: pl.DataFrame) -> dict[str, float]:
    """Print each contender beside the paced pipeline; return the line's figures."""
    wide = rows.pivot("contender", index="seed", values="gain")
    costs = rows.group_by("contender").agg(pl.col("cost").mean())
    shares = rows.drop_nulls().group_by("contender").agg(pl.col("predicted_share").mean())
    n_seeds = wide.height
    figures: dict[str, float] = {"seeds": n_seeds}
    print(f"\n{n_seeds} seeds; net value over never sending, currency per decision")
    print(f"{'contender':<20}{'gain':>8}{'cost':>8}{'predicted':>11}   paced less it")
    for name in rows["contender"].unique(maintain_order=True).to_list():
        gain = wide[name].to_numpy()
        difference = wide["paced"].to_numpy() - gain
        half = 0.0
        if n_seeds > 1:
            half = float(stats.t.ppf(0.975, n_seeds - 1) * difference.std(ddof=1) / n_seeds**0.5)
        share = shares.filter(contender=name)["predicted_share"].to_list()
        print(
            f"{name:<20}{gain.mean():>8.3f}{costs.filter(contender=name)['cost'].item():>8.3f}"
            f"{share[0] if share else float('nan'):>11.4f}   {difference.mean():+.3f} "
            f"[{difference.mean() - half:+.3f}, {difference.mean() + half:+.3f}]"
        )
        key = name.replace(",", "").replace(" ", "_")
        figures[f"paced_less_{key}_low"] = float(difference.mean() - half)
    figures["predicted_share"] = shares.filter(contender="paced")["predicted_share"].item()
    figures["realised_share"] = float(
        wide["paced"].to_numpy().sum() / wide["exact"].to_numpy().sum()
    )
    unexplored = wide["exact, no exploration"].to_numpy()
    figures["exploration_cost"] = float(1 - wide["exact"].to_numpy().sum() / unexplored.sum())
    return figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deciding", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--customers", type=int, default=12_000)
    parser.add_argument("--quick", action="store_true", help="a minute: one small life, 5 nights")
    parser.add_argument("--out", default=".liftloop-deciding", help="folder of what is kept")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
