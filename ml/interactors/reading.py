"""Reading what a search found: effects where it selected nothing, stability, what is left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy import stats

from ml.core.errors import SupportError
from ml.interactors.randomisation import Matrix, Trial, fit_by_cluster, take_off
from ml.interactors.search import SearchSettings, search_interactors

GROUPS = {
    "name": pl.String,
    "n_offered": pl.Int64,
    "n_left": pl.Int64,
    "effect_active": pl.Float64,
    "active_low": pl.Float64,
    "active_high": pl.Float64,
    "effect_inactive": pl.Float64,
    "inactive_low": pl.Float64,
    "inactive_high": pl.Float64,
    "difference": pl.Float64,
    "difference_low": pl.Float64,
    "difference_high": pl.Float64,
}
LEAST_CLUSTERS = 100
_MOST_LEFT = 0.5
_LEVEL = 0.05


def split_clusters(trial: Trial, *, share: float, seed: int) -> np.ndarray:
    """Return which decisions belong to a random share of the clusters, shape (n,), bool."""
    chosen = np.random.default_rng([seed, 33]).random(trial.cluster[-1] + 1) < share
    return np.asarray(chosen[trial.cluster])


def measure_groups(trial: Trial, active: np.ndarray, names: Sequence[str]) -> pl.DataFrame:
    """Measure effects where each interactor is active and where it isn't.

    Parameters
    ----------
    trial
        Decisions that took no part in the search: what was selected for its effect looks larger
        where it was selected.
    active : shape (n, s), bool
        Codes above 0, attributes above a cut.
    names : s names
        Of the interactors.

    Returns
    -------
    pl.DataFrame
        ``GROUPS``: effects per decision in the outcome's unit with 95 % intervals by cluster, and
        how many decisions with the offer and without are active. No effects where a group has fewer
        than ``LEAST_CLUSTERS`` customers with the offer or without: intervals would be too narrow.
    """
    rows = []
    for column, name in enumerate(names):
        is_active = active[:, column]
        both = np.column_stack([is_active, ~is_active]).astype(float)
        found, covariance = fit_by_cluster(trial, both)
        contrasts = {"effect_active": (1, 0), "effect_inactive": (0, 1), "difference": (1, -1)}
        row: dict[str, object] = {
            "name": name,
            "n_offered": int((is_active & trial.offered).sum()),
            "n_left": int((is_active & ~trial.offered).sum()),
        }
        fewest = min(
            len(np.unique(trial.cluster[group & arm]))
            for group in (is_active, ~is_active)
            for arm in (trial.offered, ~trial.offered)
        )
        if fewest < LEAST_CLUSTERS:
            rows.append(row)
            continue
        for label, weights in contrasts.items():
            contrast = np.array(weights, dtype=float)
            value = float(contrast @ found)
            reach = float(stats.norm.ppf(0.975) * np.sqrt(contrast @ covariance @ contrast))
            bound = label.removeprefix("effect_")
            row |= {label: value, f"{bound}_low": value - reach, f"{bound}_high": value + reach}
        rows.append(row)
    return pl.DataFrame(rows, schema=GROUPS)


def measure_stability(
    trial: Trial,
    candidates: Matrix,
    *,
    settings: SearchSettings,
    n_halves: int = 50,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Return in which share of half-samples of the clusters each candidate is selected, (m,).

    Meinshausen and Bühlmann (2010). A half in which nothing has support selects nothing.
    """
    times = np.zeros(candidates.shape[1])
    for half in range(n_halves):
        rows = split_clusters(trial, share=0.5, seed=settings.seed + half)
        own = replace(settings, seed=settings.seed + half)
        try:
            found = search_interactors(trial.take(rows), candidates[rows], settings=own)
        except SupportError:
            continue
        finally:
            progress(half + 1)
        times[list(found.selected)] += 1
    return times / n_halves


@dataclass(frozen=True)
class Residual:
    """What of the effect's differences between customers the selected ones leave.

    ``spread`` is their standard deviation, in the outcome's unit, 0 where they covary negatively,
    ``spread_high`` its one-sided 95 % bound; ``p_value`` that there are none; ``n_pairs`` of
    decisions about the same customer tell.
    """

    spread: float
    spread_high: float
    p_value: float
    n_pairs: int

    @property
    def is_proven(self) -> bool:
        """Whether chance alone doesn't explain it."""
        return self.p_value <= _LEVEL


def find_residual(
    trial: Trial, selected: np.ndarray, *, n_draws: int = 999, seed: int = 0
) -> Residual:
    """Test whether customers' effects differ by more than the selected candidates say.

    A customer whose effect is larger than was said shows it at every decision: the products of the
    scores (A - e) r / (e (1 - e)) of two decisions about the same customer average to the variance
    of what is left. Offers drawn again say what chance does; one-sided.

    Parameters
    ----------
    trial
        n decisions.
    selected : shape (n, s)
        What the effect is known to depend on.
    n_draws, seed
        Of the offers.

    Returns
    -------
    Residual
        Of effects that last from decision to decision.

    Raises
    ------
    SupportError
        If no customer has two decisions: then nothing tells.
    """
    sizes = np.bincount(trial.cluster)
    n_pairs = int((sizes * (sizes - 1)).sum() // 2)
    if n_pairs == 0:
        raise SupportError(
            "no customer has two decisions: what is left of the effect can't be told from noise"
        )
    rest = take_off(trial, selected)
    weight = rest / (trial.propensity * (1 - trial.propensity))
    starts = trial.starts

    def sum_pairs(chance: np.ndarray) -> np.ndarray:
        scores = chance * weight[:, None]
        return (np.add.reduceat(scores, starts) ** 2).sum(axis=0) - (scores**2).sum(axis=0)

    observed = float(sum_pairs(trial.chance[:, None])[0])
    random = np.random.default_rng([seed, 34])
    by_chance = np.concatenate([sum_pairs(each) for each in trial.draw_again(n_draws, random)])
    above = int((by_chance >= observed).sum())
    own = trial.chance * weight
    by_customer = np.add.reduceat(own, starts) ** 2 - np.add.reduceat(own**2, starts)
    # Where effects differ, pairs differ by more than chance.
    spread_of_sum = max(float(by_chance.std()), float(np.sqrt(len(starts)) * by_customer.std()))
    reach = float(stats.norm.ppf(1 - _LEVEL)) * spread_of_sum
    spread, high = (
        float(np.sqrt(max(0.0, each / (2 * n_pairs)))) for each in (observed, observed + reach)
    )
    return Residual(spread, high, (1 + above) / (1 + n_draws), n_pairs)


def choose_words(
    *, is_randomised: bool, is_sufficient: bool, residual: Residual | None, explained: float
) -> str:
    """Return what an interactor may be called.

    Parameters
    ----------
    is_randomised
        Whether the offers were drawn with known propensities.
    is_sufficient
        Whether whoever ran the search declares that candidates measure all that modifies the
        effect, without error.
    residual
        What is left of the effect's differences, None where that can't be told.
    explained
        Standard deviation of the effect that the selected ones make.

    Returns
    -------
    str
        'direct effect modifier' only under both declarations, where nothing is found to be left and
        what may be is surely below half of what is explained; 'subgroup effect' under
        randomisation, which doesn't make the modifier a cause; 'predictive modifier' else.
    """
    if not is_randomised:
        return "predictive modifier"
    is_complete = (
        residual is not None
        and not residual.is_proven
        and residual.spread_high < _MOST_LEFT * explained
    )
    return "direct effect modifier" if is_sufficient and is_complete else "subgroup effect"
