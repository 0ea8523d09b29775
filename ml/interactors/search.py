"""Search: which candidates the effect of an offer depends on, given each other."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse, stats

from ml.core.errors import SupportError
from ml.interactors.randomisation import (
    Matrix,
    Scores,
    Trial,
    adjust_outcome,
    fit_by_cluster,
    score_candidates,
)

_MOST_ROUNDS = 40


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How a search decides.

    Attributes
    ----------
    alpha
        Probability that anything is selected where the effect is the same for everybody; backward
        steps keep to the same rate.
    relevance
        A candidate must move the effect by more than this share of what the strongest does, both
        per standard deviation given the others; 0 selects whatever is significant, with enough data
        every correlate of a driver. A declared threshold on estimated sizes, less 1.64 of the
        candidate's own standard errors.
    least_active
        Decisions with the offer and without at which a candidate is not 0.
    n_draws, seed
        Of the offers.
    """

    alpha: float = 0.05
    relevance: float = 0.2
    least_active: int = 50
    n_draws: int = 999
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """One step of a search: ``kind`` 'added', 'dropped' or 'refused', with its evidence.

    ``share`` is the candidate's effect per standard deviation over the strongest's, ``share_low``
    its one-sided bound.
    """

    kind: str
    candidate: int
    statistic: float
    p_value: float
    share: float
    share_low: float


@dataclass(frozen=True)
class Found:
    """What a search found: ``selected`` in order of selection, the ``path``, ``tested``, (m,)."""

    selected: tuple[int, ...]
    path: tuple[Step, ...]
    tested: np.ndarray


def search_interactors(
    trial: Trial, candidates: Matrix, *, settings: SearchSettings | None = None
) -> Found:
    """Search forward and backward until nothing changes.

    Forward: the candidate of the largest studentised score given those selected, if its p-value,
    which holds for all candidates together, is at most alpha and it is relevant. Backward: who of
    those selected would not be added to the others is dropped.

    Parameters
    ----------
    trial
        n decisions.
    candidates : shape (n, m)
        Dense or sparse; codes and attributes alike.
    settings
        None takes the defaults.

    Returns
    -------
    Found
        With the whole path.

    Raises
    ------
    SupportError
        If no candidate has enough active decisions.
    """
    settings = settings or SearchSettings()
    tested = count_active(trial, candidates).min(axis=0) >= settings.least_active
    if not tested.any():
        raise SupportError(
            f"no candidate is active in {settings.least_active} decisions with the offer and as "
            "many without: collect more, or lower least_active"
        )
    places = np.flatnonzero(tested)
    kept = candidates[:, places]
    search = _Search(adjust_outcome(trial, kept), kept, settings)
    selected: list[int] = []
    seen: set[frozenset[int]] = set()
    path: list[Step] = []
    for _ in range(_MOST_ROUNDS):
        added = search.find_next(selected)
        path.append(added)
        if added.kind == "added":
            selected.append(added.candidate)
        dropped = search.find_dropped(selected)
        if dropped is not None:
            path.append(dropped)
            selected.remove(dropped.candidate)
        state = frozenset(selected)
        if (added.kind == "refused" and dropped is None) or state in seen:
            break
        seen.add(state)
    return Found(
        tuple(int(places[each]) for each in selected),
        tuple(replace(each, candidate=int(places[each.candidate])) for each in path),
        tested,
    )


def count_active(trial: Trial, candidates: Matrix) -> np.ndarray:
    """Return how many decisions a candidate is not 0 in, (2, m): with the offer and without."""
    is_active = (candidates != 0).astype(float)
    return np.vstack([is_active.T @ trial.offered, is_active.T @ ~trial.offered])


class _Search:
    """A search's data, and what it asks of them."""

    def __init__(self, trial: Trial, candidates: Matrix, settings: SearchSettings) -> None:
        self._trial, self._candidates, self._settings = trial, candidates, settings
        self._n_scored = 0

    def find_next(self, selected: list[int]) -> Step:
        """Return the strongest relevant candidate that is not selected, else why none is added."""
        scores = self._score(selected)
        strength = np.abs(scores.observed)
        strength[selected] = -1
        order = np.argsort(-strength, kind="stable")
        strongest = self._judge(int(order[0]), selected, scores)
        if strongest.kind == "added":
            return strongest
        p_values = scores.find_p_values()
        for each in order[1 : 1 + int((p_values[order[1:]] <= self._settings.alpha).sum())]:
            step = self._judge(int(each), selected, scores)
            if step.kind == "added":
                return step
        return strongest

    def find_dropped(self, selected: list[int]) -> Step | None:
        """Return the least of those selected that would not be added to the others, if any."""
        dropped = []
        for each in selected if len(selected) > 1 else []:
            others = [other for other in selected if other != each]
            step = self._judge(each, others, self._score(others))
            if step.kind == "refused":
                dropped.append(replace(step, kind="dropped"))
        return min(dropped, key=lambda step: step.share, default=None)

    def _score(self, selected: list[int]) -> Scores:
        self._n_scored += 1
        return score_candidates(
            self._trial,
            self._candidates,
            self._take(selected),
            n_draws=self._settings.n_draws,
            seed=1_000 * self._settings.seed + self._n_scored,
        )

    def _judge(self, candidate: int, others: list[int], scores: Scores) -> Step:
        share, low = 1.0, 1.0
        if others:
            sizes, errors = measure_sizes(self._trial, self._take([*others, candidate]))
            strongest = max(float(sizes.max()), 1e-300)
            reach = float(stats.norm.ppf(1 - self._settings.alpha)) * float(errors[-1])
            share, low = float(sizes[-1]) / strongest, (float(sizes[-1]) - reach) / strongest
        p_value = float(scores.find_p_values()[candidate])
        is_added = p_value <= self._settings.alpha and low > self._settings.relevance
        kind = "added" if is_added else "refused"
        return Step(kind, candidate, float(scores.observed[candidate]), p_value, share, low)

    def _take(self, columns: list[int]) -> np.ndarray:
        """Return candidates as a dense matrix, (n, s)."""
        part = self._candidates[:, columns]
        return np.asarray(part.toarray() if isinstance(part, sparse.sparray) else part)


def measure_sizes(trial: Trial, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a standard deviation of each, given the others, moves the effect.

    Parameters
    ----------
    trial
        n decisions.
    selected : shape (n, s)
        Candidates.

    Returns
    -------
    tuple
        Absolute sizes, in the outcome's unit, and their standard errors by cluster: (s,) each.
    """
    found, covariance = fit_by_cluster(
        trial, np.column_stack([np.ones(trial.n_decisions), selected])
    )
    errors = np.sqrt(np.maximum(np.diag(covariance)[1:], 0))
    precision = np.linalg.pinv(np.atleast_2d(np.cov(selected, rowvar=False)))
    spread = 1 / np.sqrt(np.maximum(np.diag(precision), 1e-300))
    return np.abs(found[1:]) * spread, errors * spread
