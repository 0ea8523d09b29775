"""Learn: what is learned from, matured decisions split by customer."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import ContractError, SupportError
from ml.core.hashing import hash_text, hash_uniform
from ml.core.logged import LoggedDecisions, build_logged_decisions
from ml.core.policy import FROZEN
from ml.core.programme import Programme
from ml.uplift.propensity import FittedPropensities, fit_propensities


@dataclass(frozen=True)
class Snapshot:
    """The matured decisions of a training date, split by customer.

    ``evaluation`` customers enter no training; ``data_hash`` identifies the rows. Where the log
    lacks propensities and the programme has them fitted, ``fitted`` says how; those decisions
    serve training alone. ``n_per_night`` is the mean number of decisions of a night.
    """

    everything: LoggedDecisions
    training: LoggedDecisions
    evaluation: LoggedDecisions
    data_hash: str
    n_per_night: int
    fitted: FittedPropensities | None = None

    @property
    def n_fitted(self) -> int:
        """Training decisions whose propensities are fitted."""
        return 0 if self.fitted is None else len(self.fitted.policy)


def take_snapshot(rows: pl.DataFrame, *, programme: Programme, actions: ActionSet) -> Snapshot:
    """Split matured decisions into training and evaluation customers.

    Holdout customers are left out: no policy decides about them. So are frozen nights, on which
    none was to decide, and decisions that left
    nothing to chance (propensity 1 without a vector, a targeting rule's): they support no
    comparison. Decisions without a propensity are left out too, or with ``fits_propensities`` in
    the programme those of training customers get fitted ones.

    Parameters
    ----------
    rows
        Joined mart rows of matured decisions, one per decision.
    programme, actions
        How they are encoded.

    Returns
    -------
    Snapshot
        In order of decision_id.

    Raises
    ------
    ContractError
        If the mart's evaluation mark is not the one that the hash gives: a training set may hold
        evaluation customers.
    SupportError
        If there is no matured decision.
    """
    is_random = pl.col("eligible_propensities").is_not_null() | (pl.col("propensity") < 1)
    is_unknown = pl.col("propensity").is_null()
    if programme.fits_propensities:
        is_random |= is_unknown
    is_frozen = pl.col("arm") == FROZEN
    decided = rows.filter(~pl.col("is_holdout") & is_random & ~is_frozen).sort("decision_id")
    if decided.is_empty():
        n_unknown = rows.filter(is_unknown).height
        raise SupportError(
            "no matured decision yet: training needs decisions at least "
            f"{programme.matured_after_days} days old"
            + (
                f"; {n_unknown} lack their propensity: set fits_propensities in programme.json to "
                "learn from them"
                if n_unknown
                else ""
            )
        )
    fingerprint = (
        hash_uniform(decided["customer_id"], salt="evaluation") < programme.evaluation_share
    )
    marked = decided["is_evaluation"].to_numpy()
    if (fingerprint != marked).any():
        raise ContractError(
            f"{int((fingerprint != marked).sum())} rows carry another evaluation mark than their "
            "hash: evaluation_share changed since ingestion; ingest the customers again"
        )
    logged = build_logged_decisions(decided, programme=programme, actions=actions)
    lacks = decided["propensity"].is_null().to_numpy()
    fitted = None
    if (lacks & ~marked).any():
        fitted = _fit_missing(logged, lacks & ~marked, seed=programme.seed)
        logged = _fill_propensities(logged, lacks & ~marked, fitted.policy)
    digest = hashlib.sha256()
    digest.update(hash_text(decided["decision_id"], salt="data").tobytes())
    for array in (logged.action, logged.propensity, logged.value, logged.cost):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(np.ascontiguousarray(logged.contexts.context).tobytes())
    return Snapshot(
        everything=logged.take(~lacks),
        training=logged.take(~marked & logged.has_vector),
        evaluation=logged.take(marked & ~lacks),
        data_hash=digest.hexdigest(),
        n_per_night=max(1, round(logged.n_decisions / decided["decision_date"].n_unique())),
        fitted=fitted,
    )


def find_most_offers(logged: LoggedDecisions) -> float:
    """Return the largest share of decisions that a log sent an offer over four weeks.

    Parameters
    ----------
    logged
        The log.

    Returns
    -------
    float
        In [0, 1].
    """
    shares = (
        logged.contexts.frame.select("decision_date")
        .with_columns(is_offer=pl.Series(logged.action > 0))
        .sort("decision_date")
        .group_by_dynamic("decision_date", every="1w", period="4w", closed="left")
        .agg(pl.col("is_offer").mean(), pl.len())
    )
    # Windows that reach beyond the log's end hold too few to compare with.
    full = shares.filter(pl.col("len") >= 0.5 * pl.col("len").max())
    return float(full["is_offer"].to_numpy().max())


def _fit_missing(logged: LoggedDecisions, rows: np.ndarray, *, seed: int) -> FittedPropensities:
    """Fit the propensities of decisions that lack them."""
    part = logged.take(rows)
    dense = np.unique(part.customer, return_inverse=True)[1]
    return fit_propensities(
        part.contexts.context, part.action, part.contexts.eligible, dense, seed=seed
    )


def _fill_propensities(
    logged: LoggedDecisions, rows: np.ndarray, policy: np.ndarray
) -> LoggedDecisions:
    """Return the decisions with fitted propensities in the given rows."""
    filled, own = logged.logging_policy.copy(), logged.propensity.copy()
    filled[rows] = policy
    own[rows] = policy[np.arange(len(policy)), logged.action[rows]]
    contexts = replace(
        logged.contexts, eligible=logged.contexts.eligible & ((filled > 0) | ~rows[:, None])
    )
    return replace(logged, contexts=contexts, logging_policy=filled, propensity=own)
