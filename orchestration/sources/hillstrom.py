"""The Hillstrom source: a public e-mail test as a delivery, the example of one's own logs.

Reads: the public CSV. Writes: landing, programme.json. docs/own-data.md walks through it.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from ml.core.errors import ContractError
from ml.core.programme import Attribute, Programme
from orchestration.files import write_text
from orchestration.resources import Landing
from orchestration.settings import Settings
from orchestration.sources.landing_files import deliver

EXPERIMENT_DATE = date(2008, 3, 3)
OUTCOME_DAYS = 14
NIGHT = EXPERIMENT_DATE + timedelta(days=OUTCOME_DAYS + 1)
MARGIN = 0.30
SEND_COST = 0.05
MAILED_SHARE = 0.40
ARMS = {"No E-Mail": "no_offer", "Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email"}
_COLUMNS = (
    "recency",
    "history",
    "mens",
    "womens",
    "zip_code",
    "newbie",
    "channel",
    "segment",
    "visit",
    "conversion",
    "spend",
)


def build_programme() -> Programme:
    """Return the programme: what is assumed about money and lifecycles, said so in the notes."""
    return Programme(
        name="hillstrom",
        currency="USD",
        first_decision_date=NIGHT,
        margin=MARGIN,
        budget_per_decision=MAILED_SHARE * SEND_COST,
        reactivation_action="mens_email",
        value_note=f"an assumed margin of {MARGIN:.0%} on spend in the two weeks after the e-mail",
        cost_note=(
            f"an assumed {SEND_COST:.2f} USD per e-mail; the budget is that of mailing "
            f"{MAILED_SHARE:.0%} of the customers"
        ),
        learning_horizon_days=OUTCOME_DAYS,
        accounting_horizon_days=OUTCOME_DAYS,
        settlement_days=0,
        n_cohorts=1,
        activation_days=365,
        inactivity_days=150,
        evaluation_share=0.5,
        holdout_share=0.0,
        attributes=(
            Attribute(name="history", kind="number"),
            Attribute(name="mens", kind="number"),
            Attribute(name="womens", kind="number"),
            Attribute(name="newbie", kind="number"),
            Attribute(name="zip_code", kind="category", levels=("Rural", "Surburban", "Urban")),
            Attribute(name="channel", kind="category", levels=("Multichannel", "Phone", "Web")),
        ),
    )


def convert(path: Path) -> dict[date, dict[str, pl.DataFrame]]:
    """Convert the public CSV to the input contract.

    One row of the file is one customer, repeated rows too. ``recency`` months since the last
    purchase become one purchase event 30 days a month before the experiment, with the past
    year's spend as its amount; ``newbie`` becomes a sign-up half a year before, others signed up
    two years before; a visit and its spend are dated the day after the e-mail.

    Parameters
    ----------
    path
        hillstrom.csv or hillstrom.csv.gz.

    Returns
    -------
    dict
        Night to contract tables: customers before the experiment, its assignments the day
        after, outcomes two weeks after it.

    Raises
    ------
    ContractError
        If the file is missing or lacks a column.
    """
    if not path.exists():
        raise ContractError(f"{path} is missing: pass INPUT=path/to/hillstrom.csv.gz")
    source = pl.read_csv(path, infer_schema_length=None)
    missing = sorted(set(_COLUMNS) - set(source.columns))
    if missing:
        raise ContractError(f"{path.name} lacks the columns {missing}: is it Hillstrom's file?")
    decided_at = datetime.combine(EXPERIMENT_DATE, datetime.min.time(), UTC).replace(hour=9)
    started = pl.lit(decided_at).cast(pl.Datetime("us", "UTC"))
    rows = source.with_row_index("row").with_columns(
        pl.format("h-{}", (pl.col("row") + 1).cast(pl.String).str.zfill(5)).alias("customer_id"),
        pl.format("{}:h-{}", pl.lit(str(EXPERIMENT_DATE)), (pl.col("row") + 1)).alias(
            "decision_id"
        ),
        pl.col("segment").replace_strict(ARMS).alias("action_id"),
        (started - pl.duration(days=30 * pl.col("recency"))).alias("last_purchase_at"),
        (started - pl.duration(days=pl.when(pl.col("newbie") == 1).then(180).otherwise(730))).alias(
            "signed_up_at"
        ),
    )
    customers = rows.select(
        "customer_id",
        pl.col("signed_up_at").alias("valid_from"),
        "signed_up_at",
        pl.struct("history", "mens", "womens", "newbie", "zip_code", "channel")
        .struct.json_encode()
        .alias("attributes"),
        pl.col("signed_up_at").alias("available_at"),
    )
    contactability = rows.select(
        "customer_id",
        pl.lit("email").alias("channel"),
        pl.col("signed_up_at").alias("valid_from"),
        pl.lit(True).alias("is_allowed"),
    )
    assignments = rows.select(
        "decision_id",
        "customer_id",
        started.alias("decided_at"),
        pl.lit("email").alias("surface"),
        pl.lit(list(ARMS.values())).alias("eligible_actions"),
        "action_id",
        pl.lit(1 / 3).alias("propensity"),
        pl.lit([1 / 3] * 3).alias("eligible_propensities"),
        pl.lit("public test of 2008").alias("policy_version"),
        pl.lit("test").alias("arm"),
        pl.lit("hillstrom-2008").alias("experiment"),
        pl.lit(True).alias("is_exploration"),
    )
    outcome_at = started + pl.duration(days=1)
    events = {
        "past": _event(rows, "purchase", pl.col("last_purchase_at"), pl.col("history")),
        "visit": _event(rows.filter(pl.col("visit") == 1), "visit", outcome_at, None),
        "purchase": _event(
            rows.filter(pl.col("conversion") == 1), "purchase", outcome_at, pl.col("spend")
        ),
    }
    return {
        EXPERIMENT_DATE: {
            "customers": customers,
            "contactability": contactability,
            "actions": _list_actions(),
            "events": events["past"],
        },
        EXPERIMENT_DATE + timedelta(days=1): {"assignments": assignments},
        EXPERIMENT_DATE + timedelta(days=OUTCOME_DAYS): {
            "events": pl.concat([events["visit"], events["purchase"]])
        },
        NIGHT: {"events": events["visit"].head(0)},
    }


class HillstromSource:
    """Lands the public test, and the one night that decides all its customers."""

    def __init__(self, settings: Settings, *, path: Path | None) -> None:
        self._settings = settings
        self._landing = Landing(root=str(settings.landing))
        self._path = path

    def first_night(self) -> date:
        """Return the night that decides all customers."""
        return NIGHT

    def land(self, night: date) -> None:
        """Land the converted test.

        Raises
        ------
        ContractError
            For another night: the public file ends after one.
        """
        if night != NIGHT:
            raise ContractError(f"Hillstrom's file holds one night, {NIGHT}; {night} has no data")
        if night in self._landing.ready_dates():
            return
        if self._path is None:
            raise ContractError("pass INPUT=path/to/hillstrom.csv.gz")
        deliveries = convert(self._path)
        write_text(build_programme().to_json(), self._settings.programme_file)
        for day, tables in deliveries.items():
            deliver(self._landing, tables, day, name="hillstrom")


def _event(rows: pl.DataFrame, kind: str, at: pl.Expr, amount: pl.Expr | None) -> pl.DataFrame:
    """Return contract events; everything was known as it happened."""
    return rows.select(
        "customer_id",
        at.alias("occurred_at"),
        at.alias("available_at"),
        pl.lit(kind).alias("type"),
        (pl.lit(None) if amount is None else amount).cast(pl.Float64).alias("amount"),
        pl.lit(None, dtype=pl.String).alias("decision_id"),
    )


def _list_actions() -> pl.DataFrame:
    """Return the contract's actions: two e-mails and none."""
    return pl.DataFrame(
        {
            "action_id": list(ARMS.values()),
            "family": ["none", "email", "email"],
            "channel": [None, "email", "email"],
            "face_value": [0.0, 0.0, 0.0],
            "message_cost": [0.0, SEND_COST, SEND_COST],
            "is_control": [True, False, False],
        }
    )
