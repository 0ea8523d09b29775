"""Two programmes at once: what each does alone, both together, and whether effects may be added."""

from dataclasses import dataclass

import numpy as np

from ml.core.errors import InterferenceError, SupportError
from ml.ope.diagnostics import diagnose_tail
from ml.ope.estimators import contrast_actions, effective_sample_size
from ml.ope.intervals import LEVEL, Estimate, estimate_mean

LEAST_IN_CELL = 75.0


@dataclass(frozen=True)
class Factorial:
    """Effects over neither programme, per decision that both decide on.

    ``own`` and ``other`` are each programme's effect where the other sent nothing, ``both`` that of
    both offers; ``interaction`` = both - own - other; ``added`` = own + other. ``n_cell``:
    decisions with neither, own, other, both.
    """

    own: Estimate
    other: Estimate
    both: Estimate
    interaction: Estimate
    added: Estimate
    n_cell: tuple[int, int, int, int]


def estimate_factorial(
    outcome: np.ndarray,
    *,
    is_own: np.ndarray,
    is_other: np.ndarray,
    own_propensity: np.ndarray,
    other_propensity: np.ndarray,
    customer: np.ndarray,
    level: float = LEVEL,
) -> Factorial:
    """Estimate a 2 x 2 factorial experiment from two logs that were randomised apart.

    Each of the four cells is self-normalised by the product of both propensities; intervals are
    clustered by customer. Valid where the two programmes drew independently given what their
    propensities depend on.

    Parameters
    ----------
    outcome : shape (n,), currency
        Of decisions that both programmes left to chance.
    is_own, is_other : shape (n,), bool
        Whether each sent an offer.
    own_propensity, other_propensity : shape (n,), in (0, 1)
        Of what each did: of sending, or of not sending.
    customer : shape (n,), int
        Cluster of each decision.
    level
        Of the intervals.

    Returns
    -------
    Factorial
        Four effects and their sum.

    Raises
    ------
    SupportError
        If one of the four cells is worth fewer than 75 decisions (effective size), or the
        interaction's tails are too heavy for an interval.
    """
    cell = is_own.astype(np.int64) + 2 * is_other.astype(np.int64)
    counts = np.bincount(cell, minlength=4)
    propensity = own_propensity * other_propensity
    sizes = [effective_sample_size(1 / propensity[cell == each]) for each in range(4)]
    if min(sizes) < LEAST_IN_CELL:
        names = ("neither", "ours alone", "the other's alone", "both")
        raise SupportError(
            f"{names[int(np.argmin(sizes))]}: worth {min(sizes):.0f} decisions, at least "
            f"{LEAST_IN_CELL:.0f} are needed: let both programmes explore more"
        )
    own, other, both = (
        contrast_actions(outcome, cell, propensity, chosen=chosen, against=0)
        for chosen in (1, 2, 3)
    )

    diagnose_tail(both - own - other, customer).require()

    def estimate(contributions: np.ndarray) -> Estimate:
        return estimate_mean(contributions, customer, level=level)

    return Factorial(
        own=estimate(own),
        other=estimate(other),
        both=estimate(both),
        interaction=estimate(both - own - other),
        added=estimate(own + other),
        n_cell=(int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])),
    )


def add_effects(factorial: Factorial) -> Estimate:
    """Return the sum of two programmes' effects, where they may be added.

    Parameters
    ----------
    factorial
        Estimated.

    Returns
    -------
    Estimate
        Own plus other, per decision that both decide on.

    Raises
    ------
    InterferenceError
        If the interaction's interval excludes 0: what both bring is not the sum.
    """
    interaction = factorial.interaction
    if interaction.low > 0 or interaction.high < 0:
        raise InterferenceError(
            f"the programmes' effects don't add up: together they bring {interaction.value:+.4f} "
            f"[{interaction.low:+.4f}, {interaction.high:+.4f}] beyond their sum; report "
            f"{factorial.both.value:+.4f} for both"
        )
    return factorial.added
