"""A small log whose every effect is known: joined mart rows, as training reads them."""

from datetime import date, datetime

import numpy as np
import polars as pl

from ml.core.actions import read_actions
from ml.core.contexts import BEHAVIOUR_FEATURES
from ml.pipeline.identify import mark_customers
from ml.simulate.config import WorldConfig

CONFIG = WorldConfig()
PROGRAMME = CONFIG.programme
ACTIONS = read_actions(CONFIG.offers_frame(), surface=PROGRAMME.surface)
EVENLY = np.arange(ACTIONS.n_actions) > 0


def make_rows(seed, *, n=12_000, slope=1.0, mean_effect=0.5, skew=0.0):
    """Three actions are possible: no_offer, email_coupon_2, email_coupon_5.

    Value = spend * margin + noise; the effect of email_coupon_2 is mean_effect + slope * z with
    z the standardised age; email_coupon_5 has none. Cost is 0.3 on email_coupon_2, 1 on the other.
    ``skew`` moves the propensity of email_coupon_2 with z.
    """
    random = np.random.default_rng(seed)
    z = random.normal(0, 1, n)
    names = ["no_offer", "email_coupon_2", "email_coupon_5"]
    logits = np.column_stack([np.zeros(n), skew * z, np.zeros(n)])
    propensities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    taken = (random.random((n, 1)) > propensities.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    effect = np.where(taken == 1, mean_effect + slope * z, 0.0)
    value = 4 + 0.8 * z + effect + random.normal(0, 1.5, n)
    lifecycle = np.array(["activation", "habituation", "resurrection"])[random.integers(0, 3, n)]
    ids = pl.Series("customer_id", [f"c{row:06d}" for row in range(n)])
    behaviour = {name: random.integers(0, 20, n) for name in BEHAVIOUR_FEATURES}
    frame = pl.DataFrame(
        {
            **behaviour,
            "customer_id": ids,
            "decision_id": "d:" + ids,
            "decision_date": [date(2026, 2, 1)] * n,
            "arm": ["test"] * n,
            "lifecycle": lifecycle,
            "is_due": [True] * n,
            "contactable_channels": ["email"] * n,
            "attributes": [f'{{"age": {49 + 17.9 * each:.3f}, "region": "east"}}' for each in z],
            "eligible_actions": [names] * n,
            "eligible_propensities": propensities.tolist(),
            "action_id": np.array(names)[taken],
            "propensity": propensities[np.arange(n), taken],
            "spend": value / PROGRAMME.margin,
            "visits": random.integers(0, 3, n),
            "value": value,
            "cost": np.array([0.0, 0.3, 1.0])[taken],
        }
    )
    return mark_customers(frame, PROGRAMME).drop("decision_cohort"), z


READERS_ITEMS = ("recipes", *(f"item_{each}" for each in range(1, 8)))


def make_readers(seed, *, n=20_000):
    """Rows as of ``make_rows`` and tokens: email_coupon_2 brings 3 more to readers of recipes.

    Who reads what is chance, a quarter of the customers each.
    """
    rows, _ = make_rows(seed, n=n)
    random = np.random.default_rng(seed)
    reads = random.random((n, len(READERS_ITEMS))) < 0.25
    is_sent = (rows["action_id"] == "email_coupon_2").to_numpy()
    rows = rows.with_columns(
        value=pl.col("value") + pl.Series(3.0 * (is_sent & reads[:, 0])),
        decided_at=pl.lit(datetime(2026, 2, 1, 1, 30)),
    )
    customer, item = np.nonzero(reads)
    tokens = pl.DataFrame(
        {
            "customer_id": rows["customer_id"].gather(customer),
            "kind": ["read"] * len(item),
            "item": np.array(READERS_ITEMS)[item],
            "available_at": [datetime(2026, 1, 5)] * len(item),
        }
    )
    return rows, tokens
