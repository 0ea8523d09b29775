"""Decide: what must hold of a night's table before it is sealed."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.core.actions import ActionSet


@dataclass(frozen=True)
class NightCheck:
    """One thing that must hold of a night before it is sealed."""

    name: str
    is_passed: bool
    detail: str


def check_night(
    assignments: pl.DataFrame,
    *,
    features: pl.DataFrame,
    open_channels: pl.DataFrame,
    catalogue: ActionSet,
    budget: float,
    expected_cost: float,
    limits: pl.DataFrame,
    policy_version: str,
) -> tuple[NightCheck, ...]:
    """Check a night's table against what it was made from.

    Parameters
    ----------
    assignments
        AssignmentTable rows.
    features
        customer_features of the date.
    open_channels
        Of ``find_open_channels``, apart from the features.
    catalogue
        Tonight's actions.
    budget, expected_cost
        Currency for the night.
    limits
        LimitUsage rows.
    policy_version
        The one version that may appear.

    Returns
    -------
    tuple
        Every check, passed or not.
    """
    due = features.filter(pl.col("is_due") & ~pl.col("is_holdout"))
    wanted, got = due["customer_id"].sort(), assignments["customer_id"].sort()
    vectors = assignments["eligible_propensities"]
    sums_off = float(np.abs(vectors.list.sum().to_numpy() - 1).max(initial=0.0))
    reach = catalogue.eligible_by_channel(
        assignments.select("customer_id").join(
            open_channels, on="customer_id", how="left", maintain_order="left"
        )["contactable_channels"]
    )
    taken = catalogue.index_of(assignments["action_id"])
    n_ineligible = int((~reach[np.arange(len(taken)), taken]).sum())
    versions = assignments["policy_version"].unique().to_list()
    over = limits.filter(
        (pl.col("side") == "most") & (pl.col("expected") > pl.col("bound") * (1 + 1e-9))
    )
    in_range = assignments["propensity"].is_between(0, 1, closed="right").all()
    return (
        NightCheck(
            "each_due_customer_once",
            wanted.equals(got),
            f"{len(wanted)} due customers outside the holdout, {len(got)} rows",
        ),
        NightCheck(
            "propensities_are_distributions",
            bool(in_range) and sums_off <= 1e-9,
            f"largest distance of a vector's sum from 1: {sums_off:.1e}",
        ),
        NightCheck(
            "expected_cost_within_budget",
            expected_cost <= budget * (1 + 1e-9),
            f"expected cost {expected_cost:.2f} of budget {budget:.2f}",
        ),
        NightCheck(
            "expected_use_within_limits",
            over.is_empty(),
            "; ".join(
                f"{row['limit']}: {row['expected']:.2f} expected of {row['bound']:.2f}"
                for row in (limits if over.is_empty() else over).iter_rows(named=True)
            ),
        ),
        NightCheck(
            "known_versions",
            versions in ([], [policy_version]),
            f"policy versions in the table: {versions}",
        ),
        NightCheck(
            "no_ineligible_pair",
            n_ineligible == 0,
            f"{n_ineligible} offers on a channel that the customer closed or never opened",
        ),
    )
