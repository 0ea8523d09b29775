"""Learn: what may drive effects: attributes, behaviour, and codes of histories, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from ml.core.contexts import BEHAVIOUR_FEATURES, Contexts
from ml.core.errors import ContractError, SupportError
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
    """Codes that recur: ``kept``, shape (m, 2), a training's coder and its feature; their names."""

    coders: tuple[SparseCoder, ...]
    kept: np.ndarray
    names: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    share_recurring: float
    loss: float

    def take(self, names: Sequence[str]) -> "Codes":
        """Return some of them, by name, and the trainings that they are of."""
        places = [self.names.index(name) for name in names]
        members = tuple(self.members[each] for each in places)
        kept = self.kept[places]
        used, kept[:, 0] = np.unique(kept[:, 0], return_inverse=True)
        coders = tuple(self.coders[each] for each in used)
        return replace(self, coders=coders, kept=kept, names=tuple(names), members=members)

    def write(self, vectors: np.ndarray) -> Candidates:
        """Return candidates of encoded histories, shape (n, d)."""
        codes = encode_features(self.coders, vectors, self.kept)
        return Candidates(self.names, codes, self.members, np.zeros(len(self.names), dtype=bool))


@dataclass(frozen=True)
class AttributeReader:
    """How what is known of customers without histories becomes candidates.

    ``names`` of p features; ``is_log``, shape (p,): counts and days are read by their logarithms
    (effects follow ratios); ``fill``, shape (p,), stands for what is unknown.
    """

    names: tuple[str, ...]
    is_log: np.ndarray
    fill: np.ndarray

    def take(self, names: Sequence[str]) -> "AttributeReader":
        """Return what reads some of them, by name, in their order."""
        own = np.array([name in names for name in self.names], dtype=bool)
        kept = tuple(name for name in self.names if name in names)
        return AttributeReader(kept, self.is_log[own], self.fill[own])

    def read(self, contexts: Contexts) -> Candidates:
        """Return n customers' candidates.

        Raises
        ------
        ContractError
            If the contexts lack a feature.
        """
        lacking = sorted(set(self.names) - set(contexts.feature_names))
        if lacking:
            raise ContractError(f"the contexts lack {lacking}: search anew (make interactors)")
        column = contexts.context[:, [contexts.feature_names.index(name) for name in self.names]]
        column = np.where(np.isnan(column), self.fill, column)
        column[:, self.is_log] = np.log1p(column[:, self.is_log])
        return Candidates(
            self.names, sparse.csr_array(column), ((),) * len(self.names), self.is_log
        )


def fit_attributes(contexts: Contexts) -> AttributeReader:
    """Return what reads the features that differ between customers; none is protected.

    Days since what never happened are ten years, other unknown numbers the mean.
    """
    names, is_log, fill = [], [], []
    for position, name in enumerate(contexts.feature_names):
        column, is_counted = contexts.context[:, position], name in BEHAVIOUR_FEATURES
        is_known = np.isfinite(column)
        if not is_known.any():
            continue
        usual = _LONG_AGO if is_counted else float(column[is_known].mean())
        filled = np.where(is_known, column, usual)
        if filled.min() < filled.max():
            names.append(name)
            is_log.append(is_counted)
            fill.append(usual)
    return AttributeReader(tuple(names), np.array(is_log, dtype=bool), np.array(fill))


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
    present: sparse.csr_array | None,
    vocabulary: Sequence[str],
    settings: CodeSettings,
    *,
    n_coders: int,
    progress: Callable[[str], None] = lambda message: None,
) -> Codes:
    """Learn codes on customers outside the searched ones, and name them.

    A code is called by the tokens that its active histories hold more often than others do, or by
    its number.

    Parameters
    ----------
    vectors : shape (n, d)
        Of teaching customers.
    present : shape (n, V)
        Their tokens; None where the vectors are of no histories.
    vocabulary
        V tokens.
    settings
        Of each training, at most: there are no more features than twice the tokens or dimensions.
    n_coders
        Trainings.
    progress
        Called with a line per training.

    Returns
    -------
    Codes
        Those that most trainings found; of nearly equal ones the most active, the others its
        members.

    Raises
    ------
    SupportError
        If no feature recurs.
    """
    size = vectors.shape[1]
    own = (
        replace(
            settings,
            n_features=min(settings.n_features, 2 * size),
            n_active=min(settings.n_active, max(2, size // 4)),
        )
        if present is None
        else size_codes(settings, present)
    )
    coders = []
    for each in range(n_coders):
        coders.append(train_coder(vectors, replace(own, seed=own.seed + each)))
        progress(f"codes, training {each + 1} of {n_coders}")
    every = [(0, feature) for feature in range(own.n_features)]
    recurring = find_recurring(coders) if len(coders) > 1 else every
    if not recurring:
        raise SupportError("no code recurs over trainings: fewer features, or more steps")
    kept = np.array(recurring, dtype=np.int64)
    codes = encode_features(coders, vectors, kept)
    weight = np.asarray((codes > 0).mean(axis=0)).ravel()
    kept, codes, weight = kept[weight > 0], codes[:, weight > 0], weight[weight > 0]
    if not len(kept):
        raise SupportError("no code that recurs is ever active: more steps")
    names = (
        [f"code {each}" for each in range(len(kept))]
        if present is None
        else _name_codes(codes, present, vocabulary)
    )
    group = group_duplicates(codes)
    first = [
        int(members[weight[members].argmax()])
        for members in (np.flatnonzero(group == each) for each in range(group.max() + 1))
    ]
    members = tuple(
        tuple(names[other] for other in np.flatnonzero(group == group[each]) if other != each)
        for each in first
    )
    n_active = [len(np.unique(each.encode(vectors).indices)) for each in coders]
    return Codes(
        tuple(coders),
        kept[first],
        tuple(names[each] for each in first),
        members,
        len(kept) / float(np.mean(n_active)),
        float(np.mean([each.measure_loss(vectors) for each in coders])),
    )


def encode_features(
    coders: Sequence[SparseCoder], vectors: np.ndarray, kept: np.ndarray
) -> sparse.csr_array:
    """Return some features' codes, shape (n, m).

    Parameters
    ----------
    coders
        Trainings.
    vectors : shape (n, d)
        Encoded histories.
    kept : shape (m, 2)
        Each feature's coder and place in it.
    """
    codes = {place: coders[place].encode(vectors) for place in np.unique(kept[:, 0])}
    columns = [codes[place][:, [feature]] for place, feature in kept]
    return sparse.csr_array(sparse.hstack(columns))


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
