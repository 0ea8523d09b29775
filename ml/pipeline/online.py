"""Validate, after a promotion: the champion against the policy that it replaced, by their arms."""

from datetime import date

import numpy as np
import polars as pl

from ml.core.schemas import OnlineValidation
from ml.ope.estimators import effective_sample_size
from ml.ope.sequences import bound_anytime

VALIDATION_DAYS = 56
MINIMUM_ARM_SIZE = 300.0


def judge_arms(
    decided: pl.DataFrame,
    *,
    champion_version: str,
    challenger_version: str,
    since: date,
    night: date,
) -> pl.DataFrame:
    """Judge by realised outcomes whether the champion harms.

    Every decision weighs its net value by how much likelier the champion takes its action than the
    challenger: (pi_champion - pi_challenger) / propensity, which is both arms' difference without
    the arms' own chance. The mean net value of earlier nights is taken off first; that changes no
    expectation, as both policies' probabilities sum to 1.

    Parameters
    ----------
    decided
        Matured decisions of the two arms: customer_id, decision_date, arm, net_value, propensity,
        champion_propensity, challenger_propensity.
    champion_version, challenger_version
        Of the two policies.
    since
        First night of the split.
    night
        Tonight.

    Returns
    -------
    pl.DataFrame
        One OnlineValidation row. Its status is 'harmful' or 'better' where the confidence sequence
        lies on one side of 0, 'ended' after ``VALIDATION_DAYS`` without a conclusion, else
        'running'. Nothing is concluded while the decisions that speak for the challenger are worth
        fewer than ``MINIMUM_ARM_SIZE``: where the two rarely differ, few large weights decide.
    """
    ordered = decided.sort("decision_date", "customer_id")
    weight, values = _contribute(ordered)
    n_challenger = ordered.filter(pl.col("arm") == "challenger").height
    has_enough = effective_sample_size(np.maximum(-weight, 0.0)) >= MINIMUM_ARM_SIZE
    row: dict[str, object] = {
        "champion_version": champion_version,
        "challenger_version": challenger_version,
        "since": since,
        "n_decisions": ordered.height,
        "n_challenger": n_challenger,
        "difference": None,
        "low": None,
        "high": None,
        "level": None,
        "status": "running",
    }
    if has_enough:
        customer = ordered["customer_id"].cast(pl.Categorical).to_physical().to_numpy()
        estimate = bound_anytime(values, customer)
        row |= {
            "difference": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "level": estimate.level,
            "status": _conclude(estimate.low, estimate.high),
        }
    if row["status"] == "running" and (night - since).days > VALIDATION_DAYS:
        row["status"] = "ended"
    return OnlineValidation.validate(
        pl.DataFrame([row], schema=OnlineValidation.create_empty().schema)
    )


def _conclude(low: float, high: float) -> str:
    if high < 0:
        return "harmful"
    return "better" if low > 0 else "running"


def _contribute(decided: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return every decision's weight, and its contribution to the arms' difference."""
    nights = (
        decided.group_by("decision_date", maintain_order=True)
        .agg(pl.col("net_value").sum().alias("total"), pl.len().alias("count"))
        .sort("decision_date")
        .select(
            "decision_date",
            (
                pl.col("total").cum_sum().shift(1, fill_value=0.0)
                / pl.col("count").cum_sum().shift(1, fill_value=0)
            )
            .fill_nan(0.0)
            .alias("earlier_mean"),
        )
    )
    joined = decided.join(nights, on="decision_date", how="left", maintain_order="left")
    likelier = pl.col("champion_propensity") - pl.col("challenger_propensity")
    weight = joined.select(likelier / pl.col("propensity"))[:, 0].to_numpy()
    away = joined.select(pl.col("net_value") - pl.col("earlier_mean"))[:, 0].to_numpy()
    return weight, weight * away
