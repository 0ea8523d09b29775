"""What a simulated world is made of: its company, its customers' parameters, its offers."""

from dataclasses import dataclass, field
from datetime import date

import polars as pl

from ml.core.programme import Attribute, Programme

REGIONS = ("north", "east", "south", "west")
CHANNEL_REACH = {"email": 0.95, "push": 0.75, "text": 0.55}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One action of the world; ``strength`` is its push on the log-odds of a purchase."""

    action_id: str
    family: str
    channel: str
    face_value: float
    message_cost: float
    strength: float
    warm_start_weight: float


NO_OFFER = Offer(
    action_id="no_offer",
    family="none",
    channel="",
    face_value=0.0,
    message_cost=0.0,
    strength=0.0,
    warm_start_weight=0.32,
)
OFFERS = (
    NO_OFFER,
    Offer(
        action_id="email_coupon_2",
        family="coupon",
        channel="email",
        face_value=2.0,
        message_cost=0.02,
        strength=0.50,
        warm_start_weight=0.17,
    ),
    Offer(
        action_id="email_coupon_5",
        family="coupon",
        channel="email",
        face_value=5.0,
        message_cost=0.02,
        strength=0.85,
        warm_start_weight=0.17,
    ),
    Offer(
        action_id="push_reminder",
        family="reminder",
        channel="push",
        face_value=0.0,
        message_cost=0.01,
        strength=0.15,
        warm_start_weight=0.17,
    ),
    Offer(
        action_id="text_coupon_2",
        family="coupon",
        channel="text",
        face_value=2.0,
        message_cost=0.06,
        strength=0.60,
        warm_start_weight=0.17,
    ),
)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The default world, 'bakery'; docs/worlds.md states its equations.

    Probabilities are per day, log-odds are natural, money is in the programme's currency.
    """

    name: str = "bakery"
    seed: int = 7
    n_customers: int = 20_000
    first_date: date = date(2026, 1, 5)
    warm_start_days: int = 56
    burn_in_days: int = 42
    joining_days: int = 140
    joining_share: float = 0.5
    active_log_odds: float = -3.3
    dormant_log_odds: float = -5.2
    preference_scale: float = 0.7
    visit_log_odds: float = -2.2
    falls_dormant: float = 0.05
    ticket_log_mean: float = 2.9
    ticket_log_sd: float = 0.6
    redemption_probability: float = 0.75
    delivery_failure: float = 0.02
    late_share: float = 0.01
    offers: tuple[Offer, ...] = field(default=OFFERS)

    @property
    def programme(self) -> Programme:
        """The programme that this world's company would declare."""
        return Programme(
            name=self.name,
            currency="EUR",
            first_decision_date=self.first_date,
            margin=0.35,
            budget_per_decision=0.20,
            reactivation_action="email_coupon_5",
            value_note="contribution margin: 35 % of spend in the 7 days after the decision",
            cost_note="redeemed face values and message costs",
            attributes=(
                Attribute(name="age", kind="number"),
                Attribute(name="income", kind="number"),
                Attribute(name="has_app", kind="number"),
                Attribute(name="region", kind="category", levels=REGIONS),
                Attribute(name="gender", kind="category", levels=("f", "m"), is_protected=True),
            ),
        )

    def offers_frame(self) -> pl.DataFrame:
        """Return the contract's ``actions`` table."""
        return pl.DataFrame(
            {
                "action_id": [offer.action_id for offer in self.offers],
                "family": [offer.family for offer in self.offers],
                "channel": [offer.channel or None for offer in self.offers],
                "face_value": [offer.face_value for offer in self.offers],
                "message_cost": [offer.message_cost for offer in self.offers],
                "is_control": [offer.action_id == NO_OFFER.action_id for offer in self.offers],
            },
            schema_overrides={"channel": pl.String},
        )
