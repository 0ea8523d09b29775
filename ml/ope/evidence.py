"""The gate's evidence, from what every decision contributes under two policies."""

from collections.abc import Sequence

import numpy as np

from ml.ope.diagnostics import SupportReport, diagnose_tail
from ml.ope.gate import HARM_LEVEL, GateEvidence, LimitUse, spend_error
from ml.ope.intervals import bound_by_likelihood, estimate_mean


def gather_evidence(
    difference: np.ndarray,
    cost: np.ndarray,
    *,
    customer: np.ndarray,
    lifecycle: np.ndarray,
    gate_number: int,
    support: SupportReport,
    promise_slope: float | None,
    promise_slope_high: float | None,
    budget_per_decision: float,
    harm_tolerance: float,
    limit_uses: Sequence[LimitUse],
    offer_share: float,
    logged_offer_share: float,
    is_randomisation_sound: bool,
    has_feature_contract: bool,
) -> GateEvidence:
    """Gather what the gate judges.

    Parameters
    ----------
    difference : shape (n,), currency
        Contributions to the candidate's net value minus the champion's, by an unbiased estimator.
    cost : shape (n,), currency
        Contributions to the candidate's cost.
    customer : shape (n,), int
        Cluster of each decision.
    lifecycle : shape (n,), text
        Group of each decision.
    gate_number
        How many gates the champion has met, this one included.
    support
        The log's, of the candidate.
    promise_slope, promise_slope_high
        Of the realised on the promised gain, and its upper end; None where nothing personal is
        promised.
    budget_per_decision, harm_tolerance
        Currency per decision.
    limit_uses
        Of declared limits, by the candidate.
    offer_share, logged_offer_share
        Of decisions: what the candidate sends, and the most that the log sent.
    is_randomisation_sound, has_feature_contract
        Verdicts of the other checks.

    Returns
    -------
    GateEvidence
        For ``decide_promotion``.

    Raises
    ------
    SupportError
        With fewer than two customers, or a gate number below 1.
    """
    groups = {name: lifecycle == name for name in sorted(set(lifecycle.tolist()))}
    return GateEvidence(
        gate_number=gate_number,
        net_value_difference=bound_by_likelihood(
            difference, customer, level=1 - 2 * spend_error(gate_number)
        ),
        expected_cost=estimate_mean(cost, customer),
        budget_per_decision=budget_per_decision,
        support=support,
        tail=diagnose_tail(difference, customer),
        lifecycle_differences={
            name: estimate_mean(difference[rows], customer[rows], level=HARM_LEVEL)
            for name, rows in groups.items()
            if len(np.unique(customer[rows])) > 1
        },
        harm_tolerance=harm_tolerance,
        limit_uses=limit_uses,
        offer_share=offer_share,
        logged_offer_share=logged_offer_share,
        promise_slope=promise_slope,
        promise_slope_high=promise_slope_high,
        is_randomisation_sound=is_randomisation_sound,
        has_feature_contract=has_feature_contract,
    )
