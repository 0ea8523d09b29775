"""Two real e-mails: who responds to which, python -m benchmarks.studies.hillstrom FILE (--picture).

Kevin Hillstrom's public test of 2008: 64,000 customers, a men's e-mail, a women's and none, a third
each. Visits and spend of two weeks, learned and judged as the loop does, on customers that the
judged models didn't see.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.core.hashing import hash_text
from ml.plots.drawing import render_png
from ml.uplift.diagnostics import fit_best_linear_predictor, group_effects, rank_average
from ml.uplift.fitting import PERSONALISING_LEVEL, LearningSettings
from ml.uplift.sample import Sample
from ml.uplift.selection import N_FOLDS, Judged, adjust_by_holm, prove_heterogeneity
from ml.uplift.trial import OutcomeTrial, run_trial

ARMS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
OUTCOMES = ("visit", "spend")
_SEED = 1


def main() -> int:
    """Run the study, print its table and line, save the picture if asked to."""
    parser = argparse.ArgumentParser(prog="hillstrom", description=__doc__)
    parser.add_argument("file", help="hillstrom.csv or hillstrom.csv.gz")
    parser.add_argument("--picture", help="where to save the picture")
    parsed = parser.parse_args()
    started = time.monotonic()
    table, bins = study(pl.read_csv(parsed.file, infer_schema_length=None))
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, float_precision=4):
        print(table)
    if parsed.picture:
        Path(parsed.picture).write_bytes(render_png(plot(bins)))
    print(f"{time.monotonic() - started:.0f} s")
    figures = {
        f"{name}_{row['outcome']}_{row['email'].split()[0].lower()}": round(row[name], 4)
        for row in table.iter_rows(named=True)
        for name in ("effect", "p_value", "autoc", "qini")
    }
    print(json.dumps(figures))
    return 0


def study(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Learn both e-mails' effects on both outcomes, and judge them.

    Parameters
    ----------
    rows
        The public file's.

    Returns
    -------
    tuple
        A row per outcome and e-mail: the mean effect, whether effects are proven to differ between
        customers (Holm over the four), what was chosen, BLP slope, AUTOC and Qini with 95 %
        intervals. And predicted against realised effects by fifth of the prediction.
    """
    trials = {outcome: _hold_trial(rows, outcome) for outcome in OUTCOMES}
    p_values = adjust_by_holm(
        {
            (outcome, family): p_value
            for outcome, trial in trials.items()
            for family, p_value in prove_heterogeneity(trial.raw, trial.judged, seed=_SEED).items()
        }
    )
    table, bins = [], []
    for outcome, trial in trials.items():
        chosen, _ = trial.choose(["all"])
        effects = trial.stitch(chosen)
        for action in (1, 2):
            judged = (trial.judged.pseudo[:, action], effects[:, action], trial.judged.customer)
            slope = fit_best_linear_predictor(*judged)
            autoc, qini = rank_average(*judged, seed=_SEED)
            key = {"outcome": outcome, "email": ARMS[action]}
            p_value = p_values[outcome, ARMS[action]]
            table.append(
                {
                    **key,
                    "effect": float(judged[0].mean()),
                    "chosen": " + ".join(
                        f"{weight:.2f} {name}"
                        for name, weight in trial.resolve("all", chosen["all"]).items()
                    ),
                    "p_value": p_value,
                    "abstains": p_value > PERSONALISING_LEVEL,
                    "slope": slope.value,
                    "slope_low": slope.low,
                    "slope_high": slope.high,
                    "autoc": autoc.value,
                    "autoc_low": autoc.low,
                    "autoc_high": autoc.high,
                    "qini": qini.value,
                    "qini_low": qini.low,
                    "qini_high": qini.high,
                }
            )
            bins.append(
                group_effects(*judged).with_columns(**{k: pl.lit(v) for k, v in key.items()})
            )
    return pl.DataFrame(table), pl.concat(bins)


def plot(bins: pl.DataFrame) -> Figure:
    """Plot realised against predicted effects, a panel per outcome.

    Parameters
    ----------
    bins
        As ``study`` gives them.

    Returns
    -------
    Figure
        One line per e-mail with 95 % intervals; on the diagonal, predictions are right.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    units = {"visit": "visits per customer", "spend": "dollars per customer"}
    for axes, outcome in zip(figure.subplots(1, 2), OUTCOMES, strict=True):
        for number, name in enumerate(ARMS[1:]):
            part = bins.filter((pl.col("outcome") == outcome) & (pl.col("email") == name))
            realised = part["realised"].to_numpy()
            axes.errorbar(
                part["predicted"].to_numpy(),
                realised,
                yerr=[realised - part["low"].to_numpy(), part["high"].to_numpy() - realised],
                marker="os"[number],
                ms=4,
                lw=1,
                capsize=2,
                label=name,
            )
        axes.axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
        axes.axhline(0, color="black", lw=0.5)
        axes.set_xlabel(f"predicted effect, {units[outcome]}")
        axes.set_ylabel(f"realised effect, {units[outcome]}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    return figure


def _hold_trial(rows: pl.DataFrame, outcome: str) -> OutcomeTrial:
    """Put the candidates on trial for one outcome; each e-mail is a family of its own."""
    n, k = rows.height, len(ARMS)
    features = rows.select("recency", "history", "mens", "womens", "newbie").hstack(
        rows.select("zip_code", "channel").to_dummies()
    )
    hashed = hash_text(pl.Series("customer_id", [str(row) for row in range(n)]), salt="fold")
    action = rows["segment"].replace_strict(dict(zip(ARMS, range(k), strict=True))).to_numpy()
    sample = Sample(
        context=features.to_numpy().astype(float),
        descriptors=np.eye(k)[:, 1:],
        action=action,
        logging_policy=np.full((n, k), 1 / k),
        outcome=rows[outcome].to_numpy().astype(float),
        fold=(hashed // np.uint64(N_FOLDS) % np.uint64(2)).astype(np.int64),
        is_in_scope=np.ones(n, dtype=bool),
        is_zero_without_offer=False,
    )
    judged = Judged(
        pseudo=np.zeros((n, k)),
        possible=sample.is_possible,
        fold=(hashed % np.uint64(N_FOLDS)).astype(np.int64),
        customer=np.arange(n),
        lifecycle=np.full(n, "all"),
        families=ARMS,
    )
    settings = LearningSettings(tries_own_lifecycles=False)
    return run_trial(
        outcome,
        sample,
        judged,
        settings.list_candidates("value"),
        settings=settings.trees,
        n_threads=settings.threads,
        progress=lambda line: None,
    )


if __name__ == "__main__":
    raise SystemExit(main())
