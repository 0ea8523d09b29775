"""Learn: what may drive effects: attributes, behaviour, and codes of histories, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from ml.core.contexts import BEHAVIOUR_FEATURES, Contexts
from ml.core.errors import SupportError
from ml.interactors.codes import (
    CodeSettings,
    SparseCoder,
    find_recurring,
    group_duplicates,
    train_coder,
)
from ml.interactors.encoders import Encoder
from ml.interactors.histories import Histories

_NAMED_BY = 3
_LONG_AGO = 3_650.0
_ROWS = 100_000


@dataclass(frozen=True)
class Candidates:
    """n decisions' candidates: a matrix, shape (n, m), and what each is called.

    ``members`` lists what else each stands for: codes that are nearly the same. ``is_log``, shape
    (m,): the column is log (1 + what it is called).
    """

    names: tuple[str, ...]
    matrix: sparse.csr_array
    members: tuple[tuple[str, ...], ...]
    is_log: np.ndarray

    def take(self, rows: np.ndarray) -> "Candidates":
        """Return the candidates of some decisions."""
        return replace(self, matrix=self.matrix[rows])


@dataclass(frozen=True)
class Codes:
    """Codes that recur: the first training's features ``kept``, shape (m,), and their names."""

    coder: SparseCoder
    kept: np.ndarray
    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    share_recurring: float
    loss: float

    def write(self, vectors: np.ndarray) -> Candidates:
        """Return candidates of encoded histories, shape (n, d)."""
        codes = sparse.csr_array(self.coder.encode(vectors)[:, self.kept])
        return Candidates(self.names, codes, self.members, np.zeros(len(self.names), dtype=bool))


def list_attributes(contexts: Contexts) -> Candidates:
    """Return what is known of customers without histories as candidates.

    Counts and days by their logarithms (effects follow ratios), days since what never happened as
    ten years; attributes as they are, unknown numbers as the mean. Protected attributes are left
    out.
    """
    columns, names, is_log = [], [], []
    for position, name in enumerate(contexts.feature_names):
        column, is_counted = contexts.context[:, position], name in BEHAVIOUR_FEATURES
        known = column[np.isfinite(column)]
        if is_counted:
            column = np.log1p(np.nan_to_num(column, nan=_LONG_AGO))
        elif len(known):
            column = np.nan_to_num(column, nan=float(known.mean()))
        if len(known) and column.min() < column.max():
            columns.append(column)
            names.append(name)
            is_log.append(is_counted)
    matrix = sparse.csr_array(np.column_stack(columns))
    return Candidates(tuple(names), matrix, ((),) * len(names), np.array(is_log))


def join_candidates(*parts: Candidates) -> Candidates:
    """Return candidates of several kinds side by side."""
    return Candidates(
        tuple(name for part in parts for name in part.names),
        sparse.csr_array(sparse.hstack([part.matrix for part in parts])),
        tuple(each for part in parts for each in part.members),
        np.concatenate([part.is_log for part in parts]),
    )


def learn_codes(
    vectors: np.ndarray,
    present: sparse.csr_array,
    vocabulary: Sequence[str],
    settings: CodeSettings,
    *,
    n_coders: int,
    progress: Callable[[str], None] = lambda message: None,
) -> Codes:
    """Learn codes on customers outside the searched ones, and name them.

    A code is called by the tokens that its active histories hold more often than others do.

    Parameters
    ----------
    vectors : shape (n, d)
        Encoded histories of teaching customers.
    present : shape (n, V)
        Their tokens.
    vocabulary
        V tokens.
    settings
        Of each training, at most; ``size_codes`` fits them.
    n_coders
        Trainings.
    progress
        Called with a line per training.

    Returns
    -------
    Codes
        Those that recur; of nearly equal ones the most active, the others its members.

    Raises
    ------
    SupportError
        If no feature recurs.
    """
    own = size_codes(settings, present)
    coders = []
    for each in range(n_coders):
        coders.append(train_coder(vectors, replace(own, seed=own.seed + each)))
        progress(f"codes, training {each + 1} of {n_coders}")
    codes = coders[0].encode(vectors)
    is_active = np.asarray((codes > 0).mean(axis=0)).ravel() > 0
    recurring = find_recurring(coders) if len(coders) > 1 else np.ones(codes.shape[1], dtype=bool)
    kept = np.flatnonzero(recurring & is_active)
    if not len(kept):
        raise SupportError("no code recurs over trainings: fewer features, or more steps")
    names = _name_codes(codes[:, kept], present, vocabulary)
    group = group_duplicates(codes[:, kept])
    weight = np.asarray((codes[:, kept] > 0).mean(axis=0)).ravel()
    first = [
        int(members[weight[members].argmax()])
        for members in (np.flatnonzero(group == each) for each in range(group.max() + 1))
    ]
    members = tuple(
        tuple(names[other] for other in np.flatnonzero(group == group[each]) if other != each)
        for each in first
    )
    return Codes(
        coders[0],
        kept[first],
        tuple(names[each] for each in first),
        members,
        float(recurring[is_active].mean()),
        coders[0].measure_loss(vectors),
    )


def write_codes(codes: Codes, encoder: Encoder, histories: Histories) -> Candidates:
    """Return the codes of n decisions' histories, never more than some vectors at once."""
    every = np.arange(histories.n_decisions)
    parts = [
        codes.write(encoder.encode(histories.take(every[start : start + _ROWS])))
        for start in range(0, len(every), _ROWS)
    ]
    matrix = sparse.csr_array(sparse.vstack([part.matrix for part in parts]))
    return replace(parts[0], matrix=matrix)


def size_codes(codes: CodeSettings, present: sparse.csr_array) -> CodeSettings:
    """Return codes' settings with no more features than twice the tokens, nor active ones than fit.

    Parameters
    ----------
    codes
        The most of both.
    present : shape (n, V)
        Which tokens histories hold: half as many again as a history holds on average may be active.
    """
    per_history = float(present.sum()) / present.shape[0]
    n_features = min(codes.n_features, 2 * present.shape[1])
    most = min(codes.n_active, n_features, max(2, int(np.ceil(1.5 * per_history))))
    return replace(codes, n_features=n_features, n_active=most)


def _name_codes(
    codes: sparse.csr_array, present: sparse.csr_array, vocabulary: Sequence[str]
) -> list[str]:
    """Return names by the tokens most over-represented where a code is active."""
    n = codes.shape[0]
    active = sparse.csc_array((codes > 0).astype(float))
    n_active = np.asarray(active.sum(axis=0)).ravel()
    share = (active.T @ present).toarray() / np.maximum(n_active, 1)[:, None]
    usual = np.asarray(present.sum(axis=0)).ravel() / n
    more = share - usual
    names: list[str] = []
    for place, row in enumerate(more):
        top = [each for each in np.argsort(-row)[:_NAMED_BY] if row[each] > row.max() / 2]
        name = " + ".join(vocabulary[each] for each in top) or f"code {place}"
        names.append(name if name not in names else f"{name} ({place})")
    return names
