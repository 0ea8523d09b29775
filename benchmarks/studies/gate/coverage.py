"""How often intervals hold the truth, and how far estimators miss it, by kind of log."""

import numpy as np
import polars as pl

from benchmarks.studies.gate.logs import ACTION_IDS, Cell, draw_log, target_policy, true_value
from ml.core.errors import SupportError
from ml.ope.bootstrap import bootstrap_means
from ml.ope.diagnostics import diagnose_support, diagnose_tail
from ml.ope.estimators import ESTIMATORS, find_estimator
from ml.ope.intervals import bound_by_likelihood
from ml.ope.tuning import choose_by_validation, propose_limits, tune_by_slope

UNBIASED = ("ips", "snips", "dr", "sndr")
LIMITED = ("clipped_ips", "switch_dr", "dros")
CELLS = tuple(
    Cell(skew, tail, per_customer)
    for skew in (0.0, 1.0, 2.0)
    for tail in (0.0, 0.8, 1.5)
    for per_customer in (1, 4)
)


def cover(cell: Cell, *, seed: int, n_logs: int) -> pl.DataFrame:
    """Return a row per log and estimator: its error, and whether its intervals hold the truth.

    Parameters
    ----------
    cell
        Kind of log.
    seed
        Of the logs.
    n_logs
        How many.

    Returns
    -------
    pl.DataFrame
        estimator, interval, error, is_accepted by the diagnostics, is_covered, width.
    """
    truth, random = true_value(cell), np.random.default_rng([seed, 81])
    rows = []
    for number in range(n_logs):
        log = draw_log(cell, random)
        policy = target_policy(log.context)
        decisions = log.weigh(policy)
        support = diagnose_support(
            policy,
            log.customer,
            action=log.action,
            propensity=log.propensity,
            action_ids=ACTION_IDS,
            logging_policy=log.logging_policy,
        )
        contributions = [find_estimator(name).contribute(decisions, np.inf) for name in UNBIASED]
        resampled = bootstrap_means(contributions, log.customer, seed=number)
        for name, values, bootstrapped in zip(UNBIASED, contributions, resampled, strict=True):
            tail = diagnose_tail(values, log.customer)
            intervals = {
                "bootstrap": bootstrapped,
                "likelihood": bound_by_likelihood(values, log.customer),
            }
            rows += [
                {
                    "estimator": name,
                    "interval": kind,
                    "error": each.value - truth,
                    "is_accepted": not support.reasons and not tail.reasons,
                    "is_covered": each.low <= truth <= each.high,
                    "width": each.high - each.low,
                }
                for kind, each in intervals.items()
            ]
    return pl.DataFrame(rows).with_columns(pl.lit(str(cell)).alias("cell"))


def tune(cell: Cell, *, seed: int, n_logs: int) -> pl.DataFrame:
    """Return a row per log and method: its error, fixed limits and tuned ones.

    Parameters
    ----------
    cell
        Kind of log.
    seed
        Of the logs.
    n_logs
        How many.

    Returns
    -------
    pl.DataFrame
        family, method ('slope' and 'validation' are tuned), error, is_covered (tuned ones).
    """
    truth, random = true_value(cell), np.random.default_rng([seed, 82])
    rows: list[dict[str, object]] = []

    def keep(family: str, method: str, value: float, is_covered: bool | None = None) -> None:
        rows.append(
            {"family": family, "method": method, "error": value - truth, "is_covered": is_covered}
        )

    for number in range(n_logs):
        log = draw_log(cell, random)
        decisions = log.weigh(target_policy(log.context))
        for name in ESTIMATORS:
            if name not in LIMITED:
                values = find_estimator(name).contribute(decisions, np.inf)
                keep("any", name, float(values.mean()))
        for name in LIMITED:
            contribute = find_estimator(name).contribute
            limits = propose_limits(decisions.weight, estimator=name)
            for place, limit in enumerate(limits):
                value = float(contribute(decisions, float(limit)).mean())
                keep(name, f"limit {place}", value)
                keep("any", f"{name} {place}", value)
            try:
                tuned = tune_by_slope(decisions, log.customer, estimator=name, limits=limits)
            except SupportError:
                continue
            low, high = tuned.estimate.low, tuned.estimate.high
            keep(name, "slope", tuned.estimate.value, low <= truth <= high)
        for family, names in (*((name, (name,)) for name in LIMITED), ("any", tuple(ESTIMATORS))):
            chosen = choose_by_validation(
                decisions, log.customer, seed=number, estimators=names, n_limits=12
            ).estimate
            keep(family, "validation", chosen.value, chosen.low <= truth <= chosen.high)
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.lit(str(cell)).alias("cell")
    )


def summarise_coverage(covered: pl.DataFrame) -> pl.DataFrame:
    """Return a row per cell, estimator and interval; refused where most logs are refused."""
    accepted = pl.col("is_accepted")
    return covered.group_by("cell", "estimator", "interval", maintain_order=True).agg(
        accepted.mean().alias("accepted"),
        pl.col("is_covered").filter(accepted).mean().alias("coverage"),
        pl.col("width").filter(accepted).mean().alias("width"),
        pl.col("error").mean().alias("bias"),
        (pl.col("error") ** 2).mean().sqrt().alias("rmse"),
    )


def summarise_tuning(tuned: pl.DataFrame) -> pl.DataFrame:
    """Return a row per cell and family: the tuned error over the best fixed one's in hindsight."""
    errors = tuned.group_by("cell", "family", "method", maintain_order=True).agg(
        (pl.col("error") ** 2).mean().sqrt().alias("rmse"),
        pl.col("is_covered").mean().alias("coverage"),
    )
    is_tuned = pl.col("method").is_in(["slope", "validation"])
    own = errors.filter(is_tuned)
    best = (
        errors.filter(~is_tuned)
        .sort("rmse", maintain_order=True)
        .group_by("cell", "family", maintain_order=True)
        .first()
    )
    return own.join(best.drop("coverage"), on=["cell", "family"], suffix="_best").with_columns(
        (pl.col("rmse") / pl.col("rmse_best")).alias("ratio")
    )
