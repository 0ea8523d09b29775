"""The marts in memory: a second implementation of dbt's models, for worlds lived by the dozen.

Day-by-customer matrices stand for the event table; tests hold features and outcomes equal to the
warehouse's, row by row.
"""

import copy
from datetime import date

import numpy as np
import polars as pl

from ml.core.actions import read_actions
from ml.core.programme import Programme
from ml.pipeline.identify import mark_customers
from ml.simulate.config import CHANNELS, WorldConfig
from ml.simulate.world import Tables

_CENTS = 100


class LoopMarts:
    """What one contender's nights have delivered so far.

    Matrices have shape (N, days); column 0 is the day before the burn-in, on whose evening the
    other programme decides for the first time.
    """

    def __init__(self, config: WorldConfig, customer_id: pl.Series, *, n_days: int) -> None:
        self._config, self._programme = config, config.programme
        self._ids = customer_id
        self._offset = config.burn_in_days + 1
        shape = (config.n_customers, self._offset + n_days + 40)
        self._counts = {
            name: np.zeros(shape, dtype=np.uint8) for name in ("visit", "purchase", "redemption")
        }
        self._spend = np.zeros(shape, dtype=np.int32)
        self._paid = np.zeros(shape, dtype=np.int32)
        self._paid_later = np.zeros(shape, dtype=np.int32)
        self._offers = np.zeros(shape, dtype=bool)
        self._others = np.zeros(shape, dtype=bool)
        self._attributes = pl.Series("attributes", [None] * config.n_customers, dtype=pl.String)
        self._signup = np.full(config.n_customers, np.iinfo(np.int32).max, dtype=np.int64)
        self._reach = np.zeros((config.n_customers, len(CHANNELS)), dtype=bool)
        self._receipts = pl.DataFrame(
            schema={"decision_id": pl.String, "realised_action_id": pl.String}
        )
        self._redemptions: list[pl.DataFrame] = []
        marks = mark_customers(customer_id.to_frame(), self._programme)
        self._marks = marks.select("decision_cohort", "is_holdout", "is_evaluation")
        self.actions = read_actions(config.offers_frame(), surface=self._programme.surface)

    @property
    def receipts(self) -> pl.DataFrame:
        """What went out: decision_id, realised_action_id."""
        return self._receipts

    @property
    def redemptions(self) -> pl.DataFrame:
        """What was redeemed and delivered so far: decision_id, amount, redeemed_date."""
        return pl.concat(self._redemptions)

    def branch(self) -> "LoopMarts":
        """Return a copy whose future is its own."""
        return copy.deepcopy(self)

    def absorb(self, tables: Tables, night: int) -> None:
        """Take in what was delivered for a night (a day number)."""
        if "actions" in tables:
            self.actions = read_actions(tables["actions"], surface=self._programme.surface)
        self._absorb_customers(tables["customers"])
        self._absorb_contactability(tables["contactability"])
        receipts = tables["deliveries"].select("decision_id", "realised_action_id")
        self._receipts = pl.concat([self._receipts, receipts])
        self._absorb_assignments(tables["assignments"])
        self._absorb_events(tables["events"], night)

    def _absorb_customers(self, customers: pl.DataFrame) -> None:
        if customers.is_empty():
            return
        latest = customers.sort("valid_from").unique(
            "customer_id", keep="last", maintain_order=True
        )
        rows = _rows(latest)
        self._attributes = self._attributes.scatter(rows, latest["attributes"])
        self._signup[rows] = self._days(latest["signed_up_at"])

    def _absorb_contactability(self, contactability: pl.DataFrame) -> None:
        latest = contactability.sort("valid_from").unique(
            ["customer_id", "channel"], keep="last", maintain_order=True
        )
        position = {channel: index for index, channel in enumerate(CHANNELS)}
        columns = latest["channel"].replace_strict(position, return_dtype=pl.Int64).to_numpy()
        self._reach[_rows(latest), columns] = latest["is_allowed"].to_numpy()

    def _absorb_assignments(self, assignments: pl.DataFrame) -> None:
        sent = assignments.filter(pl.col("action_id") != self._config.offers[0].action_id)
        is_own = (sent["surface"] == self._programme.surface).to_numpy()
        rows, columns = _rows(sent), self._days(sent["decided_at"]) + self._offset
        self._offers[rows[is_own], columns[is_own]] = True
        self._others[rows[~is_own], columns[~is_own]] = True

    def _absorb_events(self, events: pl.DataFrame, night: int) -> None:
        for kind, counts in self._counts.items():
            mine = events.filter(pl.col("type") == kind)
            rows, days = _rows(mine), self._days(mine["occurred_at"])
            np.add.at(counts, (rows, days + self._offset), 1)
            if kind == "visit":
                continue
            cents = (mine["amount"] * _CENTS).round().cast(pl.Int64).to_numpy()
            if kind == "purchase":
                np.add.at(self._spend, (rows, days + self._offset), cents)
                continue
            self._redemptions.append(
                mine.select(
                    "decision_id", "amount", pl.col("occurred_at").dt.date().alias("redeemed_date")
                )
            )
            start = pl.lit(self._config.first_date)
            decided = (
                mine.select(
                    (pl.col("decision_id").str.slice(0, 10).str.to_date() - start).dt.total_days()
                )
                .to_series()
                .to_numpy()
            )
            horizon = self._programme.learning_horizon_days
            counts_in = (days - decided < horizon) & (
                night <= decided + self._programme.matured_after_days
            )
            np.add.at(
                self._paid,
                (rows[counts_in], decided[counts_in] + self._offset),
                cents[counts_in],
            )
            is_accounted = days - decided < self._programme.accounting_horizon_days
            np.add.at(
                self._paid_later,
                (rows[is_accounted], decided[is_accounted] + self._offset),
                cents[is_accounted],
            )

    def build_features(self, night: int) -> pl.DataFrame:
        """Return customer_features of a night: one row per due customer, by customer_id.

        Parameters
        ----------
        night
            Day number; everything delivered for it has been absorbed.

        Returns
        -------
        pl.DataFrame
            CustomerFeatures rows.
        """
        cohort = self._marks["decision_cohort"].to_numpy()
        period = self._programme.learning_horizon_days
        rows = np.flatnonzero((cohort == night % period) & (self._signup < night))
        end = night + self._offset
        visit, purchase = self._counts["visit"], self._counts["purchase"]

        def total(matrix: np.ndarray, days: int) -> np.ndarray:
            return matrix[rows, max(end - days, 0) : end].sum(axis=1, dtype=np.int64)

        tenure, since = night - self._signup[rows], _days_since(purchase[rows, :end])
        frame = pl.DataFrame(
            {
                "customer_id": self._ids[rows],
                "decision_date": [self._date(night)] * len(rows),
                "built_for_date": [self._date(night)] * len(rows),
                "is_due": [True] * len(rows),
                "is_holdout": self._marks["is_holdout"].to_numpy()[rows],
                "is_evaluation": self._marks["is_evaluation"].to_numpy()[rows],
                "lifecycle": _assign_lifecycle(tenure, since, self._programme),
                "contactable_channels": self._describe_channels(rows),
                "attributes": self._attributes[rows],
                "tenure_days": tenure,
                "days_since_visit": _days_since(visit[rows, :end]),
                "days_since_purchase": since,
                **{f"visits_{days}d": total(visit, days) for days in (7, 28, 90)},
                **{f"purchases_{days}d": total(purchase, days) for days in (7, 28, 90)},
                **{f"spend_{days}d": total(self._spend, days) / _CENTS for days in (7, 28, 90)},
                "redemptions_28d": total(self._counts["redemption"], 28),
                "offers_28d": total(self._offers, 28),
                "other_offers_7d": total(self._others, 7),
            }
        )
        unknown = pl.col("days_since_visit", "days_since_purchase")
        return frame.with_columns(pl.when(unknown >= 0).then(unknown))

    def build_outcomes(self, decisions: pl.DataFrame, day: int) -> pl.DataFrame:
        """Return a matured day's decisions with their outcomes.

        Parameters
        ----------
        decisions
            Contract ``assignments`` of the day.
        day
            Day number; the delivery of its maturity has been absorbed, no later one.

        Returns
        -------
        pl.DataFrame
            ``decisions`` with visits, spend, value, cost.
        """
        rows = _rows(decisions)
        start = day + self._offset
        week = slice(start, start + self._programme.learning_horizon_days)
        cents = self._spend[rows, week].sum(axis=1, dtype=np.int64)
        # Exact decimals, as the warehouse's: whole numbers until the one division.
        per_mille = round(self._programme.margin * 1000)
        realised = decisions.join(
            self._receipts, on="decision_id", how="left", maintain_order="left"
        ).select(pl.coalesce("realised_action_id", "action_id"))
        message = self.actions.message_costs[self.actions.index_of(realised.to_series())]
        return decisions.with_columns(
            pl.Series("visits", self._counts["visit"][rows, week].sum(axis=1, dtype=np.int64)),
            pl.Series("spend", cents / _CENTS),
            pl.Series("value", cents * per_mille / (_CENTS * 1000)),
            pl.Series("cost", self._paid[rows, start] / _CENTS + message),
        )

    def account(self, log: pl.DataFrame, night: int) -> pl.DataFrame:
        """Return matured decisions' outcomes over the accounting horizon.

        Parameters
        ----------
        log
            Rows of ``build_outcomes``, of any days.
        night
            Day number; everything delivered for it has been absorbed, no later one.

        Returns
        -------
        pl.DataFrame
            decision_id, is_accounting_matured, accounting_value, accounting_cost.
        """
        programme = self._programme
        rows, start = _rows(log), self._days(log["decided_at"]) + self._offset
        total = np.zeros((self._spend.shape[0], self._spend.shape[1] + 1), dtype=np.int64)
        np.cumsum(self._spend, axis=1, out=total[:, 1:])
        cents = total[rows, start + programme.accounting_horizon_days] - total[rows, start]
        closed = programme.accounting_horizon_days + programme.settlement_days
        per_mille = round(programme.margin * 1000)
        paid = (self._paid_later - self._paid)[rows, start] / _CENTS
        return log.select(
            "decision_id",
            pl.Series("is_accounting_matured", start - self._offset + closed <= night),
            pl.Series("accounting_value", cents * per_mille / (_CENTS * 1000)),
            (pl.col("cost") + pl.Series(paid)).alias("accounting_cost"),
        )

    def _describe_channels(self, rows: np.ndarray) -> pl.Series:
        """Return comma-separated open channels, in the alphabet's order."""
        order = sorted(CHANNELS)
        codes = self._reach[rows][:, [CHANNELS.index(each) for each in order]] @ (
            1 << np.arange(len(order))
        )
        names = [
            ",".join(name for bit, name in enumerate(order) if code >> bit & 1)
            for code in range(1 << len(order))
        ]
        return pl.Series("contactable_channels", np.array(names)[codes], dtype=pl.String)

    def _days(self, times: pl.Series) -> np.ndarray:
        """Return the day numbers of timestamps, shape (m,), int."""
        start = self._config.first_date
        return (times.dt.date() - start).dt.total_days().to_numpy()

    def _date(self, day: int) -> date:
        return date.fromordinal(self._config.first_date.toordinal() + day)


def _rows(frame: pl.DataFrame) -> np.ndarray:
    """Return population indices: the worlds number their customers."""
    return frame["customer_id"].cast(pl.Int64).to_numpy()


def _days_since(counts: np.ndarray) -> np.ndarray:
    """Return days from the last column with an event to the one after the last; -1 for never."""
    newest_first = counts[:, ::-1] > 0
    return np.where(newest_first.any(axis=1), newest_first.argmax(axis=1) + 1, -1)


def _assign_lifecycle(
    tenure: np.ndarray, since_purchase: np.ndarray, programme: Programme
) -> np.ndarray:
    """Return each customer's lifecycle, as the dbt macro assigns it."""
    is_asleep = (since_purchase < 0) | (since_purchase > programme.inactivity_days)
    return np.select(
        [tenure < programme.activation_days, is_asleep],
        ["activation", "resurrection"],
        default="habituation",
    )
