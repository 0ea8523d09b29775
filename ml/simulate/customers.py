"""A world's customers: latent traits, and the attributes that partly reveal them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from ml.simulate.config import CHANNEL_REACH, REGIONS, WorldConfig


@dataclass(frozen=True)
class Population:
    """N customers, each array of shape (N,).

    ``preference``, ``sensitivity`` and ``responsiveness`` are latent and never delivered;
    ``signup_day`` counts days from the world's first date; ``reach`` has shape (N, channels).
    """

    customer_id: pl.Series
    signup_day: np.ndarray
    preference: np.ndarray
    sensitivity: np.ndarray
    responsiveness: np.ndarray
    age: np.ndarray
    income: np.ndarray
    has_app: np.ndarray
    region: np.ndarray
    gender: np.ndarray
    reach: np.ndarray

    @property
    def n_customers(self) -> int:
        """N."""
        return len(self.signup_day)


def draw_population(config: WorldConfig) -> Population:
    """Draw the world's customers, those who join later included.

    sensitivity and responsiveness depend on age, income and the app, plus noise of their own,
    so that attributes reveal them only in part.

    Parameters
    ----------
    config
        The world.

    Returns
    -------
    Population
        The same for the same config, always.
    """
    n = config.n_customers
    random = np.random.default_rng([config.seed, 1])
    age = random.uniform(18, 80, n)
    income = random.lognormal(0.0, 0.5, n)
    has_app = random.random(n) < 0.55
    age_z = (age - 49) / 17.9
    income_z = np.log(income) / 0.5
    preference = random.normal(0, 1, n)
    sensitivity = -0.5 * income_z - 0.5 * age_z + 0.7 * random.normal(0, 1, n)
    responsiveness = np.clip(
        0.9 + 0.7 * sensitivity + 0.5 * (has_app - 0.55) + 0.25 * random.normal(0, 1, n), 0.0, 3.0
    )
    joins_later = random.random(n) < config.joining_share
    signup_day = np.where(
        joins_later,
        random.integers(-config.burn_in_days, config.joining_days, n),
        random.integers(-700, -config.burn_in_days, n),
    )
    reach = np.column_stack([random.random(n) < share for share in CHANNEL_REACH.values()])
    reach[:, list(CHANNEL_REACH).index("push")] &= has_app
    return Population(
        customer_id=pl.Series("customer_id", np.arange(n)).cast(pl.String).str.zfill(8),
        signup_day=signup_day,
        preference=preference,
        sensitivity=sensitivity,
        responsiveness=responsiveness,
        age=age.round(0),
        income=income.round(3),
        has_app=has_app,
        region=np.array(REGIONS)[random.integers(0, len(REGIONS), n)],
        gender=np.where(random.random(n) < 0.5, "f", "m"),
        reach=reach,
    )


def deliver_customers(
    config: WorldConfig, population: Population, rows: np.ndarray
) -> dict[str, pl.DataFrame]:
    """Return the contract's customers and contactability rows of the given customers.

    Parameters
    ----------
    config
        The world.
    population
        Its customers.
    rows : shape (m,), indices
        Which customers.

    Returns
    -------
    dict
        'customers' and 'contactability'.
    """
    start = datetime.combine(config.first_date, datetime.min.time(), UTC)
    signed_up = pl.Series(
        [start + timedelta(days=int(day)) for day in population.signup_day[rows]],
        dtype=pl.Datetime("us", "UTC"),
    )
    described = pl.DataFrame(
        {
            "customer_id": population.customer_id[rows],
            "signed_up_at": signed_up,
            "age": population.age[rows],
            "income": population.income[rows],
            "has_app": population.has_app[rows].astype(int),
            "region": population.region[rows],
            "gender": population.gender[rows],
        }
    )
    customers = described.select(
        "customer_id",
        pl.col("signed_up_at").alias("valid_from"),
        "signed_up_at",
        pl.struct("age", "income", "has_app", "region", "gender")
        .struct.json_encode()
        .alias("attributes"),
        pl.col("signed_up_at").alias("available_at"),
    )
    contactability = pl.concat(
        [
            described.select(
                "customer_id",
                pl.lit(channel).alias("channel"),
                pl.col("signed_up_at").alias("valid_from"),
                pl.Series("is_allowed", population.reach[rows, position]),
            )
            for position, channel in enumerate(CHANNEL_REACH)
        ]
    )
    return {"customers": customers, "contactability": contactability}
