"""Event tokens: planted interactors, their correlates, bystanders, and what an event is about."""

from dataclasses import dataclass

import numpy as np

from ml.simulate.config import Tokens

KINDS = ("purchase", "read", "click")


@dataclass(frozen=True)
class TokenBook:
    """Who tends to which token.

    Attributes
    ----------
    names : T token names, the interactors first
    kinds : shape (T,), index into KINDS
    interactor_of : shape (T,), int
        Index of the interactor that a token correlates with; itself for one, -1 for bystanders.
    tends : shape (N, T), bool
        Who tends to what.
    multiplier : shape (N,), float
        What the interactors make of a customer's response.
    starts, counts : shape (KINDS, N), int
        A customer's tokens of a kind are ``listed[starts : starts + counts]``.
    listed : shape (all tendencies,), int16
        Token indices by kind and customer.
    staples : names of the tokens that everybody uses
    trait_share : probability that an event is about a tendency, where there is one
    """

    names: tuple[str, ...]
    kinds: np.ndarray
    interactor_of: np.ndarray
    tends: np.ndarray
    multiplier: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    listed: np.ndarray
    staples: tuple[str, ...]
    trait_share: float

    @property
    def vocabulary(self) -> np.ndarray:
        """All token names, staples last, shape (T + staples,)."""
        return np.array(self.names + self.staples)

    def draw(self, rows: np.ndarray, kind: int, uniforms: np.ndarray) -> np.ndarray:
        """Draw what events are about.

        With ``trait_share`` one of the customer's tokens of the kind, all alike, else a staple,
        the k-th with weight 1 / k.

        Parameters
        ----------
        rows : shape (m,), int
            Customers.
        kind
            Index into KINDS.
        uniforms : shape (m,), in [0, 1)
            One draw per event.

        Returns
        -------
        np.ndarray
            Shape (m,), index into ``vocabulary``.
        """
        counts = self.counts[kind, rows]
        is_tendency = (uniforms < self.trait_share) & (counts > 0)
        place = np.minimum((uniforms / self.trait_share * counts).astype(np.int64), counts - 1)
        own = np.where(is_tendency, self.starts[kind, rows] + place, 0)
        weights = 1 / np.arange(1, len(self.staples) + 1)
        bounds = np.cumsum(weights) / weights.sum()
        # Without tendencies the whole unit interval is the staples', else what is left of it.
        rest = np.where(
            counts > 0, (uniforms - self.trait_share) / (1 - self.trait_share), uniforms
        )
        staple = np.searchsorted(bounds, np.clip(rest, 0, 1 - 1e-7), side="right")
        listed = self.listed[own] if len(self.listed) else own
        return np.where(is_tendency, listed, len(self.names) + staple)


def draw_tokens(tokens: Tokens, *, n_customers: int, seed: int) -> TokenBook:
    """Draw who tends to which token.

    A correlate copies its interactor with probability rho and is drawn afresh at the same
    prevalence else, so that their correlation is exactly rho. Bystanders are independent.

    Parameters
    ----------
    tokens
        What is planted.
    n_customers
        N.
    seed
        Of the world.

    Returns
    -------
    TokenBook
        The same for the same arguments.
    """
    random = np.random.default_rng([seed, 40])
    names, kinds, origin, columns = [], [], [], []
    for index, each in enumerate(tokens.interactors):
        names.append(each.name)
        kinds.append(KINDS.index(each.kind))
        origin.append(index)
        columns.append(random.random(n_customers) < each.prevalence)
    for index, each in enumerate(tokens.interactors):
        for position, rho in enumerate(each.correlates):
            is_copied = random.random(n_customers) < rho
            afresh = random.random(n_customers) < each.prevalence
            names.append(f"{each.name}_like_{position + 1}")
            kinds.append((KINDS.index(each.kind) + position) % len(KINDS))
            origin.append(index)
            columns.append(np.where(is_copied, columns[index], afresh))
    low, high = tokens.bystander_prevalence
    prevalences = np.geomspace(low, high, tokens.n_bystanders)
    for index, prevalence in enumerate(prevalences):
        names.append(f"item_{index:03d}")
        kinds.append(index % len(KINDS))
        origin.append(-1)
        columns.append(random.random(n_customers) < prevalence)
    tends = np.column_stack(columns)
    effects = np.array([each.effect for each in tokens.interactors])
    multiplier = 1 + tends[:, : len(effects)] @ effects
    kind_of = np.array(kinds)
    starts, counts, listed = _list_tendencies(tends, kind_of)
    return TokenBook(
        names=tuple(names),
        kinds=kind_of,
        interactor_of=np.array(origin),
        tends=tends,
        multiplier=np.clip(multiplier, 0.1, None),
        starts=starts,
        counts=counts,
        listed=listed,
        staples=tuple(f"staple_{index:02d}" for index in range(tokens.n_staples)),
        trait_share=tokens.trait_share,
    )


def _list_tendencies(
    tends: np.ndarray, kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return starts, counts and the ragged list of token indices, kind by kind."""
    starts, counts, listed, offset = [], [], [], 0
    for kind in range(len(KINDS)):
        columns = np.flatnonzero(kinds == kind)
        _, places = np.nonzero(tends[:, columns])
        count = tends[:, columns].sum(axis=1)
        starts.append(offset + np.concatenate([[0], np.cumsum(count)[:-1]]))
        counts.append(count)
        listed.append(columns[places].astype(np.int16))
        offset += len(places)
    return np.stack(starts), np.stack(counts), np.concatenate(listed)
