"""The bakery's tables, and the figures of the study's line."""

import numpy as np
import polars as pl
from scipy import stats

_RIVALS = ("myopic_t_learner", "myopic_network", "lifecycle_rule", "never_send", "random")
_MYOPIC = ("myopic_t_learner", "myopic_network")
_FIGURES = (
    "net_margin",
    "cost_per_decision",
    "messages",
    "opt_outs",
    "gold_share",
    "messages_to_gold",
    "messages_per_gold_week",
)


def report_bakery(lived: pl.DataFrame) -> dict[str, float]:
    """Print every policy's means, and ours less the best of the rivals.

    Trainings of a world share its customers, so intervals are t intervals over worlds' means.

    Returns
    -------
    dict
        margin_vs_myopic (the better one), margin_vs_best (of all rivals) and their lower bounds;
        messages_to_gold_ratio to the paper's agent, within the budget and not; opt_out_ratio and
        gold_share_difference to the better myopic policy.
    """
    found = lived.pivot("figure", index=["seed", "policy"], values="value")
    print("\nBakery, 26 weeks, per customer")
    means = found.group_by("policy", maintain_order=True).agg(pl.col(_FIGURES).mean())
    for row in means.iter_rows(named=True):
        print(f"  {row['policy']:<26}" + "".join(f"{row[name]:10.3f}" for name in _FIGURES))
    by_policy = {
        str(policy): {name: each[name].to_numpy() for name in ("seed", *_FIGURES)}
        for (policy,), each in found.sort("seed").group_by("policy")
    }

    def mean(policy: str, figure: str) -> float:
        return float(by_policy[policy][figure].mean())

    best = max(_RIVALS, key=lambda policy: mean(policy, "net_margin"))
    myopic = max(_MYOPIC, key=lambda policy: mean(policy, "net_margin"))
    figures = {}
    for name, rival in (("myopic", myopic), ("best", best)):
        gain = by_policy["ours"]["net_margin"] - by_policy[rival]["net_margin"]
        worlds = by_policy["ours"]["seed"] // 100
        by_world = np.array([gain[worlds == world].mean() for world in np.unique(worlds)])
        figures[f"margin_vs_{name}"] = float(by_world.mean())
        figures[f"margin_vs_{name}_low"] = low = _spread(by_world)[0]
        spared = (
            by_policy[rival]["cost_per_decision"] - by_policy["ours"]["cost_per_decision"]
        ).mean()
        print(
            f"  ours less {rival}: {by_world.mean():.2f}, lower end of 95 % {low:.2f}; "
            f"{spared:.3f} a decision spared"
        )
    to_gold = {policy: mean(policy, "messages_to_gold") for policy in by_policy}
    return figures | {
        "messages_to_gold_ratio": to_gold["ours"] / to_gold["paper"],
        "messages_to_gold_ratio_within_budget": to_gold["ours"] / to_gold["paper_within_budget"],
        "opt_out_ratio": mean("ours", "opt_outs") / mean(myopic, "opt_outs"),
        "gold_share_difference": mean("ours", "gold_share") - mean(myopic, "gold_share"),
    }


def report_sizes(lived: pl.DataFrame) -> None:
    """Print net margin by customers in the log."""
    table = (
        lived.filter(pl.col("figure") == "net_margin")
        .group_by("n_logged", "policy", maintain_order=True)
        .agg(pl.col("value").mean(), pl.col("value").std().alias("sd"))
    )
    print("\nNet margin by customers in the log (mean, sd over trainings)")
    for n_logged, policy, value, sd in table.iter_rows():
        print(f"  {n_logged:>8,} {policy:<20}{value:9.2f}{sd or 0:8.2f}")


def report_ranking(lived: pl.DataFrame) -> dict[str, float]:
    """Print fitted values beside true ones, and the rank correlation over worlds.

    Returns
    -------
    dict
        ope_spearman, the mean over worlds, and the ends of its 95 % interval.
    """
    found = lived.pivot("figure", index=["seed", "policy"], values="value")
    print("\nFitted Q evaluation, currency per customer (mean over worlds)")
    means = found.group_by("policy", maintain_order=True).agg(pl.exclude("seed").mean())
    for row in means.iter_rows(named=True):
        print(f"  {row['policy']:<24}fitted {row['fitted']:7.2f}   true {row['true']:7.2f}")
    ranks = np.array(
        [
            stats.spearmanr(each["fitted"], each["true"]).statistic
            for _, each in found.group_by("seed", maintain_order=True)
        ]
    )
    low, high = _spread(ranks)
    least = ranks.min()
    print(f"  rank correlation {ranks.mean():.2f} [{low:.2f}, {high:.2f}], least {least:.2f}")
    print("  Weights of the first decisions: error over the truth, share refused")
    for kind, n in (*(("weights", n) for n in (1, 2, 3, 4)), ("doubly_robust", 3)):
        valued = found[f"{kind}_{n}"].to_numpy()
        truth = found["true" if kind == "doubly_robust" else f"true_{n}"].to_numpy()
        error = np.nanmean(np.abs(valued / truth - 1))
        print(f"    {kind:<16}{n}{error:8.3f}{np.isnan(valued).mean():8.2f}")
    return {
        "ope_spearman": float(ranks.mean()),
        "ope_spearman_low": low,
        "ope_spearman_high": high,
    }


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Return a 95 % t interval of a mean."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, n - 1)) * float(values.std(ddof=1)) / n**0.5
    return float(values.mean()) - half, float(values.mean()) + half
