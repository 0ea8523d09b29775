"""Decide: what to try first while nothing is learned yet, skewed to what is cheap and good."""

import numpy as np

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.logged import LoggedDecisions
from ml.ope.estimators import contrast_actions
from ml.ope.intervals import estimate_mean

MOST_OFTEN = 4.0
"""No offer is explored so many times as often as another: each keeps its support."""
_FEWEST = 30


def weigh_offers(actions: ActionSet, logged: LoggedDecisions | None) -> np.ndarray:
    """Return how often to explore each action beside the others.

    Data cost money too: an offer is weighted by mean over own declared cost, and by exp(t / 2), t
    its net value effect over its standard error where decisions have matured. Either factor lies in
    [1/2, 2], so the weight in [1/4, 4], and none is above ``MOST_OFTEN`` times another. The
    propensities are logged, so estimates correct for the skew (inverse propensity weights).

    Parameters
    ----------
    actions
        K actions.
    logged
        Matured decisions, if there are any.

    Returns
    -------
    np.ndarray
        Shape (K,), control 0.
    """
    reach = np.sqrt(MOST_OFTEN)
    most = (actions.face_values + actions.message_costs)[1:]
    cheap = np.clip(most.mean() / np.maximum(most, 1e-12), 1 / reach, reach)
    if most.max() == 0:
        cheap = np.ones(len(most))
    good = np.ones(len(most))
    for place in range(len(most)) if logged is not None else ():
        score = 0.0 if logged is None else _score(logged, place + 1)
        good[place] = np.clip(np.exp(score / 2), 1 / reach, reach)
    weight = cheap * good
    return np.concatenate([[0.0], np.maximum(weight, weight.max() / MOST_OFTEN)])


def _score(logged: LoggedDecisions, action: int) -> float:
    """Return an offer's net value effect over its standard error, 0 with too few decisions."""
    possible = logged.contexts.eligible[:, action] & logged.contexts.eligible[:, 0]
    taken = logged.action[possible]
    if min((taken == action).sum(), (taken == 0).sum()) < _FEWEST:
        return 0.0
    try:
        estimate = estimate_mean(
            contrast_actions(
                logged.net_value[possible],
                taken,
                logged.propensity[possible],
                chosen=action,
                against=0,
            ),
            logged.customer[possible],
        )
    except SupportError:
        return 0.0
    return estimate.value / estimate.standard_error if estimate.standard_error > 0 else 0.0
