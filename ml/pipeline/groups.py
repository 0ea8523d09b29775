"""Validate: what policies give, cost and bring by group of a protected attribute."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from ml.core.logged import LoggedDecisions
from ml.core.programme import Attribute, Programme
from ml.core.schemas import GroupValues
from ml.ope.intervals import estimate_mean
from ml.pipeline.objective import REWARDS, judge_by_dr, take_judged
from ml.pipeline.policies import AlignedPolicy, BudgetedPolicy
from ml.pipeline.snapshots import Snapshot
from ml.pipeline.validate import CANDIDATE, CHAMPION

LEAST_CUSTOMERS = 300
"""Of a group that is valued."""
_N_BINS = 4


def value_groups(
    snapshot: Snapshot,
    *,
    candidate: BudgetedPolicy,
    champion: BudgetedPolicy,
    programme: Programme,
) -> pl.DataFrame:
    """Return what both policies do to each group of every protected attribute.

    No model sees a protected attribute; what correlates with it, it does. Valued by DR on the
    evaluation customers, as deployed, over no-offer, intervals clustered by customer.

    Parameters
    ----------
    snapshot
        The log.
    candidate, champion
        Policies; the candidate's heads are the outcome model.
    programme
        Declares what is protected; numbers are split in quarters.

    Returns
    -------
    pl.DataFrame
        GroupValues rows; groups of fewer than 300 customers are left out.
    """
    logged = take_judged(snapshot.evaluation, programme)
    gain_of = judge_by_dr(logged, candidate, snapshot=snapshot, programme=programme)
    groups = [
        (name, group, rows)
        for name, group, rows, n_customers in _split_protected(logged, programme)
        if n_customers >= LEAST_CUSTOMERS
    ]
    rows: list[dict[str, object]] = []
    for name, policy in ((CHAMPION, champion), (CANDIDATE, candidate)):
        seen = AlignedPolicy(policy, candidate.actions, programme)
        deployed = seen.probabilities(logged.contexts)
        gains = {reward: gain_of(deployed, reward) for reward in REWARDS}
        for attribute, group, members in groups:
            row: dict[str, object] = {
                "policy": name,
                "attribute": attribute,
                "group": group,
                "n_decisions": int(members.sum()),
                "offer_share": float((1 - deployed[members, 0]).mean()),
            }
            for reward, gain in gains.items():
                estimate = estimate_mean(gain[members], logged.customer[members])
                row |= {
                    reward: estimate.value,
                    f"{reward}_low": estimate.low,
                    f"{reward}_high": estimate.high,
                }
            rows.append(row)
    return GroupValues.validate(pl.DataFrame(rows, schema=GroupValues.create_empty().schema))


def count_left_out(snapshot: Snapshot, programme: Programme) -> pl.DataFrame:
    """Return the groups that are too small to be valued: attribute, group, n_customers.

    Parameters
    ----------
    snapshot
        The log.
    programme
        Declares what is protected.
    """
    logged = take_judged(snapshot.evaluation, programme)
    small = [
        (name, group, n_customers)
        for name, group, _, n_customers in _split_protected(logged, programme)
        if n_customers < LEAST_CUSTOMERS
    ]
    schema = {"attribute": pl.String, "group": pl.String, "n_customers": pl.Int64}
    return pl.DataFrame(small, schema=schema, orient="row")


def _split_protected(
    logged: LoggedDecisions, programme: Programme
) -> Iterator[tuple[str, str, np.ndarray, int]]:
    """Return each protected attribute's groups: name, group, rows, customers."""
    for attribute in programme.attributes:
        if attribute.is_protected:
            for group, rows in split_by_attribute(logged.contexts.frame, attribute):
                yield attribute.name, group, rows, len(np.unique(logged.customer[rows]))


def split_by_attribute(
    frame: pl.DataFrame, attribute: Attribute
) -> Iterator[tuple[str, np.ndarray]]:
    """Return an attribute's groups and their rows, unknown as a group of its own."""
    text = frame["attributes"].str.json_path_match(f"$['{attribute.name}']")
    if attribute.kind == "category":
        values = text.fill_null("unknown")
    else:
        number = text.cast(pl.Float64, strict=False)
        known = number.drop_nulls().to_numpy()
        inner: list[float] = []
        if len(known):
            inner = np.unique(np.quantile(known, np.arange(1, _N_BINS) / _N_BINS)).tolist()
        values = number.cut(inner).cast(pl.String).fill_null("unknown")
    for group in sorted(values.unique().to_list()):
        yield group, (values == group).to_numpy()
