"""What a simulated company is made of; docs/worlds.md states the equations."""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from ml.core.programme import Attribute, Programme

REGIONS = ("north", "east", "south", "west")
TIERS = ("none", "bronze", "silver", "gold")
CHANNELS = ("email", "push", "text")
OTHER_SURFACE, OTHER_ACTION = "checkout", "free_delivery"

DriftKind = Literal["tastes", "wear_out", "costs", "propensities", "redemptions", "demand"]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One action; the strengths are what a response of 1 adds on the day it arrives.

    ``visit_strength`` and ``purchase_strength`` in log-odds, ``ticket_strength`` in log-currency.
    """

    action_id: str
    family: str
    channel: str
    face_value: float
    message_cost: float
    visit_strength: float
    purchase_strength: float
    ticket_strength: float = 0.0
    warm_start_weight: float = 0.08


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Spread of the latent traits; 0 makes everybody alike in it."""

    preference: float = 1.0
    sensitivity: float = 1.0
    responsiveness_mean: float = 0.8
    responsiveness: float = 1.2
    annoyance: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Daily visits, purchases and tickets of a customer without an offer; what is read and clicked.

    ``browsing_share`` of the visits without a purchase leave a read or a click, and so do
    ``browsing_at_home`` of the days without a visit.
    """

    visit_log_odds: float = -2.5
    dormant_visit_log_odds: float = -4.5
    preference_on_visit: float = 0.5
    purchase_log_odds: float = 0.3
    preference_on_purchase: float = 0.3
    ticket_log_mean: float = 3.05
    ticket_log_sd: float = 0.5
    preference_on_ticket: float = 0.2
    large_order_share: float = 0.01
    large_order_factor: float = 4.0
    tier_on_visit: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45)
    weekday_on_visit: tuple[float, ...] = (-0.25, -0.15, -0.05, 0.0, 0.2, 0.4, -0.15)
    browsing_share: float = 0.35
    browsing_at_home: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Response:
    """How offers, messages and the other programme act on a customer."""

    attention_days: float = 4.0
    validity_days: int = 10
    redemption_probability: float = 0.75
    dormant_factor: float = 1.4
    sensitivity_on_coupon: float = 1.0
    fatigue_on_response: float = 0.3
    fatigue_on_visit: float = 0.06
    fatigue_kept_weekly: float = 0.6
    opt_out_log_odds: float = -5.5
    opt_out_fatigue: float = 0.6
    return_probability: float = 0.03
    delivery_failure: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """What moves on a customer's decision day, by what they bought since the last one."""

    dormant_share: float = 0.45
    falls_dormant: float = 0.05
    tier_shares: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    tier_up: tuple[float, ...] = (0.30, 0.18, 0.10, 0.0)
    tier_down: tuple[float, ...] = (0.0, 0.06, 0.08, 0.05)


@dataclass(frozen=True, kw_only=True)
class OtherProgramme:
    """A second programme that decides each customer the evening before ours does."""

    share: float = 0.25
    on_visit: float = 0.3
    on_response: float = -0.4


@dataclass(frozen=True, kw_only=True)
class MediaChannel:
    """Weekly spend with geometric carry-over and Hill saturation; ``lift`` in log-odds at most."""

    channel: str
    weekly_spend: float
    spend_log_sd: float
    off_air_share: float
    carry_over: float
    half_saturation: float
    slope: float
    lift: float
    cost_per_thousand: float


@dataclass(frozen=True, kw_only=True)
class Media:
    """Media before and during the world; ``walk_in_sales`` is a neutral day's KPI, currency."""

    channels: tuple[MediaChannel, ...]
    history_weeks: int = 104
    walk_in_sales: float = 40_000.0
    walk_in_log_sd: float = 0.04


@dataclass(frozen=True, kw_only=True)
class Interactor:
    """A planted trait that scales the response to offers by 1 + ``effect``."""

    name: str
    kind: Literal["purchase", "read", "click"]
    prevalence: float
    effect: float
    correlates: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What events are about: interactors, their correlates, and tokens that mean nothing."""

    interactors: tuple[Interactor, ...]
    n_bystanders: int = 30
    bystander_prevalence: tuple[float, float] = (0.01, 0.3)
    trait_share: float = 0.6
    n_staples: int = 12


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A change of the world from a day on.

    'tastes': who responded strongly now responds weakly and the other way round; 'wear_out': the
    strongest offer loses 80 % of its strength; 'costs': face values and message costs double;
    'propensities': the experiment's log lacks the propensity of every second decision;
    'redemptions': coupons are redeemed at twice as many purchases, at most at all; 'demand': the
    odds of every visit double.
    """

    kind: DriftKind
    day: int


def _make_offers() -> tuple[Offer, ...]:
    """Return no-offer and 3 channels x 3 promotions."""
    offers = [
        Offer(
            action_id="no_offer",
            family="none",
            channel="",
            face_value=0.0,
            message_cost=0.0,
            visit_strength=0.0,
            purchase_strength=0.0,
            warm_start_weight=0.25,
        )
    ]
    for channel, message_cost, reach in (
        ("email", 0.02, 1.0),
        ("push", 0.01, 0.9),
        ("text", 0.06, 1.15),
    ):
        for family, face_value, visit, purchase in (
            ("ad", 0.0, 0.2, 0.0),
            ("coupon_2", 2.0, 1.0, 0.7),
            ("coupon_5", 5.0, 1.5, 1.2),
        ):
            offers.append(
                Offer(
                    action_id=f"{channel}_{family}",
                    family=family.partition("_")[0],
                    channel=channel,
                    face_value=face_value,
                    message_cost=message_cost,
                    visit_strength=round(visit * reach, 4),
                    purchase_strength=round(purchase * reach, 4),
                    warm_start_weight=0.105 if face_value else 0.04,
                )
            )
    return tuple(offers)


OFFERS = _make_offers()
MEDIA = Media(
    channels=(
        MediaChannel(
            channel="tv",
            weekly_spend=12_000.0,
            spend_log_sd=0.5,
            off_air_share=0.35,
            carry_over=0.6,
            half_saturation=9_000.0,
            slope=1.6,
            lift=0.30,
            cost_per_thousand=9.0,
        ),
        MediaChannel(
            channel="search",
            weekly_spend=4_000.0,
            spend_log_sd=0.35,
            off_air_share=0.0,
            carry_over=0.15,
            half_saturation=5_000.0,
            slope=1.0,
            lift=0.22,
            cost_per_thousand=14.0,
        ),
        MediaChannel(
            channel="social",
            weekly_spend=3_000.0,
            spend_log_sd=0.6,
            off_air_share=0.1,
            carry_over=0.35,
            half_saturation=3_500.0,
            slope=1.2,
            lift=0.12,
            cost_per_thousand=5.0,
        ),
    )
)
TOKENS = Tokens(
    interactors=(
        Interactor(
            name="sourdough",
            kind="purchase",
            prevalence=0.12,
            effect=0.5,
            correlates=(0.6, 0.4, 0.2),
        ),
        Interactor(
            name="gluten_free", kind="purchase", prevalence=0.05, effect=-0.5, correlates=(0.6, 0.3)
        ),
        Interactor(
            name="recipes", kind="read", prevalence=0.15, effect=0.5, correlates=(0.5, 0.4, 0.3)
        ),
        Interactor(
            name="price_list",
            kind="click",
            prevalence=0.08,
            effect=-0.5,
            correlates=(0.6, 0.5, 0.3),
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """A world of the bakery's kind; ``ml.simulate.worlds`` holds the named ones.

    Days count from ``first_date``; money is in the programme's currency; ``media`` or
    ``other_programme`` None leaves them out. ``version`` changes with any number that changes
    what the world does.
    """

    name: str = "bakery"
    version: int = 3
    seed: int = 7
    n_customers: int = 20_000
    first_date: date = date(2026, 1, 5)
    warm_start_days: int = 56
    burn_in_days: int = 42
    joining_days: int = 140
    joining_share: float = 0.5
    late_share: float = 0.01
    budget_per_decision: float = 0.30
    propensity_floor: float = 0.008
    has_targeting_rule: bool = True
    offers: tuple[Offer, ...] = field(default=OFFERS)
    traits: Traits = field(default_factory=Traits)
    demand: Demand = field(default_factory=Demand)
    response: Response = field(default_factory=Response)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    other_programme: OtherProgramme | None = field(default_factory=OtherProgramme)
    media: Media | None = MEDIA
    tokens: Tokens = TOKENS
    drifts: tuple[Drift, ...] = ()

    def has_drifted(self, kind: DriftKind, day: int) -> bool:
        """Return whether a change is in force on a day."""
        return any(each.kind == kind and each.day <= day for each in self.drifts)

    @property
    def ordered_offers(self) -> tuple[Offer, ...]:
        """The offers in the action set's order: control first, then by id."""
        return (self.offers[0], *sorted(self.offers[1:], key=lambda offer: offer.action_id))

    @property
    def channel_of(self) -> np.ndarray:
        """Each offer's index into CHANNELS in the action set's order, -1 for control; (K,)."""
        channels = (offer.channel for offer in self.ordered_offers)
        return np.array([CHANNELS.index(each) if each else -1 for each in channels])

    @property
    def programme(self) -> Programme:
        """The programme that this world's company would declare."""
        return Programme(
            name=self.name,
            currency="EUR",
            first_decision_date=self.first_date,
            margin=0.35,
            budget_per_decision=self.budget_per_decision,
            propensity_floor=self.propensity_floor,
            reactivation_action=max(self.offers, key=lambda offer: offer.face_value).action_id,
            surface="lifecycle",
            value_note="contribution margin: 35 % of spend in the 7 days after the decision",
            cost_note="redeemed face values and message costs",
            attributes=(
                Attribute(name="age", kind="number"),
                Attribute(name="income", kind="number"),
                Attribute(name="has_app", kind="number"),
                Attribute(name="tier", kind="category", levels=TIERS),
                Attribute(name="region", kind="category", levels=REGIONS),
                Attribute(name="gender", kind="category", levels=("f", "m"), is_protected=True),
            ),
        )

    def offers_frame(self, day: int = 0) -> pl.DataFrame:
        """Return the contract's ``actions`` table as of a day."""
        price = 2.0 if self.has_drifted("costs", day) else 1.0
        rows = [
            {
                "action_id": offer.action_id,
                "family": offer.family,
                "channel": offer.channel or None,
                "face_value": price * offer.face_value,
                "message_cost": price * offer.message_cost,
                "is_control": offer is self.offers[0],
                "surface": None if offer is self.offers[0] else "lifecycle",
            }
            for offer in self.offers
        ]
        if self.other_programme is not None:
            rows.append(
                {
                    "action_id": OTHER_ACTION,
                    "family": "delivery",
                    "channel": "push",
                    "face_value": 0.0,
                    "message_cost": 0.0,
                    "is_control": False,
                    "surface": OTHER_SURFACE,
                }
            )
        return pl.DataFrame(rows, schema_overrides={"channel": pl.String, "surface": pl.String})
