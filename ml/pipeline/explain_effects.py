"""Learn: what drives offers' effects, from histories' tokens to what may be said of them.

Tokens -> encoder -> codes (teaching customers) -> search, beside attributes (searched customers) ->
effects, residual, policy tree (measuring customers).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import ContractError, SupportError
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.interactors.encoders import BagEncoder, Encoder
from ml.interactors.histories import Histories, find_newest, learn_vocabulary, read_histories
from ml.pipeline.candidates import (
    Candidates,
    Codes,
    join_candidates,
    learn_codes,
    list_attributes,
    write_codes,
)
from ml.pipeline.find_interactors import (
    SEARCHED,
    TEACHING,
    Findings,
    InteractorSettings,
    find_interactors,
    split_roles,
)
from ml.pipeline.read_interactors import Reading, read_interactors

_EXAMPLES = 3


@dataclass(frozen=True)
class Taught:
    """What teaching customers taught, and their newest ``histories``, whose codes are examples."""

    vocabulary: tuple[str, ...]
    codes: Codes
    histories: Histories
    examples: Candidates


@dataclass(frozen=True)
class Explained:
    """What was looked at, found, and what it means.

    ``n_searched`` decisions between the offer and none; ``taught`` is None where no codes could be
    learned, ``why_not`` says why; ``examples``: name, history.
    """

    n_searched: int
    taught: Taught | None
    why_not: str
    candidates: Candidates
    findings: Findings
    reading: Reading
    examples: pl.DataFrame


def explain_effects(
    logged: LoggedDecisions,
    tokens: pl.DataFrame,
    outside: pl.DataFrame,
    *,
    family: str,
    actions: ActionSet,
    programme: Programme,
    settings: InteractorSettings,
    encoder: Encoder | None = None,
    is_randomised: bool = True,
    is_sufficient: bool = False,
    n_halves: int = 0,
    progress: Callable[[str], None] = lambda message: None,
) -> Explained:
    """Find what an offer's effects depend on, and measure it.

    Parameters
    ----------
    logged
        n decisions with every action's propensity.
    tokens
        customer_id, kind, item, available_at; too few leave attributes alone.
    outside
        customer_id, decided_at of customers whom no offer is drawn for: they teach codes too.
    family
        Offers that count as the offer; empty: all.
    actions, programme
        The action set; what is protected.
    settings
        Shares of customers, codes, search.
    encoder
        Of histories; None: which tokens they hold.
    is_randomised, is_sufficient, n_halves
        As of ``read_interactors``.
    progress
        Called with a line per step.

    Returns
    -------
    Explained
        With the search's whole path.

    Raises
    ------
    ContractError
        If no action is of the family.
    SupportError
        If no decision left chance between an offer and none, or no candidate has support.
    """
    offers = actions.select(actions=(), channels=(), families=(family,) if family else ())
    if not offers.any():
        known = ", ".join(dict.fromkeys(actions.families[1:]))
        raise ContractError(f"no offer is of the family '{family}': there are {known}")
    encoder = encoder or BagEncoder()
    frame = logged.contexts.frame
    roles = split_roles(frame["customer_id"], settings)
    attributes = list_attributes(logged.contexts)
    taught = pl.concat(
        [
            frame.filter(pl.Series(roles == TEACHING)).select("customer_id", "decided_at"),
            outside.select("customer_id", pl.col("decided_at").cast(frame["decided_at"].dtype)),
        ]
    )
    taught_by, candidates, why_not = None, attributes, ""
    try:
        taught_by = _teach(tokens, taught, encoder, settings, progress)
    except (ContractError, SupportError) as error:
        why_not = str(error)
        progress(f"attributes alone: {why_not}")
    if taught_by is not None:
        histories = read_histories(tokens, frame, vocabulary=taught_by.vocabulary)
        written = write_codes(taught_by.codes, encoder, histories)
        candidates = join_candidates(attributes, written)
    searched = roles == SEARCHED
    progress(f"{int(searched.sum())} decisions, {len(candidates.names)} candidates")
    findings = find_interactors(
        logged.take(searched),
        candidates.take(searched),
        offers,
        settings=settings,
        progress=progress,
    )
    reading = read_interactors(
        logged,
        candidates,
        findings,
        roles,
        offers,
        actions=actions,
        programme=programme,
        settings=settings,
        is_randomised=is_randomised,
        is_sufficient=is_sufficient,
        n_halves=n_halves,
        progress=progress,
    )
    return Explained(
        findings.n_searched,
        taught_by,
        why_not,
        candidates,
        findings,
        reading,
        _show_examples(taught_by, findings, len(attributes.names)),
    )


def _teach(
    tokens: pl.DataFrame,
    decisions: pl.DataFrame,
    encoder: Encoder,
    settings: InteractorSettings,
    progress: Callable[[str], None],
) -> Taught:
    """Learn tokens and codes of the customers of some decisions."""
    teachers = decisions["customer_id"].unique()
    vocabulary = learn_vocabulary(tokens.filter(pl.col("customer_id").is_in(teachers.implode())))
    histories = read_histories(tokens, decisions, vocabulary=vocabulary)
    progress(f"{decisions.height} decisions teach codes of {len(vocabulary)} tokens")
    vectors = encoder.encode(histories)
    codes = learn_codes(
        vectors,
        histories.find_present(),
        vocabulary,
        settings.codes,
        n_coders=settings.n_coders,
        progress=progress,
    )
    newest = find_newest(decisions)
    return Taught(vocabulary, codes, histories.take(newest), codes.write(vectors[newest]))


def _show_examples(taught: Taught | None, findings: Findings, n_attributes: int) -> pl.DataFrame:
    """Return histories in which each selected code is most active, as texts: name, history."""
    rows = []
    own = () if taught is None else (e - n_attributes for e in findings.selected)
    for each in own:
        if taught is None or each < 0:
            continue
        active = taught.examples.matrix[:, [each]].toarray()[:, 0]
        top = np.argsort(-active, kind="stable")[: min(_EXAMPLES, int((active > 0).sum()))]
        rows += [
            {"name": taught.codes.names[each], "history": text}
            for text in taught.histories.take(top).describe()
        ]
    return pl.DataFrame(rows, schema={"name": pl.String, "history": pl.String})
