"""How well searches recover two planted drivers among candidates that all know of them."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from econml.grf import CausalForest

from benchmarks.studies.tokens_to_policy.published_world import make_leaky
from ml.interactors.published import regress_candidates, search_as_published
from ml.interactors.randomisation import Trial
from ml.interactors.search import SearchSettings, search_interactors

SIZES = (1_000, 5_000, 10_000)
DRIVERS = {0, 1}
_ALPHA = 0.05
PER_BATCH = 5
_BATCHES_WITHOUT_RELEVANCE, _FOREST_BATCHES, _FOREST_SIZE = 2, 1, 5_000
"""A forest on 5,000 decisions takes a minute, twenty times a search: some batches."""


def run_power(
    batch: int, n: int, *, m: int = 500, is_older: bool = False, n_seeds: int = PER_BATCH
) -> pl.DataFrame:
    """Search some trials by every way.

    Parameters
    ----------
    batch
        Seeds are ``n_seeds`` x batch and on.
    n, m
        Decisions; candidates.
    is_older
        Of the two published simulations.
    n_seeds
        Trials.

    Returns
    -------
    pl.DataFrame
        world, n, seed, way, and intersection over union, precision, recall, and how many.
    """
    seeds = range(n_seeds * batch, n_seeds * (batch + 1))
    return pl.concat([_search_one(seed, n, m, is_older, batch) for seed in seeds])


def _search_one(seed: int, n: int, m: int, is_older: bool, batch: int) -> pl.DataFrame:
    """Search one trial by every way, where asked for by those too that take longest."""
    trial, candidates = make_leaky(seed, n=n, m=m, is_older=is_older)
    relevant = search_interactors(trial, candidates, settings=SearchSettings(seed=seed))
    _, p_value = regress_candidates(trial, candidates, [])
    found: dict[str, Iterable[int]] = {
        "ours": relevant.selected,
        "published": search_as_published(trial, candidates),
        "published, no gate": search_as_published(trial, candidates, gate=0.0),
        "marginal, Bonferroni": np.flatnonzero(p_value <= _ALPHA / m).tolist(),
        "marginal, BH": _select_by_rate(p_value),
    }
    if batch < _BATCHES_WITHOUT_RELEVANCE:
        anything = SearchSettings(seed=seed, relevance=0.0)
        found["ours, relevance 0"] = search_interactors(
            trial, candidates, settings=anything
        ).selected
    if batch < _FOREST_BATCHES and n <= _FOREST_SIZE:
        found["causal forest, first two"] = _rank_by_forest(trial, candidates, seed)
    rows = []
    for way, each in found.items():
        chosen = set(each)
        both = len(chosen & DRIVERS)
        rows.append(
            {
                "world": "older" if is_older else "newer",
                "n": n,
                "seed": seed,
                "way": way,
                "iou": both / len(chosen | DRIVERS),
                "precision": both / len(chosen) if chosen else 1.0,
                "recall": both / len(DRIVERS),
                "size": len(chosen),
            }
        )
    return pl.DataFrame(rows)


def _select_by_rate(p_value: np.ndarray) -> list[int]:
    """Return candidates at a false discovery rate (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_value)
    passing = np.flatnonzero(p_value[order] <= _ALPHA * np.arange(1, len(order) + 1) / len(order))
    return [] if not passing.size else order[: passing[-1] + 1].tolist()


def _rank_by_forest(trial: Trial, candidates: np.ndarray, seed: int) -> list[int]:
    """Return the two candidates that a causal forest splits by most, told that there are two."""
    forest = CausalForest(n_estimators=100, max_depth=6, random_state=seed, n_jobs=1)
    forest.fit(candidates, trial.offered.astype(float), trial.outcome)
    return np.argsort(-forest.feature_importances_)[: len(DRIVERS)].tolist()


def report_power(lived: pl.DataFrame) -> dict[str, float]:
    """Print how much each way recovers; return the line's figures."""
    figures = {}
    for (world, n), own in lived.group_by("world", "n", maintain_order=True):
        n_seeds = own["seed"].n_unique()
        print(f"\n{world} simulation, n = {n:,}, {n_seeds} seeds")
        print(f"  {'':<26}{'IoU':>8}{'precision':>11}{'recall':>8}{'selected':>10}{'seeds':>8}")
        for (way,), each in own.group_by("way", maintain_order=True):
            iou, precision, recall, size = (
                float(each[name].to_numpy().mean())
                for name in ("iou", "precision", "recall", "size")
            )
            print(
                f"  {way:<26}{iou:>8.3f}{precision:>11.3f}{recall:>8.3f}{size:>10.1f}"
                f"{each.height:>8}"
            )
            if world == "newer" and way in ("ours", "published"):
                figures[f"iou_{n}" + ("" if way == "ours" else "_published")] = iou
    return figures
