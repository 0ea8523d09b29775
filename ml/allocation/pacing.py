"""Pacing: what to promise tonight so that a period pays what was planned for it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ml.core.errors import BudgetError

HALF_LIFE_DAYS = 5.0
LEAST_BIAS, MOST_BIAS = 0.5, 2.5
RESERVE_DEVIATIONS = 2.0
PRIOR_REDEMPTIONS = 30.0

Steering = Literal["steered", "capped", "stopped"]


@dataclass(frozen=True)
class Liability:
    """What was promised on past nights, and what of it was paid so far.

    N nights in order, the newest yesterday's, F families, A ages in days. ``promised``, shape
    (N, F): expected redemption cost of a night's offers; ``paid``, shape (N, A, F): redeemed at an
    age of 0 to A - 1 days, 0 where that has not come yet; ``amount``, shape (F,): mean amount of a
    redemption, weighted by amount. All in currency.
    """

    promised: np.ndarray
    paid: np.ndarray
    amount: np.ndarray

    @property
    def is_observed(self) -> np.ndarray:
        """Which ages each night has reached, shape (N, A), bool."""
        n_nights, n_ages = self.paid.shape[:2]
        return np.arange(n_ages) < (n_nights - np.arange(n_nights))[:, None]


@dataclass(frozen=True)
class RunOff:
    """When and how much is paid of what is promised.

    ``paid_by``, shape (A, F): share of a promise's payments made by the end of an age, its last row
    1; ``bias``, shape (F,): what is paid of a promised unit in the end.
    """

    paid_by: np.ndarray
    bias: np.ndarray

    def timing(self, days: int) -> np.ndarray:
        """Return the share of payments made in an offer's first so many days, shape (F,)."""
        if days < 1:
            return np.zeros(self.paid_by.shape[1])
        return np.asarray(self.paid_by[min(days, len(self.paid_by)) - 1])

    def forecast(self, liability: Liability, nights_left: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what is still paid of past nights' promises, within so many days and after them.

        Parameters
        ----------
        liability
            Past nights, the newest one yesterday's.
        nights_left
            Days from tonight on.

        Returns
        -------
        tuple
            Two arrays of shape (N, F), currency.
        """
        ages = np.arange(len(liability.promised), 0, -1)  # days that have passed
        gone, then = (
            np.array([self.timing(int(age) + ahead) for age in ages]).reshape(
                liability.promised.shape
            )
            for ahead in (0, nights_left)
        )
        owed = liability.promised * self.bias
        return owed * np.maximum(then - gone, 0.0), owed * np.maximum(1.0 - then, 0.0)


@dataclass(frozen=True)
class Pace:
    """Tonight's budget, and how it comes about; currency.

    ``budget`` = (target - realised - outstanding - reserve) / timing, capped at what a night may
    promise and at least 0. ``timing`` is what every unit of tonight's budget, and of as much each
    night after it, pays within the period; ``later`` what is paid after the period of what is out.
    """

    budget: float
    target: float
    realised: float
    outstanding: float
    later: float
    reserve: float
    timing: float
    steering: Steering

    @property
    def remaining(self) -> float:
        """What the nights from tonight on may still pay within the period."""
        return self.target - self.realised - self.outstanding - self.reserve


def estimate_run_off(liability: Liability, *, prior_days: int) -> RunOff:
    """Estimate when promises are paid, and how much of them.

    Payments at an age are compared with the promises of all nights that have reached it, so young
    nights count as far as they go (mean cumulative function, Nelson 1988, of censored cohorts):

        g(d) = sum_n paid(n, d) / sum_n promised(n),  n observed at d;  F(d) = G(d) / G(A - 1)

    The bias compares, by calendar day, what was paid with sum_n promised(n) f(d), with weights
    that halve every ``HALF_LIFE_DAYS``: a change that acts on every offer that is out shows the
    next night, not when a cohort has matured. Both lean on a prior (paid evenly over
    ``prior_days``, bias 1) with the weight of ``PRIOR_REDEMPTIONS``.

    Parameters
    ----------
    liability
        N nights, at least one age.
    prior_days
        Over which the prior pays, e.g. the learning horizon.

    Returns
    -------
    RunOff
        With a bias in [``LEAST_BIAS``, ``MOST_BIAS``].

    Raises
    ------
    BudgetError
        If a promise or payment is negative or not finite.
    """
    promised, paid = liability.promised, liability.paid
    if not (np.isfinite(promised).all() and np.isfinite(paid).all()):
        raise BudgetError("promises and payments must be finite")
    if min(promised.min(initial=0.0), paid.min(initial=0.0)) < 0:
        raise BudgetError("promises and payments must not be negative")
    n_nights, n_ages, n_families = paid.shape
    weight = PRIOR_REDEMPTIONS * liability.amount  # (F,)
    days = min(prior_days, n_ages)
    prior = np.where(np.arange(n_ages) < days, 1 / days, 0.0)[:, None]  # (A, 1)
    exposed = liability.is_observed.T.astype(float) @ promised  # (A, F)
    step = (paid.sum(axis=0) + prior * weight) / np.maximum(exposed + weight, 1e-12)
    total = np.cumsum(step, axis=0)
    paid_by = np.where(
        total[-1] > 0, total / np.maximum(total[-1], 1e-12), np.cumsum(prior, axis=0)
    )
    density = np.diff(paid_by, axis=0, prepend=0.0)  # (A, F)
    due, came = np.zeros((2, n_nights, n_families))
    for age in range(min(n_ages, n_nights)):
        due[age:] += promised[: n_nights - age] * density[age]
        came[age:] += paid[: n_nights - age, age]
    recent = 0.5 ** (np.arange(n_nights)[::-1] / HALF_LIFE_DAYS)  # (N,)
    bias = (recent @ came + weight) / np.maximum(recent @ due + weight, 1e-12)
    return RunOff(paid_by, np.clip(np.where(weight > 0, bias, 1.0), LEAST_BIAS, MOST_BIAS))


def pace_night(
    liability: Liability,
    run_off: RunOff,
    *,
    target: float,
    realised: float,
    nights_left: int,
    mix: np.ndarray,
    most: float,
    weights: np.ndarray | None = None,
) -> Pace:
    """Return what tonight may promise so that the period pays its target.

        budget = w_0 (target - realised - outstanding - reserve) / sum_s w_s k_s

    with k_s the share of a unit promised s nights from now that is paid within the period, bias
    included. It is worked out anew from the ledger every night: there is no integral that could
    wind up behind a cap, and a period that is overspent stops.

    Parameters
    ----------
    liability, run_off
        What is out, and how it will be paid.
    target
        Of the period.
    realised
        Paid in the period so far, of whatever night's offers, messages included.
    nights_left
        Of the period, tonight included; at least 1.
    mix : shape (1 + F,), sums to 1
        How a unit of a night's budget divides: message costs, paid at once, then redemptions by
        family.
    most
        A night's highest budget.
    weights : shape (nights_left,), optional
        Each night's share of what is promised from now on, in any unit; default alike.

    Returns
    -------
    Pace
        Steered; capped at ``most``; or stopped, with budget 0.

    Raises
    ------
    BudgetError
        If no night is left.
    """
    if nights_left < 1:
        raise BudgetError(f"a period with {nights_left} nights left can't be paced")
    share = np.ones(nights_left) if weights is None else np.asarray(weights, dtype=float)
    within, after = run_off.forecast(liability, nights_left)
    outstanding = float(within.sum())
    reserve = RESERVE_DEVIATIONS * float(np.sqrt((within * liability.amount).sum()))
    paid_within = np.array(
        [
            mix[0] + mix[1:] @ (run_off.bias * run_off.timing(nights_left - ahead))
            for ahead in range(nights_left)
        ]
    )
    timing = float(share @ paid_within / max(share[0], 1e-12))
    remaining = target - realised - outstanding - reserve
    wanted = remaining / max(timing, 1e-12)
    steering: Steering = "stopped" if wanted <= 0 else "capped" if wanted > most else "steered"
    return Pace(
        budget=float(np.clip(wanted, 0.0, most)),
        target=target,
        realised=realised,
        outstanding=outstanding,
        later=float(after.sum()),
        reserve=reserve,
        timing=timing,
        steering=steering,
    )
