"""Search: which candidates the effect of an offer depends on, given each other."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse, stats

from ml.core.errors import ContractError, SupportError
from ml.interactors.randomisation import (
    Matrix,
    Scores,
    Trial,
    adjust_outcome,
    fit_by_cluster,
    score_candidates,
)

_MOST_ROUNDS = 40
_TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How a search decides.

    Attributes
    ----------
    alpha
        Probability that anything is selected where the effect is the same for everybody; backward
        steps keep to the same rate.
    relevance
        Between where a candidate is high and where it is low, the others alike, the effect must
        differ by more than this share of its root mean square; 0 selects whatever is significant,
        with enough data every correlate of a driver. A declared threshold on estimated differences,
        less 1.64 of the candidate's own standard errors.
    least_active
        Customers with the offer, and without, for whom a candidate is not 0.
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

    ``share`` is how much the effect differs between where the candidate is high and low, over the
    effect's root mean square, ``share_low`` its one-sided bound.
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
    trial: Trial,
    candidates: Matrix,
    *,
    settings: SearchSettings | None = None,
    progress: Callable[[Step], None] = lambda step: None,
) -> Found:
    """Search forward and backward until nothing changes.

    Forward: the candidate of the largest studentised score given those selected, if its p-value,
    which holds for all candidates together, is at most alpha and it is relevant. Backward: who of
    those selected isn't relevant any more is dropped, the least first, else the weakest if its
    p-value given the others is above alpha.

    Parameters
    ----------
    trial
        n decisions.
    candidates : shape (n, m)
        Dense or sparse; codes and attributes alike.
    settings
        None takes the defaults.
    progress
        Called with every step.

    Returns
    -------
    Found
        With the whole path.

    Raises
    ------
    SupportError
        If no candidate has enough active customers.
    ContractError
        If there are too few draws for any p-value to be as small as alpha.
    """
    settings = settings or SearchSettings()
    if 1 / (1 + settings.n_draws) > settings.alpha:
        raise ContractError(
            f"{settings.n_draws} draws of the offers can't prove anything at a rate of "
            f"{settings.alpha:.3g}: take {int(1 / settings.alpha)} at least"
        )
    tested = count_active(trial, candidates).min(axis=0) >= settings.least_active
    if not tested.any():
        raise SupportError(
            f"no candidate is active for {settings.least_active} customers with the offer and as "
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
        progress(replace(added, candidate=int(places[added.candidate])))
        if added.kind == "added":
            selected.append(added.candidate)
        dropped = search.find_dropped(selected)
        if dropped is not None:
            path.append(dropped)
            progress(replace(dropped, candidate=int(places[dropped.candidate])))
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
    """Return for how many customers a candidate is not 0, (2, m): with the offer and without."""
    is_active = sparse.csr_array((candidates != 0).astype(float))
    n = trial.n_decisions
    counts = []
    for arm in (trial.offered, ~trial.offered):
        where = (arm[arm].astype(float), (trial.cluster[arm], np.flatnonzero(arm)))
        customers = sparse.csr_array(where, shape=(int(trial.cluster[-1]) + 1, n))
        counts.append(np.asarray((customers @ is_active > 0).sum(axis=0)).ravel())
    return np.vstack(counts)


class _Search:
    """A search's data, and what it asks of them."""

    def __init__(self, trial: Trial, candidates: Matrix, settings: SearchSettings) -> None:
        self._trial, self._candidates, self._settings = trial, candidates, settings
        self._swings = measure_swings(candidates)
        self._n_scored = 0

    def find_next(self, selected: list[int]) -> Step:
        """Return the strongest relevant candidate that is not selected, else why none is added."""
        scores = self._score(selected)
        typical = np.hypot(
            measure_typical(self._trial, self._take(selected)), scores.slopes * scores.spreads
        )
        per_unit = self._swings / np.maximum(typical, _TINY)
        share = scores.slopes * per_unit
        low = share - self._reach * scores.errors * per_unit
        p_values = scores.find_p_values()
        is_open = np.ones(len(share), dtype=bool)
        is_open[selected] = False
        passes = is_open & (p_values <= self._settings.alpha) & (low > self._settings.relevance)
        strength = np.where(passes if passes.any() else is_open, np.abs(scores.observed), -1.0)
        chosen = int(strength.argmax())
        return Step(
            "added" if passes[chosen] else "refused",
            chosen,
            float(scores.observed[chosen]),
            float(p_values[chosen]),
            float(share[chosen]),
            float(low[chosen]),
        )

    def find_dropped(self, selected: list[int]) -> Step | None:
        """Return the one of those selected that doesn't hold given the others, if any."""
        if len(selected) < 2:
            return None
        columns = self._take(selected)
        slopes, errors = measure_slopes(self._trial, columns)
        per_unit = self._swings[selected] / max(measure_typical(self._trial, columns), _TINY)
        low = (slopes - self._reach * errors) * per_unit
        is_relevant = bool((low > self._settings.relevance).all())
        place = int((slopes / np.maximum(errors, _TINY) if is_relevant else low).argmin())
        others = [each for each in selected if each != selected[place]]
        scores = self._score(others)
        chosen = selected[place]
        p_value = float(scores.find_p_values()[chosen])
        if is_relevant and p_value <= self._settings.alpha:
            return None
        statistic = float(scores.observed[chosen])
        share = float(slopes[place] * per_unit[place])
        return Step("dropped", chosen, statistic, p_value, share, float(low[place]))

    @property
    def _reach(self) -> float:
        return float(stats.norm.ppf(1 - self._settings.alpha))

    def _score(self, selected: list[int]) -> Scores:
        self._n_scored += 1
        return score_candidates(
            self._trial,
            self._candidates,
            self._take(selected),
            n_draws=self._settings.n_draws,
            seed=1_000 * self._settings.seed + self._n_scored,
        )

    def _take(self, columns: list[int]) -> np.ndarray:
        """Return candidates as a dense matrix, (n, s)."""
        part = self._candidates[:, columns]
        return np.asarray(part.toarray() if isinstance(part, sparse.sparray) else part)


def measure_typical(trial: Trial, selected: np.ndarray) -> float:
    """Return the root mean square of the effect as those selected tell it, less its own noise.

    Parameters
    ----------
    trial
        n decisions.
    selected : shape (n, s)
        Candidates; none leaves the mean effect.

    Returns
    -------
    float
        In the outcome's unit; 0 where noise explains it.
    """
    base = np.column_stack([np.ones(trial.n_decisions), selected])
    found, covariance = fit_by_cluster(trial, base)
    moments = base.T @ base / trial.n_decisions
    return float(np.sqrt(max(0.0, found @ moments @ found - float((moments * covariance).sum()))))


def measure_slopes(trial: Trial, selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a unit of each, given the others, moves the effect.

    Parameters
    ----------
    trial
        n decisions.
    selected : shape (n, s)
        Candidates.

    Returns
    -------
    tuple
        Absolute slopes, in the outcome's unit, and their standard errors by cluster: (s,) each.
    """
    base = np.column_stack([np.ones(trial.n_decisions), selected])
    found, covariance = fit_by_cluster(trial, base)
    return np.abs(found[1:]), np.sqrt(np.maximum(np.diag(covariance)[1:], 0))


def measure_swings(candidates: Matrix) -> np.ndarray:
    """Return each one's mean where it is above its mean less that where it isn't, shape (m,).

    1 for zeros and ones, 1.6 standard deviations where it is normal, 0 where it is constant.
    """
    columns = sparse.csc_array(candidates)
    n = columns.shape[0]
    total = np.asarray(columns.sum(axis=0)).ravel()
    mean = total / n
    counts = np.diff(columns.indptr)
    is_high = columns.data > np.repeat(mean, counts)
    column = np.repeat(np.arange(len(mean)), counts)
    n_high = np.bincount(column, is_high, len(mean)) + np.where(mean < 0, n - counts, 0)
    high = np.bincount(column, columns.data * is_high, len(mean))
    swing = high / np.maximum(n_high, 1) - (total - high) / np.maximum(n - n_high, 1)
    return np.asarray(np.where(n_high > 0, swing, 0.0))
