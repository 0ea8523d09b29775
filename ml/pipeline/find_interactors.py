"""Learn: what the effect of offers depends on, among candidates of any kind.

A library's parts put together: customers split in three (who teaches codes, who is searched, who
measures what was found), candidates of all kinds side by side, one search per outcome.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.hashing import hash_uniform
from ml.core.logged import LoggedDecisions
from ml.interactors.codes import CodeSettings
from ml.interactors.policy_tree import OptionScores
from ml.interactors.randomisation import Trial, adjust_outcome
from ml.interactors.search import Found, SearchSettings, Step, search_interactors
from ml.pipeline.candidates import Candidates

OUTCOMES = ("visits", "purchase", "value")
"""In the order of their noise: visits and whether there was a purchase, then the margin."""
TEACHING, SEARCHED, MEASURING = range(3)
"""What a customer is for."""


@dataclass(frozen=True, kw_only=True)
class InteractorSettings:
    """How interactors are looked for.

    Attributes
    ----------
    teaching, measuring
        Shares of the customers who teach codes and who measure what was found; the others are
        searched.
    n_coders
        Trainings of the codes: features that recur in most are kept.
    codes
        Of each training.
    search
        Its rate is shared by the outcomes.
    """

    teaching: float = 0.15
    measuring: float = 0.25
    n_coders: int = 5
    codes: CodeSettings = field(
        default_factory=lambda: CodeSettings(
            n_features=160, n_active=24, n_steps=4_000, learning_rate=3e-3
        )
    )
    search: SearchSettings = field(default_factory=lambda: SearchSettings(n_draws=199))


@dataclass(frozen=True)
class Findings:
    """What the searches found: by outcome, and ``selected``, in order, of any of them.

    ``n_searched``: decisions between the offer and none.
    """

    by_outcome: dict[str, Found]
    selected: tuple[int, ...]
    n_searched: int


def split_roles(customer_id: pl.Series, settings: InteractorSettings) -> np.ndarray:
    """Return what each row's customer is for, shape (n,), int.

    Parameters
    ----------
    customer_id
        n rows.
    settings
        Shares.
    """
    place = hash_uniform(customer_id, salt="interactors")
    return np.select(
        [place < settings.teaching, place < settings.teaching + settings.measuring],
        [TEACHING, MEASURING],
        default=SEARCHED,
    )


def choose_options(actions: ActionSet) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the kinds of offers, by family and face value, no offer first, and whose each is.

    Returns
    -------
    tuple
        G names, and each action's kind, shape (K,), int.
    """
    kinds = [
        "no offer" if index == 0 else f"{family} {value:g}" if value else family
        for index, (family, value) in enumerate(
            zip(actions.families, actions.face_values, strict=True)
        )
    ]
    names = tuple(dict.fromkeys(kinds))
    return names, np.array([names.index(each) for each in kinds])


def make_trial(
    logged: LoggedDecisions, outcome: str, offers: np.ndarray
) -> tuple[Trial, np.ndarray]:
    """Return the decisions between one of some offers and none, customer by customer.

    Where the log's mix of the offers depends on the customer, differences between offers would
    look like differences of one offer's effect. So the mix is made the same for all who can get the
    same offers: decisions with an offer that was drawn too often are left out at random,
    by the known propensities, and the propensity of the offer is that of what is left.

    Parameters
    ----------
    logged
        n decisions with every action's propensity.
    outcome
        One of ``OUTCOMES``.
    offers : shape (K,), bool
        Which actions count as the offer.

    Returns
    -------
    tuple
        The trial of m decisions, and which they are, shape (m,), int: in order of customers.

    Raises
    ------
    SupportError
        If no decision left chance between them.
    """
    if not offers.any():
        raise SupportError("no action counts as the offer: nothing to compare")
    chance = np.nan_to_num(logged.logging_policy)
    each, none = chance[:, offers], chance[:, 0]
    wanted = each.sum(axis=0) * (each > 0)
    wanted /= np.maximum(wanted.sum(axis=1, keepdims=True), 1e-300)
    ratio = np.divide(each, wanted, out=np.full(each.shape, np.inf), where=wanted > 0)
    # The most that every offer can be kept at: the rarest is kept whole.
    least = ratio.min(axis=1)
    kept = np.where(np.isfinite(least), least, 0.0)
    offered = offers[logged.action]
    column = np.where(offered, (np.cumsum(offers) - 1)[logged.action], 0)
    own = ratio[np.arange(len(column)), column]
    luck = np.random.default_rng(35).random(len(column))
    is_kept = np.where(offered, luck * own < kept, logged.action == 0)
    rows = np.flatnonzero(is_kept & (kept > 0) & (none > 0))
    if not len(rows):
        raise SupportError("no decision left chance between an offer and none: nothing tells")
    rows = rows[np.argsort(logged.customer[rows], kind="stable")]
    return Trial(
        read_outcome(logged, outcome)[rows],
        offered[rows],
        (kept / np.where(kept + none > 0, kept + none, 1))[rows],
        np.unique(logged.customer[rows], return_inverse=True)[1],
    ), rows


def read_outcome(logged: LoggedDecisions, outcome: str) -> np.ndarray:
    """Return one of ``OUTCOMES``, shape (n,)."""
    if outcome == "value":
        return logged.value
    frame = logged.contexts.frame
    found = frame["visits"] if outcome == "visits" else frame["spend"] > 0
    return found.cast(pl.Float64).to_numpy()


def find_interactors(
    logged: LoggedDecisions,
    candidates: Candidates,
    offers: np.ndarray,
    *,
    settings: InteractorSettings,
    outcomes: Sequence[str] = OUTCOMES,
    progress: Callable[[str], None] = lambda message: None,
) -> Findings:
    """Search what an offer's effects on each outcome depend on.

    Parameters
    ----------
    logged
        Decisions about searched customers.
    candidates
        Of the same decisions.
    offers : shape (K,), bool
        Which actions count as the offer.
    settings
        The error rate is shared: that anything is found where nothing is holds for all outcomes.
    outcomes
        In order.
    progress
        Called with a line per step.

    Returns
    -------
    Findings
        Indices into the candidates.
    """
    own = replace(settings.search, alpha=settings.search.alpha / len(outcomes))
    found: dict[str, Found] = {}
    n_searched = 0
    for outcome in outcomes:
        trial, rows = make_trial(logged, outcome, offers)
        n_searched = trial.n_decisions

        def report(step: Step, outcome: str = outcome) -> None:
            progress(
                f"{outcome}: {step.kind} {candidates.names[step.candidate]} "
                f"(p {step.p_value:.3f}, {step.share:.2f} of the effect)"
            )

        found[outcome] = search_interactors(
            trial, candidates.matrix[rows], settings=own, progress=report
        )
    selected = dict.fromkeys(each for one in found.values() for each in one.selected)
    return Findings(found, tuple(selected), n_searched)


def score_options(
    logged: LoggedDecisions, candidates: Candidates, actions: ActionSet
) -> tuple[OptionScores, np.ndarray]:
    """Return what decisions say of every kind of offer, less what was to be expected anyway.

    Returns
    -------
    tuple
        Scores of m decisions with every action's propensity, and which they are, shape (m,), int.
    """
    names, kind = choose_options(actions)
    rows = np.flatnonzero(logged.has_vector & (np.nan_to_num(logged.logging_policy)[:, 0] > 0))
    rows = rows[np.argsort(logged.customer[rows], kind="stable")]
    policy = logged.logging_policy[rows]
    propensity = np.column_stack(
        [policy[:, kind == each].sum(axis=1) for each in range(len(names))]
    )
    cluster = np.unique(logged.customer[rows], return_inverse=True)[1]
    # Only outcomes and clusters are looked at.
    bare = Trial(
        logged.value[rows],
        logged.action[rows] > 0,
        np.clip(1 - propensity[:, 0], 1e-9, 1 - 1e-9),
        cluster,
    )
    value = adjust_outcome(bare, candidates.matrix[rows]).outcome
    return OptionScores(
        names, kind[logged.action[rows]], propensity, value, logged.cost[rows], cluster
    ), rows
