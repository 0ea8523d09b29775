"""Search: which candidates the effect of an offer depends on, given each other."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from ml.core.errors import SupportError
from ml.interactors.randomisation import Matrix, Trial, score_candidates

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
        every correlate of a driver.
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
    search = _Search(trial, candidates[:, places], settings)
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
        tuple(Step(**{**vars(each), "candidate": int(places[each.candidate])}) for each in path),
        tested,
    )


def count_active(trial: Trial, candidates: Matrix) -> np.ndarray:
    """Return how many decisions a candidate is not 0 in, (2, m): with the offer and without."""
    is_active = (candidates != 0).astype(float)
    return np.vstack([is_active.T @ trial.offered, is_active.T @ ~trial.offered])


class _Search:
    def __init__(self, trial: Trial, candidates: Matrix, settings: SearchSettings) -> None:
        self.trial, self.settings = trial, settings
        self.candidates = candidates
        self._round = 0

    def take(self, columns: list[int]) -> np.ndarray:
        """Return candidates as a dense matrix, (n, s)."""
        part = self.candidates[:, columns]
        return part.toarray() if sparse.issparse(part) else np.asarray(part)

    def find_next(self, selected: list[int]) -> Step:
        """Return the strongest candidate that is not selected: added or refused."""
        scores = self._score(selected)
        observed = np.abs(scores.observed)
        observed[selected] = -1
        best = int(observed.argmax())
        return self._judge(best, selected, scores.observed[best], scores.find_p_values()[best])

    def find_dropped(self, selected: list[int]) -> Step | None:
        """Return the first selected one that would not be added to the others, None if none."""
        weakest: Step | None = None
        for each in selected if len(selected) > 1 else []:
            others = [other for other in selected if other != each]
            scores = self._score(others)
            step = self._judge(each, others, scores.observed[each], scores.find_p_values()[each])
            if step.kind == "refused" and (weakest is None or step.share < weakest.share):
                weakest = step
        return None if weakest is None else Step(**{**vars(weakest), "kind": "dropped"})

    def _score(self, selected: list[int]):
        self._round += 1
        return score_candidates(
            self.trial,
            self.candidates,
            self.take(selected),
            n_draws=self.settings.n_draws,
            seed=self.settings.seed + self._round,
        )

    def _judge(self, candidate: int, others: list[int], statistic: float, p_value: float) -> Step:
        share, low = self._measure_share(candidate, others)
        is_added = p_value <= self.settings.alpha and low > self.settings.relevance
        kind = "added" if is_added else "refused"
        return Step(kind, candidate, float(statistic), float(p_value), share, low)

    def _measure_share(self, candidate: int, others: list[int]) -> tuple[float, float]:
        """Return the candidate's effect over the strongest's, per sd given the others; its bound."""
        size, error = measure_sizes(self.trial, self.take([*others, candidate]))
        strongest = size.max()
        if not others or strongest == 0:
            return 1.0, 1.0
        share = float(size[-1] / strongest)
        reach = float(stats.norm.ppf(1 - self.settings.alpha)) * error[-1] / strongest
        return share, share - reach


def measure_sizes(trial: Trial, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a standard deviation of each moves the effect given the others, (s,) each.

    Absolute effects and their standard errors (HC1), currency or share per decision.
    """
    n = trial.n_decisions
    base = np.column_stack([np.ones(n), selected])
    chance = (trial.offered - trial.propensity)[:, None]
    design = np.hstack([base, chance * base])
    inverse = np.linalg.pinv(design.T @ design)
    found = inverse @ (design.T @ trial.outcome)
    rest = trial.outcome - design @ found
    meat = (design * rest[:, None] ** 2).T @ design
    covariance = inverse @ meat @ inverse * n / (n - design.shape[1])
    k = base.shape[1]
    error = np.sqrt(np.maximum(np.diag(covariance)[k + 1 :], 0))
    precision = np.linalg.pinv(np.cov(selected, rowvar=False).reshape(k - 1, k - 1))
    spread = 1 / np.sqrt(np.maximum(np.diag(precision), 1e-300))
    return np.abs(found[k + 1 :]) * spread, error * spread
