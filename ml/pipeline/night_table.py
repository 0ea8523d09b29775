"""Decide: the columns of a night's table that differ from customer to customer."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.contexts import Contexts
from ml.core.schemas import PRUNING_REASONS
from ml.pipeline.policies import Scores
from ml.pipeline.windows import Window

_UNREACHED = ("not_offered", "not_contactable")


def write_pairs(
    contexts: Contexts,
    actions: ActionSet,
    *,
    probabilities: np.ndarray,
    drawn: np.ndarray,
    is_exploration: np.ndarray,
    scores: Scores,
    windows: Mapping[str, Window],
    codes: np.ndarray,
    reasons: np.ndarray,
) -> pl.DataFrame:
    """Return actions, propensities, pruned pairs, effects, reasons and send windows of a night.

    Parameters
    ----------
    contexts, actions
        n customers and K actions.
    probabilities, codes : shape (n, K)
        The emitted policy, and ``PrunedPairs`` codes.
    drawn : shape (n,), int
        The assigned action.
    is_exploration : shape (n,), bool
        Whether the policy alone would never have given it.
    scores
        Expected effects.
    windows
        When each channel may be used.
    reasons : shape (n,)
        Of ``explain_rows``.

    Returns
    -------
    pl.DataFrame
        In the order of ``contexts``.
    """
    rows = np.arange(len(drawn))
    eligible_actions, eligible_propensities = _list_pairs(
        actions, contexts.eligible, pl.DataFrame(probabilities)
    )
    known = pl.Series(PRUNING_REASONS, dtype=pl.Enum(PRUNING_REASONS))
    named = pl.DataFrame(
        [known.gather(np.maximum(code.astype(np.int64) - 1, 0)) for code in codes.T],
        schema=[f"r{index}" for index in range(actions.n_actions)],
    )
    pruned_actions, pruned_reasons = _list_pairs(actions, codes > 0, named)
    begins, ends = (
        pl.Series([None, *(windows.get(each, (None, None))[side] for each in actions.channels[1:])])
        .cast(pl.Datetime("us", "UTC"))
        .gather(drawn)
        for side in (0, 1)
    )
    return contexts.frame.select("customer_id", "decision_date", "lifecycle").with_columns(
        pl.Series("action_id", np.array(actions.action_ids)[drawn]),
        pl.Series("propensity", probabilities[rows, drawn]),
        eligible_actions.alias("eligible_actions"),
        eligible_propensities.alias("eligible_propensities"),
        pruned_actions.alias("pruned_actions"),
        pruned_reasons.alias("pruned_reasons"),
        begins.alias("send_from"),
        ends.alias("send_until"),
        pl.Series("is_exploration", is_exploration),
        pl.Series("expected_value_effect", scores.value_effect[rows, drawn]),
        pl.Series("expected_cost_effect", scores.cost_effect[rows, drawn]),
        pl.Series("reason_code", reasons),
    )


def explain_rows(
    codes: np.ndarray, drawn: np.ndarray, is_exploration: np.ndarray, arm: str
) -> np.ndarray:
    """Return a reason code per row; docs/assignment-table.md explains them.

    Parameters
    ----------
    codes : shape (n, K)
        ``PrunedPairs`` codes.
    drawn : shape (n,), int
        The assigned action.
    is_exploration : shape (n,), bool
        Whether the policy alone would never have given it.
    arm
        'champion', or why there is none.

    Returns
    -------
    np.ndarray
        Shape (n,), text.
    """
    offers = codes[:, 1:]
    is_eligible = np.isin(offers, [0, *_codes_from("implausible")])
    is_closed = np.isin(offers, [1 + PRUNING_REASONS.index(each) for each in _UNREACHED])
    return np.select(
        [
            np.full(len(drawn), arm != "champion"),
            is_exploration,
            drawn > 0,
            is_closed.all(axis=1),
            ~is_eligible.any(axis=1),
            (offers > 0).all(axis=1),
        ],
        [arm, "exploration", "best_offer", "not_contactable", "not_eligible", "no_offer_pays"],
        default="budget",
    )


def _list_pairs(
    actions: ActionSet, is_listed: np.ndarray, values: pl.DataFrame
) -> tuple[pl.Series, pl.Series]:
    """Return each customer's listed actions, and the values of those, from (n, K) columns."""
    names = pl.DataFrame(
        {name: pl.Series([name]).new_from_index(0, len(is_listed)) for name in actions.action_ids}
    )
    listed = []
    for columns in (names, values):
        kept = columns.select(
            pl.when(pl.Series(is_listed[:, index])).then(pl.col(name)).alias(f"a{index}")
            for index, name in enumerate(columns.columns)
        )
        listed.append(kept.select(pl.concat_list(pl.all()).list.drop_nulls()).to_series())
    return listed[0], listed[1]


def _codes_from(reason: str) -> range:
    """Return the codes of a reason and of those after it: with the first soft one, of all soft."""
    return range(1 + PRUNING_REASONS.index(reason), 1 + len(PRUNING_REASONS))
