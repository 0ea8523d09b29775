"""Policies valued on two public logs: python -m benchmarks.studies.logged_policies (--picture).

Open Bandit (10,000 rounds a log, ZOZOTOWN 2019): the sampling bandit from the uniform policy's log
and the other way round, against what the policy itself brought in its own log. Hillstrom's e-mail
test (64,000 customers, a third each): who gets which e-mail, in visits and spend. All estimators,
95 % intervals; what the diagnostics refuse says why instead.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.core.errors import SupportError
from ml.ope.diagnostics import SupportReport, diagnose_support, diagnose_tail
from ml.ope.estimators import WeightedDecisions, find_estimator, weigh_decisions
from ml.ope.intervals import Estimate, bound_by_likelihood, estimate_mean
from ml.plots.drawing import render_png

ESTIMATORS = ("ips", "snips", "dr", "sndr")
ARMS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
_PRIOR_ROWS = 100
_SHIFTS = (-0.24, -0.08, 0.08, 0.24)


def main() -> int:
    """Run the study, print its tables and line, save the picture if asked to."""
    parser = argparse.ArgumentParser(prog="logged_policies", description=__doc__)
    parser.add_argument("--open-bandit", required=True, help="folder with bts/ and random/")
    parser.add_argument("--reference", required=True, help="the bandit's action counts, JSON")
    parser.add_argument("--hillstrom", required=True, help="hillstrom.csv or hillstrom.csv.gz")
    parser.add_argument("--picture", help="where to save the picture")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parsed = parser.parse_args()
    started = time.monotonic()
    bandit = value_bandits(Path(parsed.open_bandit), Path(parsed.reference))
    mails = value_mails(pl.read_csv(parsed.hillstrom, infer_schema_length=None))
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=170, float_precision=5) as shown:
        shown.set_fmt_str_lengths(110)
        print("Open Bandit, clicks per round\n", bandit)
        print("Hillstrom, over no e-mail, per customer\n", mails)
    if parsed.picture:
        Path(parsed.picture).write_bytes(render_png(plot(bandit, mails)))
    print(f"{time.monotonic() - started:.0f} s")
    refused = bandit.filter(pl.col("refusal") != "")
    chosen = mails.filter((pl.col("policy") == "by purchase") & (pl.col("estimator") == "dr"))
    figures = {
        "refused_logs": refused.select("campaign", "policy").n_unique(),
        **{f"by_purchase_{row['outcome']}": row["value"] for row in chosen.iter_rows(named=True)},
    }
    print(json.dumps({name: float(f"{value:.5g}") for name, value in figures.items()}))
    return 0


def value_bandits(folder: Path, reference: Path) -> pl.DataFrame:
    """Value each Open Bandit policy on the other's log.

    Parameters
    ----------
    folder
        With <policy>/<campaign>/<campaign>.csv.gz.
    reference
        Holds how often the bandit would take each action at each position.

    Returns
    -------
    pl.DataFrame
        A row per campaign, policy and estimator, beside what the policy brought in its own log.
    """
    counts = json.loads(reference.read_text())["campaigns"]
    rows = []
    for campaign in counts:
        logs = {name: _read_bandit(folder, name, campaign) for name in ("random", "bts")}
        n_actions = counts[campaign]["bts_from_random"]["n_actions"]
        chances = np.array(counts[campaign]["bts_from_random"]["action_dist_counts"]) / 100_000
        for policy_name, log_name in (("bts", "random"), ("random", "bts")):
            log, own = logs[log_name], logs[policy_name]
            action, reward = log["item_id"].to_numpy(), log["click"].to_numpy().astype(float)
            propensity = log["propensity_score"].to_numpy()
            position = log["position"].rank("dense").to_numpy().astype(int) - 1
            policy = np.full((log.height, n_actions), 1 / n_actions)
            if policy_name == "bts":
                policy = chances[:, position].T
            clicks = np.bincount(action, weights=reward, minlength=n_actions)
            means = (clicks + _PRIOR_ROWS * reward.mean()) / (
                np.bincount(action, minlength=n_actions) + _PRIOR_ROWS
            )
            decisions = weigh_decisions(
                reward,
                policy=policy,
                action=action,
                propensity=propensity,
                expected_reward=np.tile(means, (log.height, 1)),
            )
            support = diagnose_support(
                policy,
                np.arange(log.height),
                action=action,
                propensity=propensity,
                action_ids=[str(number) for number in range(n_actions)],
            )
            truth = own["click"].cast(pl.Float64).to_numpy()
            lived = estimate_mean(truth, np.arange(own.height))
            rows += [
                {
                    "campaign": campaign,
                    "policy": f"{policy_name} from {log_name}",
                    "ess": support.effective_sample_size,
                    **each,
                    "own_log": lived.value,
                    "own_low": lived.low,
                    "own_high": lived.high,
                }
                for each in _value(decisions, np.arange(log.height), support)
            ]
    return pl.DataFrame(rows)


def value_mails(rows: pl.DataFrame) -> pl.DataFrame:
    """Value who gets which e-mail on Hillstrom's test.

    Parameters
    ----------
    rows
        The public file's.

    Returns
    -------
    pl.DataFrame
        A row per outcome, policy and estimator: its value over sending nothing, paired.
    """
    action = rows["segment"].replace_strict({name: i for i, name in enumerate(ARMS)}).to_numpy()
    n, everybody = rows.height, np.arange(rows.height)
    propensity = np.full(n, 1 / 3)
    buys_womens = (rows["womens"] == 1).to_numpy()
    choices = {
        "men's to all": np.ones(n, dtype=int),
        "women's to all": np.full(n, 2),
        "by purchase": np.where(buys_womens, 2, 1),
    }
    table = []
    for outcome in ("visit", "spend"):
        reward = rows[outcome].cast(pl.Float64).to_numpy()
        expected = _cross_fit(rows, reward, action)

        def weigh(
            choice: np.ndarray, reward: np.ndarray = reward, expected: np.ndarray = expected
        ) -> WeightedDecisions:
            return weigh_decisions(
                reward,
                policy=np.eye(3)[choice],
                action=action,
                propensity=propensity,
                expected_reward=expected,
            )

        nothing = weigh(np.zeros(n, dtype=int))
        for name, choice in choices.items():
            support = diagnose_support(
                np.eye(3)[choice],
                everybody,
                action=action,
                propensity=propensity,
                action_ids=ARMS,
            )
            table += [
                {"outcome": outcome, "policy": name, **each}
                for each in _value(weigh(choice), everybody, support, nothing)
            ]
    return pl.DataFrame(table)


def plot(bandit: pl.DataFrame, mails: pl.DataFrame) -> Figure:
    """Plot both tables: intervals by estimator, refused logs named.

    Parameters
    ----------
    bandit, mails
        Of the two functions above.

    Returns
    -------
    Figure
        A panel per log and outcome.
    """
    groups = [
        (f"Open Bandit, {campaign}: clicks a round", "policy", part)
        for (campaign,), part in bandit.group_by("campaign", maintain_order=True)
    ] + [
        (f"Hillstrom: {outcome} over no e-mail", "policy", part)
        for (outcome,), part in mails.group_by("outcome", maintain_order=True)
    ]
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axes, (title, column, part) in zip(figure.subplots(2, 2).ravel(), groups, strict=True):
        names = part[column].unique(maintain_order=True).to_list()
        for place, name in enumerate(names):
            own = part.filter(pl.col(column) == name)
            reason = own["refusal"][0].partition(":")[0]
            colour = "#8a8f98" if reason else "#2f6db5"
            for shift, row in zip(_SHIFTS, own.iter_rows(named=True), strict=True):
                at = place + shift
                axes.plot([row["low"], row["high"]], [at] * 2, color=colour, lw=1.5)
                axes.plot(row["value"], at, "o", ms=4, color=colour)
                axes.text(row["high"], at, f" {row['estimator']}", va="center", fontsize=7)
            if reason:
                names[place] = f"{name}\nrefused: {reason}"
            if "own_log" in part.columns:
                axes.axvspan(
                    own["own_low"][0],
                    own["own_high"][0],
                    ymin=place / len(names),
                    ymax=(place + 1) / len(names),
                    color="#d9822b",
                    alpha=0.2,
                )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(-0.5, len(names) - 0.5)
        axes.set_title(title, fontsize=10, loc="left")
        axes.axvline(0, color="black", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("95 % intervals; shaded: what the policy brought in its own log", fontsize=8)
    return figure


def _value(
    decisions: WeightedDecisions,
    customer: np.ndarray,
    support: SupportReport,
    base: WeightedDecisions | None = None,
) -> list[dict[str, object]]:
    """Return a row per estimator, likelihood interval, or the reason of a refusal."""
    rows: list[dict[str, object]] = []
    for name in ESTIMATORS:
        contribute = find_estimator(name).contribute
        values = contribute(decisions, np.inf)
        if base is not None:
            values = values - contribute(base, np.inf)
        try:
            support.require()
            diagnose_tail(values, customer).require()
        except SupportError as error:
            refusal = str(error)
        else:
            refusal = ""
        estimate: Estimate = bound_by_likelihood(values, customer)
        rows.append(
            {
                "estimator": name,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "refusal": refusal,
            }
        )
    return rows


def _cross_fit(rows: pl.DataFrame, reward: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return each arm's mean by past purchases, from the other half of the customers, (n, 3)."""
    group = (2 * rows["mens"] + rows["womens"]).to_numpy()
    half = np.arange(rows.height) % 2
    expected = np.zeros((rows.height, 3))
    for fold in (0, 1):
        for each in np.unique(group):
            for arm in range(3):
                fit = (half != fold) & (group == each) & (action == arm)
                expected[(half == fold) & (group == each), arm] = reward[fit].mean()
    return expected


def _read_bandit(folder: Path, policy: str, campaign: str) -> pl.DataFrame:
    file = folder / policy / campaign / f"{campaign}.csv.gz"
    return pl.read_csv(gzip.decompress(file.read_bytes()))


if __name__ == "__main__":
    raise SystemExit(main())
