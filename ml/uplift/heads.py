"""Uplift heads: value and cost effects of every action, learned together."""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np

from ml.core.actions import ActionSet
from ml.core.contexts import Contexts
from ml.core.errors import ContractError, SupportError
from ml.core.hashing import hash_text
from ml.core.logged import LoggedDecisions
from ml.uplift.calibration import (
    Calibration,
    calibrate_effects,
    doubly_robust_effect,
    prove_means,
)
from ml.uplift.trees import TreeSettings, fit_regression, predict

N_FOLDS = 2
WINSOR_QUANTILE = 0.995

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LifecycleHead:
    """What one lifecycle's log supports, each of shape (K,).

    ``n_rows`` decisions that took the action where control was possible too; ``value_effect`` and
    ``cost_effect`` are calibrated means over the lifecycle's rows, currency per decision. An
    action has support with enough rows and a proven family; without it effects are 0 and it is
    never offered.
    """

    lifecycle: str
    n_rows: np.ndarray
    is_supported: np.ndarray
    value_effect: np.ndarray
    cost_effect: np.ndarray


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
    """Models of all actions, and what each lifecycle supports.

    ``baseline`` is m(x) = E[value | x] under the log's mean policy, ``value`` f(x, a) what the
    action adds to it, ``cost`` E[cost | x, a]; actions enter by ``descriptors``, shape (K, p).
    Calibrations are per action.
    """

    heads: tuple[LifecycleHead, ...]
    baseline: lgb.Booster
    value: lgb.Booster
    cost: lgb.Booster
    descriptors: np.ndarray
    value_calibration: tuple[Calibration, ...]
    cost_calibration: tuple[Calibration, ...]
    feature_names: tuple[str, ...]
    schema_hash: str

    @property
    def n_actions(self) -> int:
        """K, control included."""
        return len(self.descriptors)

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
        x, n = contexts.context, contexts.n_customers
        supported = np.zeros((n, self.n_actions), dtype=bool)
        has_head = np.zeros(n, dtype=bool)
        lifecycle = contexts.frame["lifecycle"].to_numpy()
        for head in self.heads:
            rows = lifecycle == head.lifecycle
            supported[rows], has_head = head.is_supported, has_head | rows
        supported[:, 0] = True
        if not n:
            shape = (0, self.n_actions)
            return Effects(np.zeros(0), np.zeros(shape), np.zeros(shape), supported)
        added = _predict_actions(self.value, x, self.descriptors)  # (n, K)
        value = _calibrate(added - added[:, :1], self.value_calibration)
        cost = _calibrate(_predict_actions(self.cost, x, self.descriptors), self.cost_calibration)
        return Effects(
            control_value=np.where(has_head, predict(self.baseline, x) + added[:, 0], 0.0),
            value_effect=np.where(supported, value, 0.0),
            cost_effect=np.where(supported, np.maximum(cost, 0.0), 0.0),
            supported=supported,
        )


def fit_uplift_heads(
    logged: LoggedDecisions,
    *,
    actions: ActionSet,
    minimum_support: int,
    seed: int,
    settings: TreeSettings | None = None,
    progress: Progress = lambda message: None,
) -> UpliftHeads:
    """Fit value and cost effects of all actions together.

    Value: the residual Y - m(x) regressed on (x, action), the action described by its family,
    channel, face value and name, so that offers that resemble each other share what is learned;
    the effect is f(x, a) - f(x, 0). Rows are weighted by mean propensity over propensity, which
    makes the log as if randomised alike for everybody: selection by x can't leak into the effect.
    Cost: E[cost | x, a], since cost without an offer is 0. Slopes are calibrated on out-of-fold
    predictions, customers kept together, so a family whose ranking other customers don't support
    uses constant effects, and is not offered at all unless its mean net value is proven positive.
    The value is winsorised at its 99.5 % quantile for learning alone.

    Parameters
    ----------
    logged
        Matured decisions of training customers alone, each with its full propensity vector.
    actions
        The action set of the log.
    minimum_support
        Fewest rows of an action in a lifecycle; below it the action is not offered there.
    seed
        Of trees and of the folds.
    settings
        Tree settings; None takes the defaults with this seed.
    progress
        Called with a line per step.

    Returns
    -------
    UpliftHeads
        With a head for each lifecycle that has enough controls.

    Raises
    ------
    SupportError
        If no lifecycle has ``minimum_support`` controls.
    """
    trees = settings or TreeSettings(seed=seed % 2**31)
    support = _count_support(logged, minimum_support, progress)
    if not support:
        raise SupportError(
            f"no lifecycle has {minimum_support} decisions without an offer: explore longer, "
            "or lower minimum_support in programme.json"
        )
    descriptors = describe_actions(actions)
    hashed = hash_text(logged.contexts.frame["customer_id"], salt=f"fold-{seed}")
    fold = (hashed % np.uint64(N_FOLDS)).astype(np.int64)
    oof = _Predictions.empty(logged.n_decisions, actions.n_actions)
    for held in range(N_FOLDS):
        models = _fit_models(logged.take(fold != held), descriptors, trees)
        rows = np.flatnonzero(fold == held)
        oof.fill(rows, models, logged.contexts.context[rows], descriptors)
        progress(f"fold {held + 1} of {N_FOLDS} fitted")
    value_calibration, cost_calibration, is_proven = _calibrate_families(logged, oof, actions)
    if not is_proven.all():
        unproven = [actions.action_ids[action] for action in np.flatnonzero(~is_proven)]
        progress(f"not offered, since neither ranking nor mean is proven: {', '.join(unproven)}")
    baseline, value, cost = _fit_models(logged, descriptors, trees)
    effects = _calibrate(oof.added - oof.added[:, :1], value_calibration)
    costs = np.maximum(_calibrate(oof.cost, cost_calibration), 0.0)
    lifecycle = logged.contexts.frame["lifecycle"].to_numpy()
    heads = []
    for name, (n_rows, has_rows) in support.items():
        rows, is_supported = lifecycle == name, has_rows & is_proven
        value_effect = np.where(is_supported, effects[rows].mean(axis=0), 0.0)
        cost_effect = np.where(is_supported, costs[rows].mean(axis=0), 0.0)
        heads.append(LifecycleHead(name, n_rows, is_supported, value_effect, cost_effect))
    return UpliftHeads(
        heads=tuple(heads),
        baseline=baseline,
        value=value,
        cost=cost,
        descriptors=descriptors,
        value_calibration=value_calibration,
        cost_calibration=cost_calibration,
        feature_names=logged.contexts.feature_names,
        schema_hash=logged.contexts.schema_hash,
    )


def describe_actions(actions: ActionSet) -> np.ndarray:
    """Return the actions as the models see them: alike where they are alike.

    Parameters
    ----------
    actions
        K actions.

    Returns
    -------
    np.ndarray
        Shape (K, p): face value, then one indicator per family, per channel and per offer;
        control has 0 in all.
    """
    is_offer = np.arange(actions.n_actions) > 0
    columns = [actions.face_values]
    for names in (actions.families, actions.channels, actions.action_ids):
        columns += [is_offer & (np.array(names) == level) for level in sorted(set(names[1:]))]
    return np.column_stack(columns)


@dataclass(frozen=True)
class _Predictions:
    """Out-of-fold predictions: m(x) of shape (n,), f(x, a) and E[cost | x, a] of shape (n, K)."""

    baseline: np.ndarray
    added: np.ndarray
    cost: np.ndarray

    @classmethod
    def empty(cls, n: int, n_actions: int) -> "_Predictions":
        return cls(np.zeros(n), np.zeros((n, n_actions)), np.zeros((n, n_actions)))

    def fill(
        self,
        rows: np.ndarray,
        models: tuple[lgb.Booster, lgb.Booster, lgb.Booster],
        context: np.ndarray,
        descriptors: np.ndarray,
    ) -> None:
        """Predict the given rows."""
        if not len(rows):
            return
        baseline, value, cost = models
        self.baseline[rows] = predict(baseline, context)
        self.added[rows] = _predict_actions(value, context, descriptors)
        self.cost[rows] = _predict_actions(cost, context, descriptors)


def _fit_models(
    logged: LoggedDecisions, descriptors: np.ndarray, trees: TreeSettings
) -> tuple[lgb.Booster, lgb.Booster, lgb.Booster]:
    """Fit m(x), f(x, a) and E[cost | x, a]."""
    x, taken = logged.contexts.context, logged.action
    value = np.minimum(logged.value, np.quantile(logged.value, WINSOR_QUANTILE))
    weights = logged.logging_policy.mean(axis=0)[taken] / logged.propensity
    baseline = fit_regression(x, value, weights=weights, settings=trees)
    described = np.column_stack([x, descriptors[taken]])
    # In-sample residuals would be too small where m fits chance; twelve leaves hardly can.
    residual = value - predict(baseline, x)
    added = fit_regression(described, residual, weights=weights, settings=trees)
    is_offer = taken > 0
    cost = fit_regression(
        described[is_offer], logged.cost[is_offer], weights=weights[is_offer], settings=trees
    )
    return baseline, added, cost


def _predict_actions(
    model: lgb.Booster, context: np.ndarray, descriptors: np.ndarray
) -> np.ndarray:
    """Return a model's prediction for every action, shape (n, K)."""
    n = len(context)
    return np.column_stack(
        [
            predict(model, np.column_stack([context, np.broadcast_to(each, (n, len(each)))]))
            for each in descriptors
        ]
    )


def _calibrate(effects: np.ndarray, calibrations: tuple[Calibration, ...]) -> np.ndarray:
    """Return calibrated effects, shape (n, K); control's are 0."""
    columns = [each.apply(effects[:, action]) for action, each in enumerate(calibrations)]
    return np.column_stack(columns)


def _count_support(
    logged: LoggedDecisions, minimum_support: int, progress: Progress
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return rows and support per action of each lifecycle with enough controls."""
    lifecycle = logged.contexts.frame["lifecycle"].to_numpy()
    policy = logged.logging_policy
    # Both arms must have been possible, else the comparison has no common ground.
    possible = (policy > 0) & (policy[:, :1] > 0)
    taken = np.eye(policy.shape[1], dtype=bool)[logged.action] & possible
    support = {}
    for name in sorted(set(lifecycle)):
        n_rows = taken[lifecycle == name].sum(axis=0)
        if n_rows[0] < minimum_support:
            progress(f"{name}: {n_rows[0]} controls, fewer than {minimum_support}: no head")
            continue
        support[str(name)] = n_rows, n_rows >= minimum_support
    return support


def _calibrate_families(
    logged: LoggedDecisions, oof: _Predictions, actions: ActionSet
) -> tuple[tuple[Calibration, ...], tuple[Calibration, ...], np.ndarray]:
    """Calibrate value and cost effects, one slope per family; say which offers are proven.

    An offer is proven if its family's ranking is (slope above 0) or its mean net value is.
    """
    policy, n_actions = logged.logging_policy, actions.n_actions
    is_taken = np.eye(n_actions, dtype=bool)[logged.action]
    expected = oof.baseline[:, None] + oof.added
    value, cost = np.zeros_like(policy), np.zeros_like(policy)
    possible = (policy > 0) & (policy[:, :1] > 0)
    for action in range(1, n_actions):
        rows = possible[:, action]
        shared = {
            "is_action": is_taken[rows, action],
            "action_propensity": policy[rows, action],
            "control_propensity": policy[rows, 0],
        }
        value[rows, action] = doubly_robust_effect(
            logged.value[rows],
            **shared,
            is_control=is_taken[rows, 0],
            action_mean=expected[rows, action],
            control_mean=expected[rows, 0],
        )
        cost[rows, action] = doubly_robust_effect(
            logged.cost[rows],
            **shared,
            is_control=np.zeros(int(rows.sum()), dtype=bool),
            action_mean=oof.cost[rows, action],
            control_mean=np.zeros(int(rows.sum())),
        )
    value_effect = oof.added - oof.added[:, :1]
    families, customer = actions.families, logged.customer
    ranked = calibrate_effects(value, value_effect, possible, families=families, customer=customer)
    is_proven = prove_means(value - cost, possible, families=families, customer=customer)
    is_proven |= np.array([each.slope > 0 for each in ranked])
    return (
        ranked,
        calibrate_effects(cost, oof.cost, possible, families=families, customer=customer),
        is_proven,
    )
