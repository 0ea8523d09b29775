"""Identify: screen what was delivered, mark who is who, check that the log is randomised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from ml.contract.screening import Known, screen_table
from ml.contract.tables import choose_contract
from ml.core.actions import ActionSet
from ml.core.errors import LandingError
from ml.core.hashing import hash_text, hash_uniform
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.core.schemas import DeliveredFiles, IngestionCounts, Quarantine, RandomisationChecks

RANDOMISATION_ALPHA = 0.001


@dataclass(frozen=True)
class ScreenedNight:
    """A night's delivery, split; ``counts`` has one row per contract table, ``files`` per file."""

    accepted: dict[str, pl.DataFrame]
    quarantined: pl.DataFrame
    counts: pl.DataFrame
    files: pl.DataFrame


def screen_night(
    files: Mapping[str, Sequence[Path]], *, known: Known, programme: Programme | None, night: date
) -> ScreenedNight:
    """Split a night's delivery into accepted and quarantined rows, table by table.

    Parameters
    ----------
    files
        Contract table to its landing files; a table without files is empty.
    known
        What earlier nights established.
    programme
        Gives accepted customers their cohort, holdout and evaluation marks; None leaves them out.
    night
        The night of the delivery.

    Returns
    -------
    ScreenedNight
        With delivered = accepted + quarantined for every table.
    """
    accepted: dict[str, pl.DataFrame] = {}
    quarantined: list[pl.DataFrame] = [Quarantine.create_empty()]
    counts, described = [], []
    contract = choose_contract(
        fits_propensities=programme is not None and programme.fits_propensities
    )
    for table in contract:
        paths = files.get(table, ())
        # Before it is read: what is changed meanwhile is noticed as changed.
        stats = _describe_files(table, paths, night)
        screened = screen_table(table, paths, known=known, night=night, contract=contract)
        described.append(stats.join(screened.files, on="source_file", how="inner"))
        known = known.extend(table, screened.accepted)
        quarantined.append(screened.quarantined)
        counts.append(
            {
                "table": table,
                "delivered": screened.n_delivered,
                "accepted": screened.accepted.height,
                "quarantined": screened.quarantined.height,
            }
        )
        rows = screened.accepted
        if table == "customers" and programme is not None:
            rows = mark_customers(rows, programme)
        accepted[table] = rows
    delivered = pl.concat(described).select(list(DeliveredFiles.columns()))
    return ScreenedNight(
        accepted=accepted,
        quarantined=pl.concat(quarantined),
        counts=IngestionCounts.validate(pl.DataFrame(counts)),
        files=DeliveredFiles.validate(delivered),
    )


def _describe_files(table: str, paths: Sequence[Path], night: date) -> pl.DataFrame:
    """Return name, size and time of each file."""
    try:
        stats = [
            (path.name, each.st_size, each.st_mtime_ns) for path in paths if (each := path.stat())
        ]
    except OSError as error:
        raise LandingError(
            f"{error.filename} is gone ({error.strerror}): put it back and run the night again"
        ) from error
    return pl.DataFrame(
        stats,
        schema={"source_file": pl.String, "size": pl.Int64, "modified_ns": pl.Int64},
        orient="row",
    ).with_columns(pl.lit(table).alias("table"), pl.lit(night).alias("delivered_date"))


def mark_customers(customers: pl.DataFrame, programme: Programme) -> pl.DataFrame:
    """Add each customer's decision cohort, holdout and evaluation marks.

    All three follow from a hash of customer_id, so they never change.

    Parameters
    ----------
    customers
        With customer_id.
    programme
        Shares and number of cohorts.

    Returns
    -------
    pl.DataFrame
        With decision_cohort, is_holdout, is_evaluation.
    """
    ids = customers["customer_id"]
    is_holdout = hash_uniform(ids, salt="holdout") < programme.holdout_share
    is_evaluation = hash_uniform(ids, salt="evaluation") < programme.evaluation_share
    return customers.with_columns(
        pl.Series(
            "decision_cohort",
            (hash_text(ids, salt="cohort") % np.uint64(programme.n_cohorts)).astype(np.int64),
        ),
        pl.Series("is_holdout", is_holdout),
        pl.Series("is_evaluation", is_evaluation & ~is_holdout),
    )


def check_randomisation(
    logged: LoggedDecisions, *, actions: ActionSet, programme: Programme
) -> pl.DataFrame:
    """Check that the log was drawn with the propensities it states.

    Sample ratio: per action, count against the sum of propensities. Balance: per action and
    feature, sum of x (1{A=a} - e_a), whose variance the design gives. Both as z scores against a
    Bonferroni threshold at ``RANDOMISATION_ALPHA`` for the family. Propensity floor: smallest
    propensity of an eligible action. Rows without a full vector are left out.

    Parameters
    ----------
    logged
        Matured decisions.
    actions
        Names.
    programme
        Its propensity_floor.

    Returns
    -------
    pl.DataFrame
        RandomisationChecks.
    """
    known = logged.take(logged.has_vector)
    rows: list[dict[str, object]] = []
    if known.n_decisions:
        propensity = known.logging_policy  # (n, K)
        surprise = np.eye(actions.n_actions)[known.action] - propensity  # (n, K)
        variance = propensity * (1 - propensity)
        ratio = _standardise(surprise.sum(axis=0), variance.sum(axis=0))  # (K,)
        limit = _z_limit(len(ratio))
        rows += [
            _check("sample_ratio", name, abs(z), limit)
            for name, z in zip(actions.action_ids, ratio, strict=True)
        ]
        is_known = ~np.isnan(known.contexts.context).all(axis=0)
        context = known.contexts.context[:, is_known]
        mean, spread = np.nanmean(context, axis=0), np.nanstd(context, axis=0)
        varies = spread > 0
        standard = np.nan_to_num((context - mean)[:, varies] / spread[varies])  # (n, d')
        balance = _standardise(standard.T @ surprise, (standard**2).T @ variance)  # (d', K)
        limit = _z_limit(balance.size)
        names = np.array(known.contexts.feature_names)[is_known][varies]
        rows += [
            _check("balance", f"{name}|{action}", abs(balance[i, j]), limit)
            for i, name in enumerate(names)
            for j, action in enumerate(actions.action_ids)
        ]
        smallest = float(propensity[known.contexts.eligible].min())
        rows.append(
            {
                "check": "propensity_floor",
                "subject": "smallest eligible propensity",
                "statistic": smallest,
                "threshold": programme.propensity_floor,
                "is_passed": smallest >= programme.propensity_floor * (1 - 1e-9),
            }
        )
    return RandomisationChecks.validate(
        pl.DataFrame(rows, schema=RandomisationChecks.create_empty().schema)
    )


def is_randomisation_sound(checks: pl.DataFrame) -> bool:
    """Return whether sample ratios and balance hold; a low floor alone doesn't unsound a log."""
    decisive = checks.filter(pl.col("check").is_in(["sample_ratio", "balance"]))
    return decisive.height > 0 and bool(decisive["is_passed"].all())


def _standardise(sums: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return z scores; 0 where nothing could vary."""
    return np.divide(sums, np.sqrt(variances), out=np.zeros_like(sums), where=variances > 0)


def _z_limit(n_tests: int) -> float:
    """Return the two-sided Bonferroni limit of a family of z scores."""
    return float(stats.norm.ppf(1 - RANDOMISATION_ALPHA / (2 * max(n_tests, 1))))


def _check(check: str, subject: str, statistic: float, threshold: float) -> dict[str, object]:
    return {
        "check": check,
        "subject": subject,
        "statistic": float(statistic),
        "threshold": threshold,
        "is_passed": bool(statistic <= threshold),
    }
