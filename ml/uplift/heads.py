"""Uplift heads: value and cost effects per lifecycle and action."""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np

from ml.core.contexts import Contexts
from ml.core.errors import ContractError, SupportError
from ml.core.hashing import hash_uniform
from ml.core.logged import LoggedDecisions
from ml.uplift.calibration import Calibration, calibrate_effect, doubly_robust_effect
from ml.uplift.x_learner import EffectModel, TreeSettings, fit_effect, fit_regression

CALIBRATION_SHARE = 0.3
WINSOR_QUANTILE = 0.995

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ActionHead:
    """Value and cost effects of one action in one lifecycle.

    ``value`` and ``cost`` are None where the action abstains from personalising (slope 0 keeps
    the constant effect of its calibration) or has too little support (``is_supported`` false:
    effects 0 and never offered).
    """

    action: int
    n_rows: int
    is_supported: bool
    value: EffectModel | None
    value_calibration: Calibration
    cost: lgb.Booster | None
    cost_calibration: Calibration


@dataclass(frozen=True)
class LifecycleHead:
    """One lifecycle's control outcome and action heads."""

    lifecycle: str
    control_value: lgb.Booster
    actions: tuple[ActionHead, ...]


@dataclass(frozen=True)
class Effects:
    """Predictions for n customers, currency per decision.

    ``control_value`` has shape (n,); ``value_effect`` and ``cost_effect`` (n, K), column 0 = 0;
    ``supported`` (n, K), bool.
    """

    control_value: np.ndarray
    value_effect: np.ndarray
    cost_effect: np.ndarray
    supported: np.ndarray

    @property
    def expected_value(self) -> np.ndarray:
        """E[value | x, a], shape (n, K)."""
        return self.control_value[:, None] + self.value_effect


@dataclass(frozen=True)
class UpliftHeads:
    """Heads of every lifecycle, with the feature schema they were fitted on."""

    heads: tuple[LifecycleHead, ...]
    n_actions: int
    feature_names: tuple[str, ...]
    schema_hash: str

    def predict(self, contexts: Contexts) -> Effects:
        """Predict effects.

        Parameters
        ----------
        contexts
            n customers.

        Returns
        -------
        Effects
            In their order. A lifecycle without a head gets effects 0 and no support.

        Raises
        ------
        ContractError
            If the contexts' schema hash is another than the heads'.
        """
        if contexts.schema_hash != self.schema_hash:
            raise ContractError(
                f"features have schema {contexts.schema_hash}, the heads were fitted on "
                f"{self.schema_hash}: retrain, or score with the programme they were fitted with"
            )
        n = contexts.n_customers
        effects = Effects(
            control_value=np.zeros(n),
            value_effect=np.zeros((n, self.n_actions)),
            cost_effect=np.zeros((n, self.n_actions)),
            supported=np.zeros((n, self.n_actions), dtype=bool),
        )
        effects.supported[:, 0] = True
        lifecycle = contexts.frame["lifecycle"].to_numpy()
        for head in self.heads:
            rows = np.flatnonzero(lifecycle == head.lifecycle)
            if not len(rows):
                continue
            x = contexts.context[rows]
            effects.control_value[rows] = head.control_value.predict(x, num_threads=1)
            for each in head.actions:
                if not each.is_supported:
                    continue
                effects.supported[rows, each.action] = True
                effects.value_effect[rows, each.action] = _apply(
                    each.value, each.value_calibration, x
                )
                effects.cost_effect[rows, each.action] = np.maximum(
                    _apply(each.cost, each.cost_calibration, x), 0.0
                )
        return effects


def fit_uplift_heads(
    logged: LoggedDecisions,
    *,
    minimum_support: int,
    seed: int,
    settings: TreeSettings | None = None,
    progress: Progress = lambda message: None,
) -> UpliftHeads:
    """Fit value and cost heads per lifecycle and action.

    Value: X-learner on logged propensities, winsorised at the 99.5 % quantile for learning
    alone. Cost: E[cost | x, a], since cost without an offer is 0. Both are calibrated on a hash
    share of customers that fitted nothing; a head whose ranking that fold does not support uses
    the constant effect.

    Parameters
    ----------
    logged
        Matured decisions of training customers alone, each with its full propensity vector.
    minimum_support
        Fewest rows of an action in a lifecycle; below it the action is not offered there.
    seed
        Of trees and of the calibration split.
    settings
        Tree settings; None takes the defaults with this seed.
    progress
        Called with a line per fitted head.

    Returns
    -------
    UpliftHeads
        One head per lifecycle that has enough controls.

    Raises
    ------
    SupportError
        If no lifecycle has ``minimum_support`` controls.
    """
    trees = settings or TreeSettings(seed=seed % 2**31)
    lifecycle = logged.contexts.frame["lifecycle"].to_numpy()
    uniforms = hash_uniform(logged.contexts.frame["customer_id"], salt=f"calibration-{seed}")
    is_calibration = uniforms < CALIBRATION_SHARE
    heads = []
    for name in sorted(set(lifecycle)):
        rows = np.flatnonzero(lifecycle == name)
        part = logged.take(rows)
        n_controls = int((part.action == 0).sum())
        if n_controls < minimum_support:
            progress(f"{name}: {n_controls} controls, fewer than {minimum_support}: no head")
            continue
        heads.append(
            _fit_lifecycle(
                str(name),
                part,
                is_calibration=is_calibration[rows],
                minimum_support=minimum_support,
                trees=trees,
                progress=progress,
            )
        )
    if not heads:
        raise SupportError(
            f"no lifecycle has {minimum_support} decisions without an offer: explore longer, "
            "or lower minimum_support in programme.json"
        )
    return UpliftHeads(
        heads=tuple(heads),
        n_actions=logged.logging_policy.shape[1],
        feature_names=logged.contexts.feature_names,
        schema_hash=logged.contexts.schema_hash,
    )


def _apply(
    model: EffectModel | lgb.Booster | None, calibration: Calibration, context: np.ndarray
) -> np.ndarray:
    """Return calibrated effects; without a model, the constant effect."""
    if model is None:
        return np.full(len(context), calibration.mean_effect)
    if isinstance(model, EffectModel):
        return calibration.apply(model.predict(context))
    return calibration.apply(np.asarray(model.predict(context, num_threads=1)))


def _fit_lifecycle(
    name: str,
    logged: LoggedDecisions,
    *,
    is_calibration: np.ndarray,
    minimum_support: int,
    trees: TreeSettings,
    progress: Progress,
) -> LifecycleHead:
    """Fit one lifecycle: mu_0, then each action against it."""
    x, is_fit, propensities = logged.contexts.context, ~is_calibration, logged.logging_policy
    value = np.minimum(logged.value, np.quantile(logged.value, WINSOR_QUANTILE))
    is_control = logged.action == 0
    control_value = fit_regression(
        x[is_fit & is_control], value[is_fit & is_control], settings=trees
    )
    actions = []
    for action in range(1, propensities.shape[1]):
        is_action = logged.action == action
        # Both arms must have been possible, else the comparison has no common ground.
        possible = (propensities[:, action] > 0) & (propensities[:, 0] > 0)
        n_rows = int((is_action & possible).sum())
        if n_rows < minimum_support:
            progress(f"{name}, action {action}: {n_rows} rows, fewer than {minimum_support}")
            nothing = Calibration(0.0, 0.0, 0.0)
            actions.append(ActionHead(action, n_rows, False, None, nothing, None, nothing))
            continue
        fit = is_fit & possible & (is_action | is_control)
        pair = propensities[fit, action] + propensities[fit, 0]
        effect, action_value = fit_effect(
            x[fit],
            value[fit],
            is_treated=is_action[fit],
            treated_propensity=propensities[fit, action] / pair,
            control_model=control_value,
            settings=trees,
        )
        cost_model = fit_regression(
            x[is_fit & is_action], logged.cost[is_fit & is_action], settings=trees
        )
        held = is_calibration & possible
        value_calibration, cost_calibration = _calibrate_action(
            logged.take(held), action, effect, action_value, control_value, cost_model
        )
        progress(
            f"{name}, action {action}: {n_rows} rows, mean value effect "
            f"{value_calibration.mean_effect:+.3f} (slope {value_calibration.slope:.2f}), mean "
            f"cost {cost_calibration.mean_effect:.3f} (slope {cost_calibration.slope:.2f})"
        )
        actions.append(
            ActionHead(
                action=action,
                n_rows=n_rows,
                is_supported=True,
                value=effect if value_calibration.slope > 0 else None,
                value_calibration=value_calibration,
                cost=cost_model if cost_calibration.slope > 0 else None,
                cost_calibration=cost_calibration,
            )
        )
    return LifecycleHead(name, control_value, tuple(actions))


def _calibrate_action(
    held: LoggedDecisions,
    action: int,
    effect: EffectModel,
    action_value: lgb.Booster,
    control_value: lgb.Booster,
    cost_model: lgb.Booster,
) -> tuple[Calibration, Calibration]:
    """Calibrate an action's value and cost effects on customers that fitted nothing."""
    x, propensities = held.contexts.context, held.logging_policy
    is_action, is_control = held.action == action, held.action == 0
    value_pseudo = doubly_robust_effect(
        held.value,
        is_action=is_action,
        is_control=is_control,
        action_propensity=propensities[:, action],
        control_propensity=propensities[:, 0],
        action_mean=np.asarray(action_value.predict(x, num_threads=1)),
        control_mean=np.asarray(control_value.predict(x, num_threads=1)),
    )
    predicted_cost = np.asarray(cost_model.predict(x, num_threads=1))
    cost_pseudo = doubly_robust_effect(
        held.cost,
        is_action=is_action,
        is_control=np.zeros_like(is_control),
        action_propensity=propensities[:, action],
        control_propensity=propensities[:, 0],
        action_mean=predicted_cost,
        control_mean=np.zeros(len(x)),
    )
    return (
        calibrate_effect(value_pseudo, effect.predict(x)),
        calibrate_effect(cost_pseudo, predicted_cost),
    )
