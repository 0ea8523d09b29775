"""Logged decisions as arrays: contexts, actions, propensities and realised money."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.contexts import Contexts, build_contexts
from ml.core.programme import Programme


@dataclass(frozen=True)
class LoggedDecisions:
    """n matured decisions in the order of ``contexts``.

    Attributes
    ----------
    contexts : n rows
    action : shape (n,), int
    propensity : shape (n,), in (0, 1]; of the assigned action
    logging_policy : shape (n, K); 0 where not eligible, NaN rows where the log has no vector
    value, cost : shape (n,), currency; over the learning horizon
    customer : shape (n,), int
        Dense customer number, the cluster of every interval.
    """

    contexts: Contexts
    action: np.ndarray
    propensity: np.ndarray
    logging_policy: np.ndarray
    value: np.ndarray
    cost: np.ndarray
    customer: np.ndarray

    @property
    def net_value(self) -> np.ndarray:
        """Value minus cost, shape (n,), currency."""
        return self.value - self.cost

    @property
    def has_vector(self) -> np.ndarray:
        """Whether the log knows the propensity of every action, shape (n,), bool."""
        return ~np.isnan(self.logging_policy[:, 0])

    @property
    def n_decisions(self) -> int:
        """Number of decisions, n."""
        return len(self.action)

    def take(self, rows: np.ndarray) -> "LoggedDecisions":
        """Return the decisions of the given rows (bool mask or indices, shape (m,))."""
        indices = np.flatnonzero(rows) if rows.dtype == bool else rows
        return LoggedDecisions(
            contexts=self.contexts.take(indices),
            action=self.action[indices],
            propensity=self.propensity[indices],
            logging_policy=self.logging_policy[indices],
            value=self.value[indices],
            cost=self.cost[indices],
            customer=self.customer[indices],
        )


def build_logged_decisions(
    rows: pl.DataFrame, *, programme: Programme, actions: ActionSet
) -> LoggedDecisions:
    """Build logged decisions from joined mart rows.

    Parameters
    ----------
    rows
        logged_decisions joined with realised_outcomes and customer_features.
    programme, actions
        How features and actions are encoded.

    Returns
    -------
    LoggedDecisions
        In the order of ``rows``. Eligibility is the logged one.
    """
    contexts = build_contexts(rows, programme=programme, actions=actions)
    has_vector = rows["eligible_propensities"].is_not_null().to_numpy()
    logging_policy = np.full((rows.height, actions.n_actions), np.nan)
    known = rows.filter(pl.Series(has_vector))
    logging_policy[has_vector] = actions.spread_lists(
        known["eligible_actions"], known["eligible_propensities"]
    )
    logged_eligible = actions.spread_lists(rows["eligible_actions"]) > 0
    # An action that could not be drawn has no support, whatever the log calls it.
    logged_eligible &= ~has_vector[:, None] | (logging_policy > 0)
    return LoggedDecisions(
        contexts=replace(contexts, eligible=logged_eligible),
        action=actions.index_of(rows["action_id"]),
        propensity=rows["propensity"].to_numpy(),
        logging_policy=logging_policy,
        value=rows["value"].to_numpy(),
        cost=rows["cost"].to_numpy(),
        customer=rows["customer_id"].rank("dense").to_numpy().astype(np.int64) - 1,
    )
