"""Policies of the bakery that learn nothing, and the experiment whose log teaches the others."""

import numpy as np

from benchmarks.studies.agentic_marketing.reward import ActionModels
from ml.core.journeys import Situation, choose_evenly
from ml.simulate.journeys import FEATURES
from ml.simulate.worlds import BAKERY

_OFFER_SHARES = (0.02, 0.25, 0.5, 0.75, 0.98)
_INACTIVE_WEEKS = 4


def choose_nothing(now: Situation) -> np.ndarray:
    """Return no offer for everybody, shape (n, K)."""
    policy = np.zeros(now.eligible.shape)
    policy[:, 0] = 1.0
    return policy


def choose_by_warm_start(now: Situation) -> np.ndarray:
    """Return the bakery's own random offers: its weights among what is eligible, (n, K)."""
    weight = np.array([offer.warm_start_weight for offer in BAKERY.ordered_offers]) * now.eligible
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def choose_by_experiment(now: Situation) -> np.ndarray:
    """Return the log's random offers, (n, K): hardly any for a fifth, nearly always for another.

    Which offer is the warm start's; who gets how many stays the same from week to week (rows are
    customers), so that the log knows what becomes of customers who are left alone, as a company
    with a holdout does, and of those who are not.
    """
    offers = choose_by_warm_start(now)
    offers[:, 0] = 0.0
    reach = offers.sum(axis=1, keepdims=True)
    offers = np.divide(offers, reach, out=np.zeros_like(offers), where=reach > 0)
    share = np.resize(np.array(_OFFER_SHARES), len(offers))[:, None]
    return np.asarray(np.where(reach > 0, share * offers, 0.0) + _rest(share, reach))


def _rest(share: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return no offer's probability in its column, (n, K)."""
    rest = np.zeros((len(share), len(BAKERY.offers)))
    rest[:, :1] = np.where(reach > 0, 1 - share, 1.0)
    return rest


def choose_at_random(now: Situation, *, costs: ActionModels, budget: float) -> np.ndarray:
    """Return any eligible offer with a probability at which the budget suffices, (n, K)."""
    even, expected = choose_evenly(now), np.maximum(costs.value(now.state), 0)
    due = float(expected[:, 0].mean())
    added = float((even * expected).sum(axis=1).mean()) - due
    share = np.clip((budget - due) / max(added, 1e-9), 0.0, 1.0)
    return np.asarray(share * even + (1 - share) * choose_nothing(now))


def rank_inactive(state: np.ndarray) -> np.ndarray:
    """Return the lifecycle rule's values: the strongest coupon after four weeks, (n, K)."""
    weeks = state[:, FEATURES.index("weeks_since_purchase")]
    value = np.full((len(state), len(BAKERY.offers)), -1.0)
    faces = [offer.face_value for offer in BAKERY.ordered_offers]
    for action, face in enumerate(faces):
        if face == max(faces):
            value[:, action] = np.where(weeks >= _INACTIVE_WEEKS, weeks, -1.0)
    return value
