"""A world's customers: latent traits, what partly reveals them, and what they talk about."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime

import numpy as np
import polars as pl

from ml.core.hashing import hash_text, hash_uniform
from ml.simulate.config import CHANNELS, REGIONS, TIERS, WorldConfig
from ml.simulate.tokens import TokenBook, draw_tokens

_APP_SHARE, _REACH = 0.55, {"email": 0.95, "push": 0.95, "text": 0.55}


@dataclass(frozen=True)
class People:
    """n customers as the dynamics see them; every array has shape (n,) unless stated.

    Attributes
    ----------
    signup_day : int
        Counted from the world's first date.
    cohort : int
        The customer is decided on when day mod 7 equals it.
    is_holdout : bool
        Never gets one of our offers.
    reach : shape (n, channels), bool
        Channels open at sign-up.
    has_app : bool
        The other programme decides about app users alone.
    preference : float
        Latent base preference.
    ad_response, coupon_response : float
        Latent response to an ad and to a coupon, interactors included; a strength's multiplier.
    annoyance : float
        Latent; what one message adds to fatigue.
    """

    signup_day: np.ndarray
    cohort: np.ndarray
    is_holdout: np.ndarray
    reach: np.ndarray
    has_app: np.ndarray
    preference: np.ndarray
    ad_response: np.ndarray
    coupon_response: np.ndarray
    annoyance: np.ndarray

    @property
    def n_customers(self) -> int:
        """Number of customers, n."""
        return len(self.signup_day)

    def take(self, rows: slice | np.ndarray) -> "People":
        """Return some of them."""
        return People(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True)
class Population:
    """Everybody in a world, those who join later included.

    ``people`` is what the dynamics read, ``attributes`` what is delivered (age, income, has_app,
    region, gender), ``sensitivity`` and ``responsiveness`` the latent traits behind the
    responses, shape (N,), ``multiplier`` what the interactors make of them.
    """

    customer_id: pl.Series
    people: People
    attributes: pl.DataFrame
    sensitivity: np.ndarray
    responsiveness: np.ndarray
    multiplier: np.ndarray
    tokens: TokenBook

    @property
    def n_customers(self) -> int:
        """Number of customers, N."""
        return self.people.n_customers


def draw_population(config: WorldConfig) -> Population:
    """Draw the world's customers.

    Sensitivity, responsiveness and annoyance depend on age, income and the app, plus noise of
    their own, so that attributes reveal them only in part; interactors show in tokens alone.

    Parameters
    ----------
    config
        The world.

    Returns
    -------
    Population
        The same for the same config, always.
    """
    n, spread = config.n_customers, config.traits
    random = np.random.default_rng([config.seed, 1])
    age = random.uniform(18, 80, n)
    income = random.lognormal(0.0, 0.5, n)
    has_app = random.random(n) < _APP_SHARE
    age_z, income_z = (age - 49) / 17.9, np.log(income) / 0.5
    preference = spread.preference * random.normal(0, 1, n)
    sensitivity = spread.sensitivity * (
        -0.5 * income_z - 0.5 * age_z + 0.35 * random.normal(0, 1, n)
    )
    responsiveness = spread.responsiveness_mean + spread.responsiveness * (
        0.5 * (has_app - _APP_SHARE) - 0.3 * age_z + 0.2 * random.normal(0, 1, n)
    )
    annoyance = np.exp(spread.annoyance * (0.4 * age_z + 0.8 * random.normal(0, 1, n)))
    joins_later = random.random(n) < config.joining_share
    signup_day = np.where(
        joins_later,
        random.integers(-config.burn_in_days, config.joining_days, n),
        random.integers(-700, min(-config.burn_in_days, -1), n),
    )
    reach = np.column_stack([random.random(n) < _REACH[channel] for channel in CHANNELS])
    reach[:, CHANNELS.index("push")] &= has_app
    region = np.array(REGIONS)[random.integers(0, len(REGIONS), n)]
    gender = np.where(random.random(n) < 0.5, "f", "m")
    tokens = draw_tokens(config.tokens, n_customers=n, seed=config.seed)
    multiplier = tokens.multiplier
    coupon = responsiveness + config.response.sensitivity_on_coupon * sensitivity
    ids = pl.Series("customer_id", np.arange(n)).cast(pl.String).str.zfill(8)
    programme = config.programme
    people = People(
        signup_day=signup_day.astype(np.int32),
        cohort=(hash_text(ids, salt="cohort") % np.uint64(programme.n_cohorts)).astype(np.int8),
        is_holdout=hash_uniform(ids, salt="holdout") < programme.holdout_share,
        reach=reach,
        has_app=has_app,
        preference=preference.astype(np.float32),
        ad_response=(np.clip(responsiveness, -0.2, 3.0) * multiplier).astype(np.float32),
        coupon_response=(np.clip(coupon, -0.2, 3.0) * multiplier).astype(np.float32),
        annoyance=annoyance.astype(np.float32),
    )
    attributes = pl.DataFrame(
        {
            "age": age.round(0),
            "income": income.round(3),
            "has_app": has_app.astype(np.int64),
            "region": region,
            "gender": gender,
        }
    )
    return Population(
        customer_id=ids,
        people=people,
        attributes=attributes,
        sensitivity=sensitivity,
        responsiveness=responsiveness,
        multiplier=multiplier,
        tokens=tokens,
    )


def describe_customers(
    config: WorldConfig,
    population: Population,
    rows: np.ndarray,
    *,
    tier: np.ndarray,
    known_from: pl.Series | None = None,
) -> pl.DataFrame:
    """Return the contract's ``customers`` rows: a version of each given customer.

    Parameters
    ----------
    config, population
        The world.
    rows : shape (m,), indices
        Which customers.
    tier : shape (m,), index into TIERS
        Their tier in this version.
    known_from : shape (m,), timestamps, optional
        When the version begins; None: at sign-up.

    Returns
    -------
    pl.DataFrame
        In order of ``rows``.
    """
    signed_up = _sign_ups(config, population, rows)
    since = signed_up if known_from is None else known_from
    return (
        population.attributes[rows]
        .with_columns(pl.Series("tier", np.array(TIERS)[tier]))
        .select(
            population.customer_id[rows],
            since.alias("valid_from"),
            signed_up.alias("signed_up_at"),
            pl.struct("age", "income", "has_app", "tier", "region", "gender")
            .struct.json_encode()
            .alias("attributes"),
            since.alias("available_at"),
        )
    )


def describe_reach(config: WorldConfig, population: Population, rows: np.ndarray) -> pl.DataFrame:
    """Return the ``contactability`` rows of customers who sign up."""
    signed_up = _sign_ups(config, population, rows)
    return pl.concat(
        [
            pl.DataFrame(
                {
                    "customer_id": population.customer_id[rows],
                    "channel": [channel] * len(rows),
                    "valid_from": signed_up,
                    "is_allowed": population.people.reach[rows, position],
                },
                schema_overrides={"channel": pl.String},
            )
            for position, channel in enumerate(CHANNELS)
        ]
    )


def _sign_ups(config: WorldConfig, population: Population, rows: np.ndarray) -> pl.Series:
    """Return sign-up times, midnight of the day."""
    start = datetime.combine(config.first_date, datetime.min.time(), UTC)
    days = pl.Series("day", population.people.signup_day[rows].astype(np.int64))
    midnight = pl.lit(start).cast(pl.Datetime("us", "UTC"))
    return days.to_frame().select(
        (midnight + pl.duration(days=pl.col("day"))).alias("signed_up_at")
    )["signed_up_at"]
