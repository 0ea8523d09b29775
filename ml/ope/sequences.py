"""Confidence sequences: intervals that hold at every look at once."""

import numpy as np

from ml.core.errors import SupportError
from ml.ope.intervals import LEVEL, Estimate

PLANNED_DECISIONS = 10_000


def bound_anytime(
    values: np.ndarray,
    customer: np.ndarray,
    *,
    level: float = LEVEL,
    planned: int = PLANNED_DECISIONS,
) -> Estimate:
    """Return the mean so far with an asymptotic confidence sequence.

    mean +- sd sqrt(2 (n p + 1) / (n^2 p) log(sqrt(n p + 1) / (1 - level))), with p making it
    narrowest at the planned number of decisions (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas
    2024, theorem 2.2 and equation 9). The probability that it ever leaves the mean of the
    conditional expectations is at most 1 - level, however often and whenever it is looked at.

    Valid where each value's expectation given all before it is what is asked for: decisions that
    were randomised anew each time. Those of one customer then need no clustering.

    Parameters
    ----------
    values : shape (n,)
        Contributions in the order in which they were decided.
    customer : shape (n,), int
        Who each is about; counted only.
    level
        Of the sequence.
    planned
        Decisions at which it shall be narrowest.

    Returns
    -------
    Estimate
        Mean and interval, now.

    Raises
    ------
    SupportError
        With fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise SupportError(f"{n} decisions: a confidence sequence needs at least two")
    missed = 1 - level
    precision = (-2 * np.log(missed) + np.log(-2 * np.log(missed) + 1)) / planned
    deviation = float(values.std(ddof=1))
    scale = n * precision + 1
    reach = deviation * np.sqrt(2 * scale / (n**2 * precision) * np.log(np.sqrt(scale) / missed))
    mean = float(values.mean())
    return Estimate(
        mean,
        deviation / float(np.sqrt(n)),
        mean - float(reach),
        mean + float(reach),
        level,
        n,
        len(np.unique(customer)),
    )
