"""Chance: what a search's statistics would be if nothing else modified the effect.

The design is known: each decision's offer was drawn with its logged propensity. Under the
hypothesis that the effect depends on the selected candidates alone, outcomes without an offer are
known too, and the same statistics of offers drawn again say what chance does, however skewed the
outcome and rare the candidates are (Fisher 1935). They are studentised, by clusters, so that the
effect need only be the same on average (Wu and Ding 2021).

In small groups that isn't enough. An offer that adds rare and large outcomes leaves more of them
where it was sent: sums over a few customers are skewed, and who saw none of the large outcomes
has a small sum with a small error. Offers drawn again say nothing of it, since they keep each
customer's outcome. So what is left of outcomes is dealt out again too, among those who were sent
the offer and among the others (permutation of residuals; Freedman and Lane 1983), and a p-value
is the larger of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from scipy import linalg, sparse

from ml.core.errors import ContractError
from ml.interactors.kernels import sum_clusters

Matrix: TypeAlias = np.ndarray | sparse.sparray
_BLOCK, _AT_ONCE = 128, 30_000_000
_PENALTIES = np.geomspace(1e-1, 1e5, 13)
_FREE = 1e-9


@dataclass(frozen=True)
class Trial:
    """n decisions with one offer or none, those of a cluster next to each other.

    Attributes
    ----------
    outcome : shape (n,)
        What each brought.
    offered : shape (n,), bool
    propensity : shape (n,), in (0, 1)
        Of the offer, given that it is that or none.
    cluster : shape (n,), int, rising
        Customers, from 0 on.
    """

    outcome: np.ndarray
    offered: np.ndarray
    propensity: np.ndarray
    cluster: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what the design rules out."""
        if not ((self.propensity > 0) & (self.propensity < 1)).all():
            raise ContractError("a decision that left nothing to chance tells of no effect")
        if (np.diff(self.cluster) < 0).any():
            raise ContractError("order the decisions by cluster")

    @property
    def n_decisions(self) -> int:
        """Number of decisions, n."""
        return len(self.outcome)

    @property
    def chance(self) -> np.ndarray:
        """Offered less its propensity, shape (n,)."""
        return np.asarray(self.offered - self.propensity)

    @property
    def starts(self) -> np.ndarray:
        """Where each cluster begins, shape (C,)."""
        return np.flatnonzero(np.diff(self.cluster, prepend=-1))

    def draw_again(self, n_draws: int, random: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the offers drawn again, less their propensities: blocks of shape (n, b)."""
        propensity = self.propensity[:, None]
        for size in self._list_blocks(n_draws):
            drawn = random.random((self.n_decisions, size), dtype=np.float32)
            yield (drawn < propensity) - propensity

    def deal_again(
        self, rest: np.ndarray, n_draws: int, random: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yield what is left of outcomes, shape (n,), dealt out within each arm: (n, b) each."""
        for size in self._list_blocks(n_draws):
            dealt = np.empty((self.n_decisions, size))
            for arm in (self.offered, ~self.offered):
                own = np.repeat(rest[arm][:, None], size, axis=1)
                dealt[arm] = random.permuted(own, axis=0)
            yield dealt

    def _list_blocks(self, n_draws: int) -> list[int]:
        """Return how many draws are made at once."""
        block = max(1, min(_BLOCK, _AT_ONCE // self.n_decisions))
        return [min(block, n_draws - start) for start in range(0, n_draws, block)]

    def take(self, rows: np.ndarray) -> "Trial":
        """Return some of them, by a mask."""
        cluster = np.unique(self.cluster[rows], return_inverse=True)[1]
        return Trial(self.outcome[rows], self.offered[rows], self.propensity[rows], cluster)


@dataclass(frozen=True)
class Scores:
    """Statistics of m candidates given those selected.

    ``observed``, shape (m,), signed and studentised; ``by_chance``, shape (2, B), sorted: the
    largest absolute one among them when the offers are drawn again, and when what is left of the
    outcomes is dealt out again; ``slopes``, shape (m,): how far a unit of each
    moves the effect, given those selected, absolute; ``spreads``, shape (m,): their standard
    deviations given those selected.
    """

    observed: np.ndarray
    by_chance: np.ndarray
    slopes: np.ndarray
    spreads: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the slopes, by cluster, shape (m,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.observed != 0, self.slopes / np.abs(self.observed), 0.0)

    def find_p_values(self) -> np.ndarray:
        """Return p-values that hold for all candidates together, shape (m,) (max-T)."""
        n_draws = self.by_chance.shape[1]
        below = [np.searchsorted(each, np.abs(self.observed)) for each in self.by_chance]
        return np.asarray((1 + n_draws - np.minimum(*below)) / (1 + n_draws))


def adjust_outcome(trial: Trial, candidates: Matrix, *, n_folds: int = 5) -> Trial:
    """Return a trial whose outcomes are less what was to be expected, whatever was sent.

    Ridge on the candidates, fitted on other clusters, its penalty by their errors. It takes noise
    off, and adds no bias: the offers were drawn without looking at it.

    Parameters
    ----------
    trial
        n decisions.
    candidates : shape (n, m)
        Dense or sparse.
    n_folds
        Of clusters.

    Returns
    -------
    Trial
        With mean outcome about 0.
    """
    fold = np.random.default_rng(31).permutation(trial.cluster[-1] + 1)[trial.cluster] % n_folds
    rows = sparse.csr_array(candidates, dtype=float)
    mean = np.asarray(rows.mean(axis=0)).ravel()
    square = np.asarray(rows.multiply(rows).mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    # One penalty for all: candidates have their own units.
    rows = rows @ sparse.diags_array(
        np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    )
    parts = [(rows[fold == each], trial.outcome[fold == each]) for each in range(n_folds)]
    gram = [(part.T @ part).toarray() for part, _ in parts]
    sums = [part.sum(axis=0) for part, _ in parts]
    moment = [part.T @ outcome for part, outcome in parts]
    totals = [outcome.sum() for _, outcome in parts]
    sizes = [len(outcome) for _, outcome in parts]
    expected = np.zeros((trial.n_decisions, len(_PENALTIES)))
    for each, (part, _) in enumerate(parts):
        n = sum(sizes) - sizes[each]
        mean = (sum(sums) - sums[each]) / n
        level = (sum(totals) - totals[each]) / n
        inner = sum(gram) - gram[each] - n * np.outer(mean, mean)
        outer = sum(moment) - moment[each] - n * level * mean
        values, vectors = linalg.eigh(inner)
        turned = vectors.T @ outer
        weights = vectors @ (turned[:, None] / (np.maximum(values, 0)[:, None] + _PENALTIES))
        expected[fold == each] = level + part @ weights - mean @ weights
    errors = ((trial.outcome[:, None] - expected) ** 2).sum(axis=0)
    return replace(trial, outcome=trial.outcome - expected[:, int(errors.argmin())])


def fit_by_cluster(trial: Trial, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit effects linear in columns, shape (n, s), whatever these do without an offer.

    Least squares of the outcome on the columns and on (offered - propensity) times them (Robinson
    1988).

    Returns
    -------
    tuple
        Effects, shape (s,), and their covariance by cluster, shape (s, s): of large samples.
    """
    design = np.hstack([columns, trial.chance[:, None] * columns])
    inverse = np.linalg.pinv(design.T @ design)
    found = inverse @ (design.T @ trial.outcome)
    rest = trial.outcome - design @ found
    sums = np.add.reduceat(design * rest[:, None], trial.starts)
    size = columns.shape[1]
    return found[size:], (inverse @ (sums.T @ sums) @ inverse)[size:, size:]


def fit_effect(trial: Trial, selected: np.ndarray) -> np.ndarray:
    """Fit effects that are linear in the selected candidates.

    Parameters
    ----------
    trial
        n decisions.
    selected : shape (n, s)
        Candidates.

    Returns
    -------
    np.ndarray
        Shape (1 + s,): the effect where all are 0, and what each adds.
    """
    base = np.column_stack([np.ones(trial.n_decisions), selected])
    return fit_by_cluster(trial, base)[0]


def take_off(trial: Trial, selected: np.ndarray) -> np.ndarray:
    """Return outcomes less what those selected, and propensities, say of them, shape (n,).

    (A - e) times the effect fitted on those selected is taken off, and what the outcome owes to
    them whatever was sent, which is noise. Under the hypothesis that the effect depends on nothing
    else it stays as it is when the offers A are drawn again.
    """
    base = np.column_stack([np.ones(trial.n_decisions), selected])
    rest = trial.outcome - trial.chance * (base @ fit_effect(trial, selected))
    known = np.column_stack([base, trial.propensity])
    return np.asarray(rest - known @ np.linalg.lstsq(known, rest, rcond=None)[0])


def score_candidates(
    trial: Trial, candidates: Matrix, selected: np.ndarray, *, n_draws: int, seed: int
) -> Scores:
    """Score every candidate's modification of the effect, given those selected.

    U_j = sum_i z~_ij (A_i - e_i) r_i over the root of its summed squares by cluster, with z~ the
    candidate less what 1 and those selected say of it (weights e (1 - e)), and r the outcome less
    (A - e) times the effect fitted on those selected. Under the hypothesis r stays as it is when
    the offers A are drawn again: all draws are products with it, nothing is fitted anew. Dealt out
    again within the arms, r keeps their tails.

    Parameters
    ----------
    trial
        n decisions.
    candidates : shape (n, m)
        Dense or sparse.
    selected : shape (n, s)
        Those among them that the effect depends on already.
    n_draws, seed
        B draws of the offers, and as many of r.

    Returns
    -------
    Scores
        Statistics of candidates that 1 and those selected explain wholly are 0.
    """
    base = np.column_stack([np.ones(trial.n_decisions), selected])
    rest, chance = take_off(trial, selected)[:, None], trial.chance[:, None]
    projector = _Projector(trial, candidates, base)
    observed = projector.studentise(chance * rest)[:, 0]
    random = np.random.default_rng(seed)
    again = (drawn * rest for drawn in trial.draw_again(n_draws, random))
    dealt = (chance * each for each in trial.deal_again(rest[:, 0], n_draws, random))
    by_chance = [
        np.concatenate(
            [np.abs(projector.studentise(each)).max(axis=0, initial=0.0) for each in products]
        )
        for products in (again, dealt)
    ]
    slopes, spreads = projector.measure(trial.chance * rest[:, 0])
    return Scores(observed, np.sort(by_chance, axis=1), slopes * (observed != 0), spreads)


class _Projector:
    """Candidates less what the base says of them, not written out where they are sparse."""

    def __init__(self, trial: Trial, candidates: Matrix, base: np.ndarray) -> None:
        weight = trial.propensity * (1 - trial.propensity)
        root = np.sqrt(weight)[:, None]
        self._basis = np.linalg.qr(root * base)[0] / root  # (n, k), orthonormal by the weights
        self._columns = sparse.csc_array(candidates)
        self._columns.sort_indices()
        self._cluster = trial.cluster
        self._starts = trial.starts
        self._said = self._columns.T @ (weight[:, None] * self._basis)  # (m, k)
        whole = self._columns.multiply(self._columns).T @ weight
        self._left = whole - (self._said**2).sum(axis=1)
        self._is_free = self._left > _FREE * whole
        self._total = weight.sum()
        # A decision a cluster and no zeros to leave out: it is written out after all, and sums are
        # products of matrices.
        is_plain = isinstance(candidates, np.ndarray) and len(trial.starts) == trial.n_decisions
        self._plain = candidates - self._basis @ self._said.T if is_plain else None

    def measure(self, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return |sum z~ (A - e) r| / sum w z~^2, and the root of the mean of w z~^2, (m,) each."""
        total = self._columns.T @ products - self._said @ (self._basis.T @ products)
        left = np.where(self._is_free, self._left, np.inf)
        return np.abs(total) / left, np.sqrt(np.where(self._is_free, left / self._total, 0.0))

    def studentise(self, drawn: np.ndarray) -> np.ndarray:
        """Return statistics, shape (m, B), of (A - e) r, shape (n, B)."""
        if self._plain is None:
            total, square = self._sum_clusters(drawn)
        else:
            total, square = self._plain.T @ drawn, (self._plain**2).T @ drawn**2
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = total / np.sqrt(np.maximum(square, 0))
        return np.where(self._is_free[:, None] & np.isfinite(scores), scores, 0.0)

    def _sum_clusters(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums over clusters, and of the clusters' squares, shape (m, B) each."""
        said, columns = self._said, self._columns
        shape = (columns.shape[1], drawn.shape[1])
        total, square = np.zeros((2, *shape))
        cross = np.zeros((self._basis.shape[1], *shape))
        by_cluster = np.stack(
            [np.add.reduceat(each[:, None] * drawn, self._starts) for each in self._basis.T]
        )  # (k, C, B)
        sum_clusters(
            columns.indptr,
            columns.indices,
            columns.data,
            self._cluster,
            np.ascontiguousarray(drawn),
            by_cluster,
            total,
            square,
            cross,
        )
        total -= said @ by_cluster.sum(axis=1)
        both = np.einsum("kcb,lcb->klb", by_cluster, by_cluster, optimize=True)
        square -= 2 * np.einsum("mk,kmb->mb", said, cross)
        square += np.einsum("mk,ml,klb->mb", said, said, both, optimize=True)
        return total, square
