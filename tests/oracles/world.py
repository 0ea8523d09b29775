"""The bakery's equations for one customer at a time, written down once more."""

import math

import numpy as np


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def chances(config, today, person, stands, offer, age, is_active):
    """Return visit and purchase probability and the ticket's log-mean of one customer.

    ``person`` and ``stands`` are dicts of one customer's numbers.
    """
    demand, response, other = config.demand, config.response, config.other_programme
    power = 0.0
    if is_active:
        trait = "coupon_response" if today.face_value[offer] > 0 else "ad_response"
        power = person[trait]
        if today.is_tastes_turned:
            power = max(2 * config.traits.responsiveness_mean - power, -0.2)
        power *= math.exp(-age / response.attention_days)
        power /= 1 + response.fatigue_on_response * stands["fatigue"]
        if stands["is_dormant"]:
            power *= response.dormant_factor
    visit = demand.dormant_visit_log_odds if stands["is_dormant"] else demand.visit_log_odds
    if other is not None and stands["has_other_offer"]:
        power *= 1 + other.on_response
        visit += other.on_visit
    visit += demand.preference_on_visit * person["preference"]
    visit += demand.tier_on_visit[stands["tier"]] + today.visit_shift
    visit -= response.fatigue_on_visit * stands["fatigue"]
    visit += today.visit_strength[offer] * power
    purchase = demand.purchase_log_odds + today.purchase_strength[offer] * power
    purchase += demand.preference_on_purchase * person["preference"]
    ticket = demand.ticket_log_mean + today.ticket_strength[offer] * power
    ticket += demand.preference_on_ticket * person["preference"]
    return sigmoid(visit), sigmoid(purchase), ticket


def carry_over(spend, kept):
    """Return normalised geometric carry-over by the double sum."""
    return np.array(
        [
            (1 - kept) * sum(kept**lag * spend[week - lag] for lag in range(week + 1))
            for week in range(len(spend))
        ]
    )
