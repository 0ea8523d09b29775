"""Bringing fitted heads in line with what happened since: new means and slopes, the same trees."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ml.core.logged import LoggedDecisions
from ml.uplift.calibration import Calibration, calibrate_effects, doubly_robust_effect
from ml.uplift.heads import OUTCOMES, LifecycleHead, OutcomeHead, UpliftHeads

MINIMUM_ROWS = 30


def recalibrate_heads(
    heads: UpliftHeads, recent: LoggedDecisions, *, families: Sequence[str]
) -> UpliftHeads:
    """Calibrate fitted heads anew on decisions that matured after they were fitted.

    What they predict now is what is believed until the recent log speaks against it: means and
    slopes move from there as far as their signal-to-noise allows (``calibrate_effects`` with prior
    slope 1). A mean stays where its offer was taken fewer than ``MINIMUM_ROWS`` times. An offer
    without support stays so; a head that abstains does.

    Parameters
    ----------
    heads
        As fitted.
    recent
        Decisions with the propensities of every action; their outcomes taught the heads nothing.
    families : K names
        Of the actions.

    Returns
    -------
    UpliftHeads
        With other calibrations; the report stays the training's.
    """
    calibrations = {
        outcome: _calibrate_outcome(heads, recent, outcome, families) for outcome in OUTCOMES
    }
    return replace(
        heads,
        heads=tuple(
            replace(
                head,
                outcomes={
                    outcome: _compose(
                        head, head.outcomes[outcome], calibrations[outcome].get(head.lifecycle)
                    )
                    for outcome in OUTCOMES
                },
            )
            for head in heads.heads
        ),
    )


def _calibrate_outcome(
    heads: UpliftHeads, recent: LoggedDecisions, outcome: str, families: Sequence[str]
) -> dict[str, tuple[Calibration, ...]]:
    """Return calibrations of what is predicted now, by lifecycle and action."""
    contexts = heads.see(recent.contexts)
    policy = recent.logging_policy
    lifecycle = contexts.frame["lifecycle"].to_numpy()
    predicted = heads.predict_outcome(outcome, contexts.context, lifecycle).mean
    is_cost = outcome == "cost"
    control = np.zeros(len(predicted))
    if not is_cost:
        control = heads.outcome_model.predict_control(contexts.context, heads.descriptors)
    possible = (policy > 0) & (policy[:, :1] > 0)
    pseudo = np.zeros_like(predicted)
    for action in range(1, heads.n_actions):
        rows = possible[:, action]
        taken = recent.action[rows]
        pseudo[rows, action] = doubly_robust_effect(
            (recent.cost if is_cost else recent.value)[rows],
            is_action=taken == action,
            # No-offer costs nothing, so costs need no comparison.
            is_control=(taken == 0) & (not is_cost),
            action_propensity=policy[rows, action],
            control_propensity=policy[rows, 0],
            action_mean=control[rows] + predicted[rows, action],
            control_mean=control[rows],
        )
    found = calibrate_effects(
        pseudo,
        predicted,
        possible,
        families=families,
        lifecycle=lifecycle,
        customer=np.unique(recent.customer, return_inverse=True)[1],
        shrinks_means=True,
        prior_slope=1.0,
    )
    return {
        name: tuple(
            _keep_mean(each, predicted[own, action].mean())
            if int((recent.action[own] == action).sum()) < MINIMUM_ROWS
            else each
            for action, each in enumerate(calibrations)
        )
        for name, calibrations in found.items()
        for own in (lifecycle == name,)
    }


def _keep_mean(calibration: Calibration, mean: float) -> Calibration:
    """Return a calibration that leaves an action's mean effect as predicted."""
    return replace(calibration, mean_effect=mean, tau_mean=mean)


def _compose(
    head: LifecycleHead, own: OutcomeHead, found: Sequence[Calibration] | None
) -> OutcomeHead:
    """Return the head with a calibration of its calibrated effects put on top."""
    if found is None:
        return own
    calibrations = tuple(
        Calibration(
            mean_effect=new.mean_effect + new.slope * (old.mean_effect - new.tau_mean),
            tau_mean=old.tau_mean,
            slope=new.slope * old.slope,
        )
        for old, new in zip(own.calibrations, found, strict=True)
    )
    means = np.array([each.mean_effect for each in found])
    return replace(
        own,
        calibrations=calibrations,
        effect=np.where(head.is_supported, means, 0.0),
    )
