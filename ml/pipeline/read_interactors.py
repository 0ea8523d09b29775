"""Learn: what is said of interactors, by customers who took no part in finding them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.core.schemas import Interactors
from ml.interactors.policy_tree import (
    LEAST_CUSTOMERS,
    OptionScores,
    PolicyTree,
    TreeSettings,
    grow_tree,
)
from ml.interactors.randomisation import Trial, fit_by_cluster
from ml.interactors.reading import (
    GROUPS,
    Residual,
    choose_words,
    find_residual,
    measure_groups,
    measure_stability,
)
from ml.interactors.search import Found
from ml.pipeline.candidates import (
    Candidates,
)
from ml.pipeline.find_interactors import (
    MEASURING,
    SEARCHED,
    Findings,
    InteractorSettings,
    make_trial,
    score_options,
)
from ml.pipeline.groups import split_by_attribute

_LEAVES_PER_LOG, _FEWEST_IN_LEAF = 150, 500


@dataclass(frozen=True)
class Reading:
    """What a search's findings mean.

    Attributes
    ----------
    interactors
        ``Interactors`` rows.
    protected
        ``GROUPS`` with attribute: effects on ``outcome`` by group of each protected attribute.
    residuals
        By outcome, what its interactors leave of the differences between customers' effects; None
        where no customer has two decisions.
    words
        By outcome, what an interactor may be called.
    tree, leaves
        The policy tree and its leaves' effects; None where nothing was selected.
    outcome
        Whose effects are read where one must do: the first searched.
    """

    interactors: pl.DataFrame
    protected: pl.DataFrame
    residuals: dict[str, Residual | None]
    words: dict[str, str]
    tree: PolicyTree | None
    leaves: pl.DataFrame | None
    outcome: str


def read_interactors(
    logged: LoggedDecisions,
    candidates: Candidates,
    findings: Findings,
    roles: np.ndarray,
    offers: np.ndarray,
    *,
    actions: ActionSet,
    programme: Programme,
    settings: InteractorSettings,
    is_randomised: bool = True,
    is_sufficient: bool = False,
    n_halves: int = 0,
    progress: Callable[[str], None] = lambda message: None,
) -> Reading:
    """Measure interactors on the customers kept for it, and grow a tree that asks of them.

    Parameters
    ----------
    logged
        n decisions.
    candidates
        Of the same decisions.
    findings
        Of the searched ones.
    roles : shape (n,), int
        What each decision's customer is for.
    offers : shape (K,), bool
        Which actions count as the offer.
    actions, programme
        For the tree, and what is protected.
    settings
        Of the search: halves are searched alike.
    is_randomised
        Whether the propensities are those that the offers were drawn with, not fitted ones.
    is_sufficient
        Whether whoever asks declares that the candidates measure all that modifies the effect.
    n_halves
        Half-samples of the searched customers for the stability of the first outcome's search; 0
        leaves it out.
    progress
        Called with a line per step.

    Returns
    -------
    Reading
        Active is above the median, or above the least where that is the median or a bound: codes
        that most histories lack, above 0.
    """
    selected = list(findings.selected)
    outcome = next(iter(findings.by_outcome))
    stability = np.full(len(candidates.names), np.nan)
    if n_halves and selected:
        trial, rows = make_trial(logged.take(roles == SEARCHED), outcome, offers)
        stability = measure_stability(
            trial,
            candidates.take(roles == SEARCHED).matrix[rows],
            settings=replace(
                settings.search, alpha=settings.search.alpha / len(findings.by_outcome)
            ),
            n_halves=n_halves,
            progress=lambda done: progress(f"half-sample {done} of {n_halves}"),
        )
    measuring = np.flatnonzero(roles == MEASURING)
    own = candidates.matrix[measuring][:, selected].toarray()
    names, active = _cut(candidates, selected, own)
    groups = []
    residuals: dict[str, Residual | None] = {}
    words: dict[str, str] = {}
    for each, found in findings.by_outcome.items():
        trial, rows = make_trial(logged.take(measuring), each, offers)
        measured = measure_groups(trial, active[rows], names)
        mine = own[rows][:, [place for place, one in enumerate(selected) if one in found.selected]]
        residuals[each], explained = _find_rest(trial, mine, settings)
        words[each] = choose_words(
            is_randomised=is_randomised,
            is_sufficient=is_sufficient,
            residual=residuals[each],
            explained=explained,
        )
        known = stability if each == outcome else np.full(len(stability), np.nan)
        groups.append(
            _describe(each, found, candidates, selected, measured, known).with_columns(
                pl.lit(words[each]).alias("words")
            )
        )
    progress("effects were measured on customers who took no part in the search")
    tree, leaves = None, None
    if selected:
        scores, rows = score_options(logged, candidates, actions)
        is_growing = roles[rows] != MEASURING
        tree, leaves = grow_tree(
            scores,
            candidates.matrix[rows][:, selected].toarray(),
            tuple(candidates.names[each] for each in selected),
            is_growing=is_growing,
            is_log=candidates.is_log[selected],
            settings=TreeSettings(least_decisions=size_leaves(scores, is_growing)),
        )
    return Reading(
        Interactors.validate(pl.concat(groups).select(Interactors.create_empty().columns)),
        _measure_protected(logged.take(measuring), outcome, offers, programme),
        residuals,
        words,
        tree,
        leaves,
        outcome,
    )


def size_leaves(scores: OptionScores, is_growing: np.ndarray) -> int:
    """Return the least decisions of a leaf among those that grow a tree.

    Those that measure must tell of the usual offer in a leaf: twice as many as an effect needs.

    Parameters
    ----------
    scores
        n decisions.
    is_growing : shape (n,), bool
        Decisions that choose the questions; the others measure.
    """
    usual = float(np.median(scores.propensity[:, 1:].mean(axis=0)))
    per_measured = is_growing.sum() / max((~is_growing).sum(), 1)
    n, told = len(is_growing), 2 * LEAST_CUSTOMERS / max(usual, 1e-9) * per_measured
    return max(_FEWEST_IN_LEAF, n // _LEAVES_PER_LOG, round(min(told, n)))


def _cut(
    candidates: Candidates, selected: list[int], values: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Return what being active is called, and who is, shape (n, s), bool."""
    cuts = np.median(values, axis=0) if len(values) else np.zeros(len(selected))
    # Where most are 0, and of what knows two values alone: above the lower one.
    cuts = np.where(cuts >= values.max(axis=0, initial=0.0), values.min(axis=0, initial=0.0), cuts)
    names = []
    for each, cut in zip(selected, cuts, strict=True):
        at = np.expm1(cut) if candidates.is_log[each] else cut
        names.append(candidates.names[each] + (f" > {at:.3g}" if at else ""))
    return names, values > cuts


def _describe(
    outcome: str,
    found: Found,
    candidates: Candidates,
    selected: list[int],
    measured: pl.DataFrame,
    stability: np.ndarray,
) -> pl.DataFrame:
    """Return rows of an outcome's search, beside what was measured."""
    last = {step.candidate: step for step in found.path if step.kind != "refused"}
    known = [last.get(each) for each in selected]
    return measured.select(
        pl.lit(outcome).alias("outcome"),
        pl.Series("candidate", [candidates.names[each] for each in selected], dtype=pl.String),
        pl.Series(
            "members", ["; ".join(candidates.members[each]) for each in selected], dtype=pl.String
        ),
        pl.Series("is_selected", [each in found.selected for each in selected], dtype=pl.Boolean),
        pl.Series("p_value", [s and s.p_value for s in known], dtype=pl.Float64),
        pl.Series("share", [s and s.share for s in known], dtype=pl.Float64),
        pl.Series("share_low", [s and s.share_low for s in known], dtype=pl.Float64),
        pl.Series("stability", stability[selected], dtype=pl.Float64).fill_nan(None),
        *GROUPS,
    )


def _find_rest(
    trial: Trial, selected: np.ndarray, settings: InteractorSettings
) -> tuple[Residual | None, float]:
    """Return what is left of the effect's differences, and the spread that was explained."""
    base = np.column_stack([np.ones(trial.n_decisions), selected])
    effects, covariance = fit_by_cluster(trial, base)
    moments = np.cov(base, rowvar=False, bias=True).reshape(covariance.shape)
    noise = float((moments * covariance).sum())
    explained = float(np.sqrt(max(0.0, effects @ moments @ effects - noise)))
    try:
        return find_residual(trial, selected, n_draws=settings.search.n_draws), explained
    except SupportError:
        return None, explained


def _measure_protected(
    logged: LoggedDecisions, outcome: str, offers: np.ndarray, programme: Programme
) -> pl.DataFrame:
    """Return effects by group of each protected attribute: ``GROUPS`` with attribute."""
    trial, rows = make_trial(logged, outcome, offers)
    tables = [
        measure_groups(trial, members[rows][:, None], [group]).select(
            pl.lit(each.name).alias("attribute"), *GROUPS
        )
        for each in programme.attributes
        if each.is_protected
        for group, members in split_by_attribute(logged.contexts.frame, each)
    ]
    empty = pl.DataFrame(schema={"attribute": pl.String, **GROUPS})
    return pl.concat([empty, *tables])
