"""X-learner effects of one action against control, on logged propensities, with LightGBM."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np


@dataclass(frozen=True, kw_only=True)
class TreeSettings:
    """LightGBM settings shared by every model of a head; few leaves suit noisy effects."""

    n_trees: int = 80
    n_leaves: int = 6
    minimum_leaf_rows: int = 150
    learning_rate: float = 0.06
    seed: int = 1

    def to_params(self) -> dict[str, object]:
        """Return LightGBM parameters: one thread, deterministic."""
        return {
            "objective": "regression",
            "num_leaves": self.n_leaves,
            "min_data_in_leaf": self.minimum_leaf_rows,
            "learning_rate": self.learning_rate,
            "lambda_l2": 10.0,
            "max_bin": 63,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "seed": self.seed,
            "verbosity": -1,
        }


def fit_regression(
    context: np.ndarray, outcome: np.ndarray, *, settings: TreeSettings
) -> lgb.Booster:
    """Fit a boosted regression of an outcome on the context.

    Parameters
    ----------
    context : shape (n, d), NaN where unknown
        Features.
    outcome : shape (n,)
        Realised, in its unit.
    settings
        Tree settings.

    Returns
    -------
    lgb.Booster
        Predicts E[outcome | context].
    """
    dataset = lgb.Dataset(context, label=outcome, free_raw_data=True)
    return lgb.train(settings.to_params(), dataset, num_boost_round=settings.n_trees)


@dataclass(frozen=True)
class EffectModel:
    """tau(x) = g tau_control(x) + (1 - g) tau_treated(x), g the mean propensity of treatment.

    Kuenzel, Sekhon, Bickel, Yu (2019), PNAS 116(10), eq. 9.
    """

    tau_treated: lgb.Booster
    tau_control: lgb.Booster
    treated_share: float

    def predict(self, context: np.ndarray) -> np.ndarray:
        """Return the effect of the action against control, shape (n,), outcome's unit."""
        g = self.treated_share
        treated = np.asarray(self.tau_treated.predict(context, num_threads=1))
        control = np.asarray(self.tau_control.predict(context, num_threads=1))
        return g * control + (1 - g) * treated


def fit_effect(
    context: np.ndarray,
    outcome: np.ndarray,
    *,
    is_treated: np.ndarray,
    treated_propensity: np.ndarray,
    control_model: lgb.Booster,
    settings: TreeSettings,
) -> tuple[EffectModel, lgb.Booster]:
    """Fit the X-learner of one action against control.

    Imputed effects D1 = Y - mu_0(x) on the treated and D0 = mu_a(x) - Y on controls are each
    regressed on the context and combined by the propensity of treatment given that the row is
    one of the two. Valid under randomisation with the logged propensities.

    Parameters
    ----------
    context : shape (n, d)
        Rows that took the action or control.
    outcome : shape (n,)
        Realised, in its unit.
    is_treated : shape (n,), bool
        Which rows took the action.
    treated_propensity : shape (n,), in (0, 1)
        pi0(a | x) / (pi0(a | x) + pi0(0 | x)).
    control_model
        mu_0, fitted on all controls.
    settings
        Tree settings.

    Returns
    -------
    tuple
        The effect model, and mu_a.
    """
    treated, control = context[is_treated], context[~is_treated]
    action_model = fit_regression(treated, outcome[is_treated], settings=settings)
    imputed_treated = outcome[is_treated] - control_model.predict(treated, num_threads=1)
    imputed_control = action_model.predict(control, num_threads=1) - outcome[~is_treated]
    effect = EffectModel(
        tau_treated=fit_regression(treated, imputed_treated, settings=settings),
        tau_control=fit_regression(control, imputed_control, settings=settings),
        treated_share=float(treated_propensity.mean()),
    )
    return effect, action_model
