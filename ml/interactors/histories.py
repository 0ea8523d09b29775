"""Histories: which tokens of a customer were known before each decision, in order."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from scipy import sparse

from ml.core.contexts import HISTORY
from ml.core.errors import SupportError

MOST_TOKENS: Final = 256
"""Of the newest of a history that are looked at."""
_SEPARATOR = ":"


@dataclass(frozen=True)
class Histories:
    """n decisions' histories over a vocabulary of V tokens.

    Attributes
    ----------
    vocabulary : V tokens, 'kind:item'
    token : shape (E,), int, index into the vocabulary
        Customer by customer, as they became known.
    first, after : shape (n,), int
        A decision's history is ``token[first:after]``.
    """

    vocabulary: tuple[str, ...]
    token: np.ndarray
    first: np.ndarray
    after: np.ndarray

    @property
    def n_decisions(self) -> int:
        """Number of decisions, n."""
        return len(self.first)

    def take(self, rows: np.ndarray) -> "Histories":
        """Return the histories of some decisions, by a mask or indices."""
        return replace(self, first=self.first[rows], after=self.after[rows])

    def count(self) -> sparse.csr_array:
        """Return how often each token is in each history, shape (n, V)."""
        lengths = self.after - self.first
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        place = np.arange(bounds[-1]) - np.repeat(bounds[:-1] - self.first, lengths)
        shape = (self.n_decisions, len(self.vocabulary))
        counts = sparse.csr_array((np.ones(len(place)), self.token[place], bounds), shape=shape)
        counts.sum_duplicates()
        return counts

    def find_present(self) -> sparse.csr_array:
        """Return 1 where a token is in a history, shape (n, V)."""
        present = self.count()
        present.data[:] = 1.0
        return present

    def describe(self) -> list[str]:
        """Return every history as a text, its tokens by kind, the most frequent first; n texts."""
        counts = self.count()
        kinds, items = zip(*(split_token(each) for each in self.vocabulary), strict=True)
        texts = []
        for row in range(self.n_decisions):
            own = slice(counts.indptr[row], counts.indptr[row + 1])
            order = np.argsort(-counts.data[own], kind="stable")
            by_kind: dict[str, list[str]] = {}
            for place in counts.indices[own][order]:
                by_kind.setdefault(kinds[place], []).append(items[place])
            texts.append("; ".join(f"{kind} {', '.join(by_kind[kind])}" for kind in by_kind))
        return texts


def split_token(token: str) -> tuple[str, str]:
    """Return a token's kind and item, as words."""
    kind, _, item = token.partition(_SEPARATOR)
    return kind, item.replace("_", " ")


def learn_vocabulary(tokens: pl.DataFrame, *, least_customers: int = 20) -> tuple[str, ...]:
    """Return the tokens that enough customers have, in the alphabet's order.

    Parameters
    ----------
    tokens
        customer_id, kind, item: of customers outside the experiment.
    least_customers
        Rarer ones tell too little of anybody.

    Raises
    ------
    SupportError
        If no token is that frequent.
    """
    frequent = (
        tokens.group_by(_name_tokens())
        .agg(n=pl.col("customer_id").n_unique())
        .filter(pl.col("n") >= least_customers)["token"]
        .sort()
    )
    if frequent.is_empty():
        raise SupportError(
            f"no token is in the histories of {least_customers} customers: events need an item "
            "(docs/input-contract.md), and customers outside the experiment a history"
        )
    return tuple(frequent.to_list())


def read_histories(
    tokens: pl.DataFrame,
    decisions: pl.DataFrame,
    *,
    vocabulary: tuple[str, ...],
    most_tokens: int = MOST_TOKENS,
) -> Histories:
    """Find what each decision could know.

    A token belongs to a decision's history if it was available before the decision was taken and
    is among the newest of those. Then tokens that the vocabulary lacks are left out.

    Parameters
    ----------
    tokens
        customer_id, kind, item, available_at: one row an event, in any order.
    decisions
        customer_id, decided_at.
    vocabulary
        Of ``learn_vocabulary``.
    most_tokens
        The newest that are looked at.

    Returns
    -------
    Histories
        In the decisions' order.
    """
    known = (
        tokens.select("customer_id", "available_at", _name_tokens())
        .sort("customer_id", "available_at", "token")
        .with_row_index("place")
    )
    begins = known.group_by("customer_id").agg(pl.col("place").min().alias("begin"))
    asked = decisions.select("customer_id", "decided_at").with_row_index("row").sort("decided_at")
    newest = known.select("customer_id", "available_at", "place").sort("available_at", "place")
    found = (
        asked.join_asof(
            newest,
            left_on="decided_at",
            right_on="available_at",
            by="customer_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .join(begins, on="customer_id", how="left")
        .sort("row")
    )
    after = (found["place"].cast(pl.Int64) + 1).fill_null(0).to_numpy()
    begin = found["begin"].cast(pl.Int64).fill_null(0).to_numpy()
    first = np.minimum(np.maximum(begin, after - most_tokens), after)
    is_known = known["token"].is_in(vocabulary)
    kept = known["token"].filter(is_known).cast(pl.Enum(vocabulary)).to_physical()
    place = np.concatenate([[0], np.cumsum(is_known.to_numpy())])
    return Histories(vocabulary, kept.to_numpy().astype(np.int64), place[first], place[after])


def list_tokens(histories: Histories) -> pl.Series:
    """Return every history as a list of its tokens, in order; a row a decision."""
    lengths = histories.after - histories.first
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    place = np.arange(bounds[-1]) - np.repeat(bounds[:-1] - histories.first, lengths)
    rows = pl.DataFrame(
        {
            "row": np.repeat(np.arange(histories.n_decisions), lengths),
            "token": pl.Series(histories.vocabulary, dtype=pl.String)[histories.token[place]],
        }
    )
    lists = rows.group_by("row", maintain_order=True).agg("token")
    every = pl.DataFrame({"row": np.arange(histories.n_decisions)})
    return every.join(lists, on="row", how="left", maintain_order="left")["token"].fill_null([])


def join_histories(decisions: pl.DataFrame, tokens: pl.DataFrame) -> pl.DataFrame:
    """Return decisions with the column ``ml.core.contexts.HISTORY`` after their own.

    Parameters
    ----------
    decisions
        customer_id, and decided_at or, of a night that is being decided, decision_date.
    tokens
        As of ``read_histories``; every token counts, however rare.
    """
    names = tokens.select(_name_tokens())["token"].unique().sort()
    asked = decisions
    if "decided_at" not in decisions.columns:
        asked = decisions.select(
            "customer_id", pl.col("decision_date").cast(pl.Datetime("us")).alias("decided_at")
        )
    found = read_histories(tokens, asked, vocabulary=tuple(names.to_list()))
    return decisions.with_columns(list_tokens(found).alias(HISTORY))


def read_lists(tokens: pl.Series, vocabulary: tuple[str, ...]) -> Histories:
    """Return histories over a vocabulary of what ``list_tokens`` wrote, other tokens left out.

    Parameters
    ----------
    tokens
        Lists of 'kind:item', a row a decision; null is empty.
    vocabulary
        V tokens.
    """
    lists = tokens.cast(pl.List(pl.String))
    rows = pl.DataFrame({"row": np.arange(len(tokens)), "token": lists})
    known = (
        rows.explode("token")
        .filter(pl.col("token").is_in(vocabulary))
        .with_columns(pl.col("token").cast(pl.Enum(vocabulary)).to_physical())
    )
    lengths = np.bincount(known["row"].to_numpy(), minlength=len(tokens))
    after = np.cumsum(lengths)
    return Histories(vocabulary, known["token"].to_numpy().astype(np.int64), after - lengths, after)


def find_newest(decisions: pl.DataFrame) -> np.ndarray:
    """Return the row of each customer's newest decision, rising, of customer_id and decided_at."""
    rows = decisions.select("customer_id", "decided_at").with_row_index("row").sort("decided_at")
    newest = rows.unique("customer_id", keep="last", maintain_order=True)["row"]
    return np.sort(newest.to_numpy())


def _name_tokens() -> pl.Expr:
    return (pl.col("kind") + pl.lit(_SEPARATOR) + pl.col("item")).alias("token")
