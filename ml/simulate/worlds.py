"""The named worlds: frozen configs. A number that changes here raises the world's version."""

from dataclasses import replace
from typing import cast, get_args

from ml.core.errors import ContractError
from ml.simulate.config import (
    OFFERS,
    TOKENS,
    Demand,
    Drift,
    DriftKind,
    Lifecycle,
    Offer,
    Response,
    Tokens,
    Traits,
    WorldConfig,
)

DRIFT_DAYS: dict[DriftKind, int] = {
    "tastes": 66,
    "wear_out": 66,
    "costs": 66,
    "propensities": 28,
    "redemptions": 66,
    "demand": 66,
}

BAKERY = WorldConfig()


def _act_on_ticket(offer: Offer) -> Offer:
    """Return the offer with an effect on the ticket alone."""
    strength = {0.0: 0.06, 2.0: 0.35, 5.0: 0.7}[offer.face_value] if offer.channel else 0.0
    return replace(offer, visit_strength=0.0, purchase_strength=0.0, ticket_strength=strength)


BAKERY_PLAIN = replace(
    BAKERY,
    name="bakery_plain",
    version=2,
    offers=tuple(_act_on_ticket(offer) for offer in OFFERS),
    demand=replace(
        BAKERY.demand,
        visit_log_odds=3.0,
        dormant_visit_log_odds=3.0,
        purchase_log_odds=2.0,
        ticket_log_mean=0.6,
        large_order_share=0.0,
    ),
    lifecycle=replace(BAKERY.lifecycle, dormant_share=0.0, falls_dormant=0.0),
    response=replace(BAKERY.response, redemption_probability=0.08),
)

BAKERY_READERS = replace(
    BAKERY,
    name="bakery_readers",
    version=1,
    burn_in_days=182,
    demand=replace(BAKERY.demand, browsing_at_home=0.2),
)
"""The bakery, after half a year in which customers read and click at home too: tokens tell more."""

SPARSE_TOKENS = WorldConfig(
    name="sparse_tokens",
    version=2,
    n_customers=10_000,
    joining_share=0.0,
    warm_start_days=7,
    has_targeting_rule=False,
    offers=(
        OFFERS[0],
        Offer(
            action_id="email_coupon_2",
            family="coupon",
            channel="email",
            face_value=2.0,
            message_cost=0.02,
            visit_strength=0.8,
            purchase_strength=0.5,
            warm_start_weight=OFFERS[0].warm_start_weight,
        ),
    ),
    traits=Traits(preference=0, sensitivity=0, responsiveness=0, annoyance=0),
    demand=Demand(tier_on_visit=(0.0,) * 4, weekday_on_visit=(0.0,) * 7, browsing_share=0.7),
    response=Response(
        validity_days=7, fatigue_on_response=0, fatigue_on_visit=0, opt_out_log_odds=-50.0
    ),
    lifecycle=Lifecycle(dormant_share=0, falls_dormant=0),
    other_programme=None,
    media=None,
    tokens=Tokens(interactors=(), n_bystanders=200, bystander_prevalence=(0.01, 0.01)),
)

WORLDS: dict[str, WorldConfig] = {
    "bakery": BAKERY,
    "bakery_plain": BAKERY_PLAIN,
    "bakery_readers": BAKERY_READERS,
    "sparse_tokens": SPARSE_TOKENS,
    "sparse_tokens_planted": replace(
        SPARSE_TOKENS,
        name="sparse_tokens_planted",
        tokens=replace(SPARSE_TOKENS.tokens, interactors=TOKENS.interactors),
    ),
}


def find_world(name: str) -> WorldConfig:
    """Return a named world, with a drift where the name asks for one.

    Parameters
    ----------
    name
        A name of WORLDS, or '<world>+<drift>' or '<world>+<drift>@<day>', such as 'bakery+tastes'
        or 'bakery+costs@70'. Without a day, that of DRIFT_DAYS.

    Returns
    -------
    WorldConfig
        Frozen; its name is the one asked for.

    Raises
    ------
    ContractError
        If there is no such world, drift or day.
    """
    world, _, change = name.partition("+")
    kind, _, day = change.partition("@")
    if world not in WORLDS or (change and kind not in get_args(DriftKind)):
        raise ContractError(
            f"no world '{name}': there are {', '.join(WORLDS)}, each with "
            f"{', '.join('+' + each for each in get_args(DriftKind))} if you like, at a day: "
            "bakery+tastes@70"
        )
    if not change:
        return WORLDS[world]
    try:
        drift_kind = cast(DriftKind, kind)
        drift = Drift(kind=drift_kind, day=int(day) if day else DRIFT_DAYS[drift_kind])
    except ValueError:
        raise ContractError(f"world '{name}': '{day}' is no day number") from None
    return replace(WORLDS[world], name=name, drifts=(drift,))
