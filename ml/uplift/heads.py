"""Uplift heads as fitted: which learner serves a lifecycle, calibrated how."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml.core.contexts import BELIEF_UNIT, Contexts
from ml.core.errors import ContractError
from ml.uplift.calibration import Calibration
from ml.uplift.ensemble import EffectEstimate, Ensemble, summarise_members
from ml.uplift.forest import Forest, score_forests
from ml.uplift.report import HeadReport

OUTCOMES = ("value", "cost")
UNPROVEN = "neither its family's ranking nor its mean is proven"


@dataclass(frozen=True)
class OutcomeHead:
    """One lifecycle's effects on one outcome.

    ``candidate`` is what was chosen, ``mixture`` the ensembles it stands for with their weights;
    ``calibrations`` and ``effect``, shape (K,), are per action, the latter the mean over the
    lifecycle's rows, currency per decision. Slope 0: the head abstains, everybody gets the mean.
    """

    candidate: str
    mixture: Mapping[str, float]
    calibrations: tuple[Calibration, ...]
    effect: np.ndarray


@dataclass(frozen=True)
class LifecycleHead:
    """What one lifecycle's log supports.

    ``n_rows``, shape (K,): decisions that took the action where control was possible too. An
    action has support with enough rows, of its own or its family's, and a proven family;
    ``refusals`` say why one has none, and are empty else. Without support effects are 0 and the
    action is never offered.
    """

    lifecycle: str
    n_rows: np.ndarray
    refusals: tuple[str, ...]
    outcomes: Mapping[str, OutcomeHead]

    @property
    def is_supported(self) -> np.ndarray:
        """Which actions have support, shape (K,), bool."""
        return np.array([not refusal for refusal in self.refusals])

    @property
    def is_logged(self) -> np.ndarray:
        """Which actions have rows enough, whatever is proven of them, shape (K,), bool."""
        return np.array([refusal in ("", UNPROVEN) for refusal in self.refusals])


@dataclass(frozen=True)
class Effects:
    """Predictions for n customers, currency per decision.

    ``control_value`` has shape (n,); ``value_effect`` and ``cost_effect`` (n, K), column 0 = 0,
    and their ``spread`` over resamples; ``supported`` (n, K), bool.
    """

    control_value: np.ndarray
    value_effect: np.ndarray
    cost_effect: np.ndarray
    value_spread: np.ndarray
    cost_spread: np.ndarray
    supported: np.ndarray

    @property
    def expected_value(self) -> np.ndarray:
        """E[value | x, a], shape (n, K)."""
        return self.control_value[:, None] + self.value_effect


@dataclass(frozen=True)
class OutcomeModel:
    """E[value | x, no-offer] = baseline(x) + added(x, 0), for doubly robust evaluation."""

    baseline: Forest
    added: Forest

    def predict_control(self, context: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
        """Return the mean value without an offer, shape (n,)."""
        baseline, added = score_forests([self.baseline, self.added], context, descriptors)
        return baseline + (added[:, 0] if added.ndim > 1 else added)


@dataclass(frozen=True)
class UpliftHeads:
    """Fitted learners, and which serves which lifecycle.

    ``descriptors`` has shape (K, p); ``belief_version``: of the world model whose beliefs are among
    the features, None without; ``caution``: standard deviations that a policy should take off value
    effects; ``report`` serves people, not predictions.
    """

    heads: tuple[LifecycleHead, ...]
    ensembles: Mapping[str, Ensemble]
    outcome_model: OutcomeModel
    descriptors: np.ndarray
    feature_names: tuple[str, ...]
    schema_hash: str
    report: HeadReport
    caution: float = 0.0
    belief_version: str | None = None

    @property
    def n_actions(self) -> int:
        """K, control included."""
        return len(self.descriptors)

    def see(self, contexts: Contexts) -> Contexts:
        """Return contexts with the beliefs that the heads were fitted with, if with any."""
        size = sum(name.startswith(BELIEF_UNIT) for name in self.feature_names)
        return contexts.see_belief(self.belief_version, size=size)

    def predict(self, contexts: Contexts, *, needs_proof: bool = True) -> Effects:
        """Predict effects.

        Parameters
        ----------
        contexts
            n customers.
        needs_proof
            Whether actions of which nothing is proven lack support, or only those without rows:
            for who has other reasons to send them.

        Returns
        -------
        Effects
            In their order. A lifecycle without a head gets effects 0 and no support.

        Raises
        ------
        ContractError
            If the contexts' schema hash is another than the heads', or their beliefs are of another
            version of the world model.
        """
        contexts = self.see(contexts)
        if contexts.schema_hash != self.schema_hash:
            raise ContractError(
                f"features have schema {contexts.schema_hash}, the heads were fitted on "
                f"{self.schema_hash}: retrain, or score with the programme they were fitted with"
            )
        lifecycle = contexts.frame["lifecycle"].to_numpy()
        supported = self.find_support(lifecycle, needs_proof=needs_proof)
        has_head = np.isin(lifecycle, [head.lifecycle for head in self.heads])
        value = self.predict_outcome("value", contexts.context, lifecycle)
        cost = self.predict_outcome("cost", contexts.context, lifecycle)
        control = self.outcome_model.predict_control(contexts.context, self.descriptors)
        return Effects(
            control_value=np.where(has_head, control, 0.0),
            value_effect=np.where(supported, value.mean, 0.0),
            cost_effect=np.where(supported, np.maximum(cost.mean, 0.0), 0.0),
            value_spread=np.where(supported, value.spread, 0.0),
            cost_spread=np.where(supported, cost.spread, 0.0),
            supported=supported,
        )

    def find_support(self, lifecycle: np.ndarray, *, needs_proof: bool = True) -> np.ndarray:
        """Return which actions have support for customers of lifecycles (n,): (n, K), bool."""
        supported = np.zeros((len(lifecycle), self.n_actions), dtype=bool)
        for head in self.heads:
            known = head.is_supported if needs_proof else head.is_logged
            supported[lifecycle == head.lifecycle] = known
        supported[:, 0] = True
        return supported

    def predict_outcome(
        self, outcome: str, context: np.ndarray, lifecycle: np.ndarray
    ) -> EffectEstimate:
        """Predict calibrated effects on one outcome, of actions without support too.

        Parameters
        ----------
        outcome
            'value' or 'cost'.
        context : shape (n, d), NaN where unknown
            Features, as fitted.
        lifecycle : shape (n,)
            Names; one without a head gets 0.

        Returns
        -------
        EffectEstimate
            Mean over resamples and spread.
        """
        effects, spread = np.zeros((2, len(context), self.n_actions))
        for head in self.heads:
            rows = lifecycle == head.lifecycle
            if not rows.any():
                continue
            own = head.outcomes[outcome]
            members = sum(
                weight * self.ensembles[name].predict_members(context[rows], self.descriptors)
                for name, weight in own.mixture.items()
            )  # (B, m, K)
            estimate = summarise_members(np.asarray(members))
            mean, centre, slope = np.array(
                [(each.mean_effect, each.tau_mean, each.slope) for each in own.calibrations]
            ).T
            effects[rows] = mean + slope * (estimate.mean - centre)
            spread[rows] = slope * estimate.spread
        return EffectEstimate(effects, spread)
