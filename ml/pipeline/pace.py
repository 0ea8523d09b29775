"""Decide: what tonight may promise, so that finance's period pays what it was given."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from ml.allocation.pacing import Liability, RunOff, estimate_run_off, pace_night
from ml.core.actions import ActionSet
from ml.core.errors import BudgetError
from ml.core.programme import Programme
from ml.core.schemas import BudgetLedger, NightPace

MESSAGES, WITHDRAWN = "messages", "withdrawn"
_MIX_NIGHTS = 14
_WEEK = 7
_FIGURES = (
    "budget",
    "target",
    "realised",
    "outstanding",
    "reserve",
    "remaining",
    "later",
    "timing",
    "steering",
)


@dataclass(frozen=True)
class PacedNight:
    """Tonight's ``budget``, currency; ``pace`` is a NightPace row, ``ledger`` BudgetLedger rows."""

    budget: float
    pace: pl.DataFrame
    ledger: pl.DataFrame


@dataclass(frozen=True)
class _Nights:
    """The nights before tonight, oldest first, as arrays; currency.

    ``liability`` by family; ``messages`` and ``n_decisions``, shape (N,); ``redeemed``, shape
    (N, F): paid on the calendar day that followed each night, of whatever night's offers.
    """

    first: date
    families: tuple[str, ...]
    liability: Liability
    messages: np.ndarray
    n_decisions: np.ndarray
    redeemed: np.ndarray


def list_nights(night: date, programme: Programme) -> tuple[date, date]:
    """Return the first and the last night whose offers and payments pace a night.

    Parameters
    ----------
    night
        Tonight.
    programme
        With pacing.

    Returns
    -------
    tuple
        Two accounting horizons and a period, so that run-off is known by all its ages.
    """
    begin, _ = find_period(night, programme)
    horizon = timedelta(days=2 * programme.accounting_horizon_days)
    return min(begin, night) - horizon, night - timedelta(days=1)


def find_period(night: date, programme: Programme) -> tuple[date, date]:
    """Return the first and last night of the period that a night lies in.

    Parameters
    ----------
    night
        Any night.
    programme
        With pacing.

    Returns
    -------
    tuple
        Both inclusive.

    Raises
    ------
    BudgetError
        If the programme has no pacing, or the night lies before its first period.
    """
    pacing = programme.pacing
    if pacing is None or night < pacing.begins:
        raise BudgetError(f"night {night} lies in no budget period: programme.json, pacing")
    number = (night - pacing.begins).days // pacing.period_days
    begin = pacing.begins + timedelta(days=number * pacing.period_days)
    return begin, begin + timedelta(days=pacing.period_days - 1)


def pace_programme(
    decisions: pl.DataFrame,
    redemptions: pl.DataFrame,
    *,
    catalogue: ActionSet,
    programme: Programme,
    night: date,
    n_due: int,
) -> PacedNight:
    """Return tonight's budget, from what is out and what was paid.

    Parameters
    ----------
    decisions
        Own decisions of the nights before, one row each: decision_date, action_id,
        realised_action_id (what went out, whose message is paid), and expected_cost_effect where a
        policy decided, else None; such offers are taken at what others of their kind were paid.
    redemptions
        Of those decisions' offers, one row each: decision_date, action_id, redeemed_date, amount.
    catalogue
        Tonight's actions: families, message costs; offers that it lacks are family 'withdrawn'.
    programme
        With pacing.
    night
        Tonight.
    n_due
        Customers who are decided on tonight.

    Returns
    -------
    PacedNight
        What a champion may spend tonight; exploration is paid in any case.

    Raises
    ------
    BudgetError
        If the programme has no pacing, or the night lies before its first period.
    """
    begin, end = find_period(night, programme)
    pacing = programme.pacing
    if pacing is None:
        raise BudgetError("find_period lets no programme without pacing pass")
    nights = _gather(decisions, redemptions, catalogue=catalogue, programme=programme, night=night)
    run_off = estimate_run_off(nights.liability, prior_days=programme.learning_horizon_days)
    nights_left = (end - night).days + 1
    in_period = np.arange(len(nights.messages)) >= (begin - nights.first).days
    realised = nights.redeemed[in_period].sum(axis=0)  # (F,)
    messages = float(nights.messages[in_period].sum())
    pace = pace_night(
        nights.liability,
        run_off,
        target=pacing.period_budget,
        realised=float(realised.sum()) + messages,
        nights_left=nights_left,
        mix=_find_mix(nights, run_off),
        most=pacing.most_ratio * programme.budget_per_decision * n_due,
        weights=_expect_sizes(nights.n_decisions, n_due, nights_left),
    )
    row = {
        "period_begin": begin,
        "period_end": end,
        "nights_left": nights_left,
        **{name: getattr(pace, name) for name in _FIGURES},
    }
    return PacedNight(
        budget=pace.budget,
        pace=NightPace.validate(pl.DataFrame([row], schema=NightPace.create_empty().schema)),
        ledger=_write_ledger(nights, run_off, in_period, realised, messages, nights_left),
    )


def _gather(
    decisions: pl.DataFrame,
    redemptions: pl.DataFrame,
    *,
    catalogue: ActionSet,
    programme: Programme,
    night: date,
) -> _Nights:
    """Return promises and payments by night, age and family."""
    first, last = list_nights(night, programme)
    n_nights, n_ages = (last - first).days + 1, programme.accounting_horizon_days
    control, names = catalogue.action_ids[0], catalogue.action_ids
    gone = redemptions.filter(~pl.col("action_id").is_in(names)).group_by("action_id")
    most_paid = dict(gone.agg(pl.col("amount").max()).iter_rows())
    withdrawn = sorted({*decisions["action_id"].unique(), *most_paid} - set(names))
    offers = (*names[1:], *withdrawn)
    faces = np.append(catalogue.face_values[1:], [most_paid.get(each, 0.0) for each in withdrawn])
    family_names = (*catalogue.families[1:], *(WITHDRAWN for _ in withdrawn))
    families = tuple(sorted(set(family_names)))
    family_of = np.array([families.index(each) for each in family_names])
    placed = decisions.filter(pl.col("decision_date").is_between(first, last)).with_columns(
        night=(pl.col("decision_date") - first).dt.total_days()
    )

    def message_of(column: str) -> pl.Expr:
        known = pl.col(column).cast(pl.String)
        return known.replace_strict(list(names), catalogue.message_costs, default=0.0)

    sums = placed.group_by("night", "action_id").agg(
        pl.len().alias("n"),
        pl.col("expected_cost_effect").is_null().sum().alias("n_unknown"),
        message_of("realised_action_id").sum().alias("messages"),
        (pl.col("expected_cost_effect") - message_of("action_id"))
        .clip(lower_bound=0)
        .sum()
        .alias("promised"),
    )
    counts, unknown, promised = (
        _spread(sums.filter(pl.col("action_id") != control), offers, n_nights, name)
        for name in ("n", "n_unknown", "promised")
    )  # (N, K - 1) each
    paid = np.zeros((n_nights, n_ages, len(offers)))
    redeemed = np.zeros((n_nights, len(families)))
    squares, amounts = np.zeros((2, len(families)))
    for row in (
        redemptions.filter(pl.col("action_id").is_in(offers))
        .with_columns(
            night=(pl.col("decision_date") - first).dt.total_days(),
            day=(pl.col("redeemed_date") - first).dt.total_days(),
        )
        .filter(pl.col("day").is_between(0, n_nights - 1))
        .group_by("night", "day", "action_id")
        .agg(pl.col("amount").sum(), (pl.col("amount") ** 2).sum().alias("squares"))
        .iter_rows(named=True)
    ):
        offer = offers.index(row["action_id"])
        family, age = family_of[offer], row["day"] - row["night"]
        redeemed[row["day"], family] += row["amount"]
        squares[family] += row["squares"]
        amounts[family] += row["amount"]
        if row["night"] >= 0 and 0 <= age < n_ages:
            paid[row["night"], age, offer] += row["amount"]
    typical = np.array([faces[family_of == each].max() for each in range(len(families))])
    promised += unknown * _pay_per_offer(counts, paid, faces)
    membership = (family_of[:, None] == np.arange(len(families))).astype(float)  # (K - 1, F)
    decided = placed.group_by("night").len()
    return _Nights(
        first=first,
        families=families,
        liability=Liability(
            promised=promised @ membership,
            paid=paid @ membership,
            amount=np.where(amounts > 0, squares / np.maximum(amounts, 1e-12), typical),
        ),
        messages=np.bincount(sums["night"], weights=sums["messages"], minlength=n_nights),
        n_decisions=np.bincount(decided["night"], weights=decided["len"], minlength=n_nights),
        redeemed=redeemed,
    )


def _spread(sums: pl.DataFrame, offers: tuple[str, ...], n_nights: int, column: str) -> np.ndarray:
    """Return a column by night and offer, shape (N, K - 1)."""
    known = sums.filter(pl.col("action_id").is_in(offers))
    places = known["action_id"].replace_strict(offers, range(len(offers)), return_dtype=pl.Int64)
    matrix = np.zeros((n_nights, len(offers)))
    matrix[known["night"].to_numpy(), places.to_numpy()] = known[column].to_numpy()
    return matrix


def _pay_per_offer(counts: np.ndarray, paid: np.ndarray, face_values: np.ndarray) -> np.ndarray:
    """Return what an offer is paid in the end, by the offers that were seen; shape (K - 1,)."""
    n_nights, n_ages = paid.shape[:2]
    reached = np.arange(n_ages)[:, None] < n_nights - np.arange(n_nights)  # (A, N)
    exposed = reached.astype(float) @ counts  # (A, K - 1)
    per_age = paid.sum(axis=0) / np.maximum(exposed, 1.0)
    return np.where(exposed[0] > 0, np.minimum(per_age.sum(axis=0), face_values), face_values)


def _find_mix(nights: _Nights, run_off: RunOff) -> np.ndarray:
    """Return how a unit of budget divides into messages and families, shape (1 + F,)."""
    recent = slice(-_MIX_NIGHTS, None)
    parts = np.concatenate(
        [[nights.messages[recent].sum()], nights.liability.promised[recent].sum(axis=0)]
    )
    if parts.sum() > 0:
        return np.asarray(parts / parts.sum())
    n_families = len(run_off.bias)
    return np.concatenate([[0.0], np.full(n_families, 1 / n_families)])


def _expect_sizes(n_decisions: np.ndarray, n_due: int, nights_left: int) -> np.ndarray:
    """Return how many customers each night is likely to decide on: those of a week before."""
    last_week = n_decisions[-_WEEK:]
    expected = np.full(nights_left, float(n_due))
    if len(last_week) == _WEEK and (last_week > 0).all():
        expected = np.resize(last_week, nights_left).astype(float)
    expected[0] = n_due
    return np.maximum(expected, 1.0)


def _write_ledger(
    nights: _Nights,
    run_off: RunOff,
    in_period: np.ndarray,
    realised: np.ndarray,
    messages: float,
    nights_left: int,
) -> pl.DataFrame:
    """Return BudgetLedger rows."""
    within, after = run_off.forecast(nights.liability, nights_left)
    timing = run_off.timing(nights_left)
    rows = [
        {
            "family": family,
            "assigned": float(nights.liability.promised[in_period, index].sum()),
            "realised": float(realised[index]),
            "outstanding": float(within[:, index].sum()),
            "later": float(after[:, index].sum()),
            "bias": float(run_off.bias[index]),
            "timing": float(min(timing[index], 1.0)),
        }
        for index, family in enumerate(nights.families)
    ]
    rows.append(
        {
            "family": MESSAGES,
            "assigned": messages,
            "realised": messages,
            "outstanding": 0.0,
            "later": 0.0,
            "bias": 1.0,
            "timing": 1.0,
        }
    )
    return BudgetLedger.validate(pl.DataFrame(rows, schema=BudgetLedger.create_empty().schema))
