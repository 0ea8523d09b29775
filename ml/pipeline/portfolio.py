"""Identify: other programmes beside ours, and whether effects may be added across them."""

from datetime import timedelta

import numpy as np
import polars as pl

from ml.core.errors import InterferenceError, SupportError
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.core.schemas import PortfolioEffects
from ml.ope.factorial import Factorial, add_effects, estimate_factorial


def estimate_portfolio(
    logged: LoggedDecisions, others: pl.DataFrame, *, control: str, programme: Programme
) -> pl.DataFrame:
    """Estimate our offers' effect, each other programme's, and their interaction.

    Our decisions are paired with the newest one that the other surface took about the customer in
    the learning horizon before. What is compared is any offer of ours with none, any of theirs with
    none, each as often as it was sent.

    Parameters
    ----------
    logged
        Own matured decisions with full vectors; others are left out.
    others
        Accepted ``assignments`` of other surfaces: customer_id, decided_at, surface, action_id,
        propensity, eligible_actions, eligible_propensities.
    control
        The action that sends nothing, everywhere.
    programme
        Its horizon.

    Returns
    -------
    pl.DataFrame
        PortfolioEffects rows, one per surface and outcome; where nothing can be estimated or added,
        ``refusal`` says why.
    """
    rows: list[dict[str, object]] = []
    sends_none = logged.logging_policy[:, 0]
    own = logged.take(logged.has_vector & (sends_none > 0) & (sends_none < 1))
    for surface in sorted(others["surface"].unique().to_list()):
        theirs = others.filter(pl.col("surface") == surface)
        paired, is_other, other_propensity = _pair(own, theirs, control, programme)
        is_own, sends_none = paired.action > 0, paired.logging_policy[:, 0]
        outcomes = {"value": paired.value, "cost": paired.cost, "net_value": paired.net_value}
        for outcome, amount in outcomes.items():
            row: dict[str, object] = {"surface": surface, "outcome": outcome}
            try:
                factorial = estimate_factorial(
                    amount,
                    is_own=is_own,
                    is_other=is_other,
                    own_propensity=np.where(is_own, 1 - sends_none, sends_none),
                    other_propensity=other_propensity,
                    customer=paired.customer,
                )
            except SupportError as error:
                rows.append({**row, "refusal": str(error)})
                continue
            rows.append(row | _describe(factorial))
    return PortfolioEffects.validate(
        pl.DataFrame(rows, schema=PortfolioEffects.create_empty().schema)
    )


def _describe(factorial: Factorial) -> dict[str, object]:
    """Return the columns of an estimated factorial."""
    row: dict[str, object] = {"n_neither": factorial.n_cell[0], "n_both": factorial.n_cell[3]}
    for name in ("own", "other", "both", "interaction"):
        estimate = getattr(factorial, name)
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    try:
        row["added"] = add_effects(factorial).value
    except InterferenceError as error:
        row["refusal"] = str(error)
    return row


def _pair(
    own: LoggedDecisions, theirs: pl.DataFrame, control: str, programme: Programme
) -> tuple[LoggedDecisions, np.ndarray, np.ndarray]:
    """Return own decisions with a random one of the other's before; whether it sent, how likely."""
    window = timedelta(days=programme.learning_horizon_days)
    # Rows without a vector are left out whatever was sent: else those that sent would be missing.
    none = (
        pl.col("eligible_propensities")
        .list.get(
            pl.col("eligible_actions").list.eval(pl.element() == control).list.arg_max(),
            null_on_oob=True,
        )
        .alias("none")
    )
    latest = (
        theirs.with_columns(none)
        .filter(pl.col("none").is_between(0, 1, closed="none"))
        .with_columns(pl.col("decided_at").dt.replace_time_zone(None))
        .select("customer_id", "decided_at", "none", (pl.col("action_id") != control).alias("sent"))
        .sort("decided_at")
    )
    decided = (
        own.contexts.frame.select("customer_id", pl.col("decided_at").dt.replace_time_zone(None))
        .with_row_index("row")
        .sort("decided_at")
    )
    joined = (
        decided.join_asof(
            latest, on="decided_at", by="customer_id", strategy="backward", tolerance=window
        )
        .drop_nulls()
        .sort("row")
    )
    paired = own.take(joined["row"].to_numpy().astype(np.int64))
    sent = joined["sent"].to_numpy()
    none_share = joined["none"].to_numpy()
    return paired, sent, np.where(sent, 1 - none_share, none_share)
