"""What exploring costs at equal standard error, skewed against uniform.

python -m benchmarks.studies.exploration_cost (--picture FILE). A log of the bakery teaches heads;
the next experiment is skewed toward what they promise, more and more. Per design: what it gives
away per decision in truth, and how many decisions the same standard error takes.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from benchmarks.studies.effects.logs import draw_log
from ml.allocation.budget import cut_probabilities, solve_budget
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policies import UpliftScorer
from ml.plots.drawing import render_png
from ml.simulate.worlds import find_world

SMALLEST, LARGEST = 0.02, 0.8
_BUDGET_SHARE = 0.2
_STRENGTHS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)


def main() -> int:
    """Run the study, print its table and line, save the picture if asked to."""
    parser = argparse.ArgumentParser(prog="exploration_cost", description=__doc__)
    parser.add_argument("--world", default="bakery")
    parser.add_argument("--decisions", type=int, default=20_000, help="of the first experiment")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=601)
    parser.add_argument("--picture", help="where to save the picture")
    parsed = parser.parse_args()
    started = time.monotonic()
    lives = []
    for seed in range(parsed.first_seed, parsed.first_seed + parsed.seeds):
        lives.append(compare_designs(parsed.world, parsed.decisions, seed))
        print(f"  seed {seed} done", flush=True)
    table = (
        pl.concat(lives)
        .group_by("strength", maintain_order=True)
        .agg(pl.all().exclude("seed").mean())
    )
    with pl.Config(tbl_cols=-1, tbl_width_chars=140, float_precision=3):
        print(table)
    if parsed.picture:
        Path(parsed.picture).write_bytes(render_png(plot(table)))
    print(f"{time.monotonic() - started:.0f} s")
    best = table.sort("policy_forgone_ratio").row(0, named=True)
    print(json.dumps({f"best_{name}": round(value, 4) for name, value in best.items()}))
    return 0


def compare_designs(world: str, n_decisions: int, seed: int) -> pl.DataFrame:
    """Compare designs of the next experiment on customers that the first one didn't teach.

    Parameters
    ----------
    world, n_decisions, seed
        Name, decisions of the first experiment, seed of the world.

    Returns
    -------
    pl.DataFrame
        Per strength of the skew: cost and net value per decision in truth (over no-offer),
        decisions for the same standard error as uniform exploration (of the offers' mean effects,
        and of the value of the policy that the heads lead to at a fifth of the free spending), and
        what these decisions cost, over uniform exploration's: the offers' cost, and the net value
        forgone against giving everybody what the heads promise most from.
    """
    config = replace(find_world(world), seed=seed)
    log = draw_log(config, n_decisions=n_decisions)
    candidate = fit_candidate(log.snapshot, programme=config.programme, actions=log.actions)
    if not isinstance(candidate.scorer, UpliftScorer):
        raise AssertionError("fit_candidate fits uplift heads")
    contexts = log.snapshot.evaluation.contexts
    promised = candidate.scorer.heads.predict(contexts)
    reward = promised.value_effect - promised.cost_effect
    eligible = contexts.eligible
    target = _target(reward, promised.cost_effect, eligible)
    true_net = log.value_effect - log.cost_effect
    greedy = np.where(eligible, reward, -np.inf).argmax(axis=1)
    most = float(true_net[np.arange(len(greedy)), greedy].mean())
    rows, uniform = [], None
    for strength in _STRENGTHS:
        policy = skew(reward, eligible, strength=strength)
        offers = eligible[:, 1:]
        inverse = np.divide(1.0, policy, out=np.zeros_like(policy), where=eligible)
        # Residual variances alike: then variance is the mean of inverse propensities.
        variances = {
            "effects": float((inverse[:, 1:] + inverse[:, :1])[offers].mean()),
            "policy": float((target**2 * inverse).sum(axis=1).mean()),
        }
        cost = float((policy * log.cost_effect).sum(axis=1).mean())
        net = float((policy * true_net).sum(axis=1).mean())
        uniform = uniform or (variances, cost, most - net)
        rows.append(
            {
                "seed": seed,
                "strength": strength,
                "smallest": float(policy[eligible].min()),
                "largest": float(policy.max()),
                "cost": cost,
                "net_value": net,
                **{
                    f"{name}_decisions_ratio": variances[name] / uniform[0][name]
                    for name in variances
                },
                **{
                    f"{name}_cost_ratio": variances[name] / uniform[0][name] * cost / uniform[1]
                    for name in variances
                },
                **{
                    f"{name}_forgone_ratio": variances[name]
                    / uniform[0][name]
                    * (most - net)
                    / uniform[2]
                    for name in variances
                },
            }
        )
    return pl.DataFrame(rows)


def skew(reward: np.ndarray, eligible: np.ndarray, *, strength: float) -> np.ndarray:
    """Return propensities that rise with the promised reward, within 0.02 and 0.8.

    Parameters
    ----------
    reward : shape (n, K), currency
        Promised net value effects; control's is 0.
    eligible : shape (n, K), bool
        Where it may be given.
    strength
        Log-odds per standard deviation of the reward; 0: uniform.

    Returns
    -------
    np.ndarray
        Shape (n, K); rows sum to 1.
    """
    scale = float(reward[eligible].std()) or 1.0
    score = np.where(eligible, strength * reward / scale, -np.inf)
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    policy = weight / weight.sum(axis=1, keepdims=True)
    # What the floor takes, the rest gives in proportion.
    floor = SMALLEST * eligible
    policy = floor + (1 - floor.sum(axis=1, keepdims=True)) * policy
    n_others = np.maximum(eligible.sum(axis=1, keepdims=True) - 1, 1)
    # Who can get but one action gets it.
    over = np.maximum(policy - LARGEST, 0.0) * (eligible.sum(axis=1, keepdims=True) > 1)
    share = over.sum(axis=1, keepdims=True) / n_others
    return np.where(over > 0, LARGEST, policy + np.where(eligible, share, 0.0))


def plot(table: pl.DataFrame) -> Figure:
    """Plot what the same standard error costs, and what exploring brings.

    Parameters
    ----------
    table
        As ``compare_designs`` gives it, means over seeds.

    Returns
    -------
    Figure
        Two panels over the strength of the skew.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, measure, label in zip(
        figure.subplots(1, 2),
        ("forgone", "cost"),
        ("net value forgone", "offers' cost"),
        strict=True,
    ):
        for name, estimand in (
            ("policy", "value of the learned policy"),
            ("effects", "mean effects of all offers"),
        ):
            ratio = table[f"{name}_{measure}_ratio"]
            axes.plot(table["strength"], ratio, marker="o", ms=4, label=estimand)
        axes.axhline(1, color="black", lw=0.8, ls=":")
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"{label} for the same standard error,\nover uniform exploration's")
        axes.set_xlabel("skew, log-odds per sd of promised net value")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _target(reward: np.ndarray, cost: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Return the policy that spends a fifth of what unlimited spending would."""
    allowed = eligible & (reward > 0)
    allowed[:, 0] = True
    best = np.where(allowed, reward, -np.inf).argmax(axis=1)
    free = float(cost[np.arange(len(best)), best].sum())
    cut = solve_budget(reward, cost, allowed, budget=_BUDGET_SHARE * free)
    return cut_probabilities(reward, cost, allowed, cut=cut)


if __name__ == "__main__":
    raise SystemExit(main())
