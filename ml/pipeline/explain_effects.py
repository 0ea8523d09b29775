"""Learn: what drives offers' effects, from histories' tokens to what may be said of them.

Tokens or beliefs -> representation -> codes (teaching customers) -> search, beside attributes
(searched customers) -> effects, residual, policy tree (measuring customers).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.contexts import Contexts
from ml.core.errors import ContractError, SupportError
from ml.core.logged import LoggedDecisions
from ml.core.programme import Programme
from ml.interactors.encoders import ENCODERS, Encoder, open_encoder, train_sequence_encoder
from ml.interactors.histories import Histories, find_newest, learn_vocabulary, read_histories
from ml.pipeline.candidates import (
    Candidates,
    Codes,
    fit_attributes,
    join_candidates,
    learn_codes,
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
from ml.pipeline.representation import (
    BELIEF_ENCODER,
    BeliefRepresentation,
    HistoryRepresentation,
    InteractorReader,
    Representation,
)

_EXAMPLES, _TRAINED = 3, "sequence"


@dataclass(frozen=True)
class Taught:
    """What teaching customers taught: codes of a representation.

    ``written``: of all decisions. ``histories``: the teachers' newest, whose codes are
    ``examples``; None where beliefs represent customers.
    """

    representation: Representation
    codes: Codes
    written: Candidates
    histories: Histories | None = None
    examples: Candidates | None = None


@dataclass(frozen=True)
class Explained:
    """What was looked at, found, and what it means.

    ``n_searched`` decisions between the offer and none; ``taught`` is None where no codes could be
    learned, ``why_not`` says why; ``reader`` reads the candidates of any contexts; ``examples``:
    name, history.
    """

    n_searched: int
    taught: Taught | None
    why_not: str
    candidates: Candidates
    reader: InteractorReader
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
    encoder: str = "bag",
    belief_version: str | None = None,
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
        What represents customers: one of ``ml.interactors.encoders.ENCODERS``, or belief.
    belief_version
        Of the world model then; None: the newest.
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
        If no action is of the family, no encoder of the name, or its package is missing.
    SupportError
        If no decision left chance between an offer and none, or no candidate has support.
    """
    offers = actions.select(actions=(), channels=(), families=(family,) if family else ())
    if not offers.any():
        known = ", ".join(dict.fromkeys(actions.families[1:]))
        raise ContractError(f"no offer is of the family '{family}': there are {known}")
    ready = None if encoder in (_TRAINED, BELIEF_ENCODER) else _open(encoder)
    contexts = logged.contexts
    roles = split_roles(contexts.frame["customer_id"], settings)
    reader = InteractorReader(fit_attributes(contexts))
    candidates = reader.attributes.read(contexts)
    n_attributes = len(candidates.names)
    taught, why_not = None, ""
    try:
        if encoder == BELIEF_ENCODER:
            taught = _teach_by_beliefs(
                contexts, belief_version, roles == TEACHING, settings, progress
            )
        else:
            teachers = contexts.frame.filter(pl.Series(roles == TEACHING))
            taught = _teach_by_histories(
                tokens, contexts.frame, teachers, outside, ready, settings, progress
            )
    except (ContractError, SupportError) as error:
        why_not = str(error)
        progress(f"attributes alone: {why_not}")
    if taught is not None:
        candidates = join_candidates(candidates, taught.written)
        reader = InteractorReader(reader.attributes, taught.representation, taught.codes)
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
        taught,
        why_not,
        candidates,
        reader,
        findings,
        reading,
        _show_examples(taught, findings, n_attributes),
    )


def _open(name: str) -> Encoder:
    """Return an encoder that needs no training here."""
    if name not in ENCODERS:
        raise ContractError(
            f"no encoder '{name}': there are {', '.join((*ENCODERS, BELIEF_ENCODER))}"
        )
    return open_encoder(name)


def _teach_by_histories(
    tokens: pl.DataFrame,
    decisions: pl.DataFrame,
    teachers: pl.DataFrame,
    outside: pl.DataFrame,
    encoder: Encoder | None,
    settings: InteractorSettings,
    progress: Callable[[str], None],
) -> Taught:
    """Learn tokens, codes and, where none is given, an encoder; write the decisions' codes."""
    key = ["customer_id", "decided_at"]
    since = teachers.schema["decided_at"]
    teachers = pl.concat(
        [teachers.select(key), outside.select(key).with_columns(pl.col("decided_at").cast(since))]
    )
    own = teachers["customer_id"].unique()
    vocabulary = learn_vocabulary(tokens.filter(pl.col("customer_id").is_in(own.implode())))
    histories = read_histories(tokens, teachers, vocabulary=vocabulary)
    newest = find_newest(teachers)
    if encoder is None:
        progress(f"{len(newest)} customers teach a transformer of {len(vocabulary)} tokens")
        encoder = train_sequence_encoder(histories.take(newest))
    progress(f"{teachers.height} decisions teach codes of {len(vocabulary)} tokens")
    vectors = encoder.encode(histories)
    codes = learn_codes(
        vectors,
        histories.find_present(),
        vocabulary,
        settings.codes,
        n_coders=settings.n_coders,
        progress=progress,
    )
    every = read_histories(tokens, decisions, vocabulary=vocabulary)
    return Taught(
        HistoryRepresentation(encoder, vocabulary),
        codes,
        write_codes(codes, encoder, every),
        histories.take(newest),
        codes.write(vectors[newest]),
    )


def _teach_by_beliefs(
    contexts: Contexts,
    version: str | None,
    teaches: np.ndarray,
    settings: InteractorSettings,
    progress: Callable[[str], None],
) -> Taught:
    """Learn codes of a world model's beliefs; write the decisions' codes."""
    if not contexts.beliefs:
        raise SupportError("no decision carries a belief: a world model is trained first")
    version = version or max(contexts.beliefs, key=int)
    if version not in contexts.beliefs:
        raise SupportError(f"no decision carries a belief of world model {version}")
    means = contexts.beliefs[version].means[teaches]
    is_known = ~np.isnan(means).any(axis=1)
    if not is_known.any():
        raise SupportError(f"no teaching customer has a belief of world model {version}")
    progress(f"{int(is_known.sum())} beliefs of world model {version} teach codes")
    representation = BeliefRepresentation(version, means[is_known].mean(axis=0))
    codes = learn_codes(
        means[is_known].astype(float),
        None,
        (),
        settings.codes,
        n_coders=settings.n_coders,
        progress=progress,
    )
    return Taught(representation, codes, codes.write(representation.encode(contexts)))


def _show_examples(taught: Taught | None, findings: Findings, n_attributes: int) -> pl.DataFrame:
    """Return histories in which each selected code is most active, as texts: name, history."""
    rows = []
    for selected in findings.selected:
        each = selected - n_attributes
        if taught is None or taught.histories is None or taught.examples is None or each < 0:
            continue
        active = taught.examples.matrix[:, [each]].toarray()[:, 0]
        top = np.argsort(-active, kind="stable")[: min(_EXAMPLES, int((active > 0).sum()))]
        rows += [
            {"name": taught.codes.names[each], "history": text}
            for text in taught.histories.take(top).describe()
        ]
    return pl.DataFrame(rows, schema={"name": pl.String, "history": pl.String})
