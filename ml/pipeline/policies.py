"""The policies that the gate can judge: the lifecycle rule, the uplift policy, exploration."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ml.allocation.budget import UNLIMITED, BudgetCut, cut_probabilities
from ml.allocation.depths import order_by_depth
from ml.allocation.limits import LimitedCut, limit_probabilities
from ml.allocation.pruning import PrunedPairs, prune_by_economics
from ml.core.actions import ActionSet
from ml.core.contexts import Contexts, build_contexts
from ml.core.errors import BudgetError, ContractError
from ml.core.policy import FROZEN, explore
from ml.core.programme import Attribute, Programme
from ml.uplift.heads import Effects, UpliftHeads

TREE = "tree"
"""Kind of the policies of ``ml.pipeline.tree_policy``."""


@dataclass(frozen=True)
class Scores:
    """What a policy thinks of every customer and action, each of shape (n, K).

    ``reward`` is what the budget is spent for; ``pruned`` says which pairs are left out and why,
    those that are not eligible apart; ``value_effect`` and ``cost_effect`` are expected, currency
    per decision, column 0 = 0.
    """

    reward: np.ndarray
    eligible: np.ndarray
    pruned: PrunedPairs
    value_effect: np.ndarray
    cost_effect: np.ndarray

    @property
    def allowed(self) -> np.ndarray:
        """Which pairs may get the budget, shape (n, K), bool."""
        return np.asarray(self.eligible & self.pruned.is_kept)


class Scorer(Protocol):
    """Scores customers and actions; the budget is none of its business."""

    @property
    def kind(self) -> str:
        """Name in reports and in policy.json."""
        ...

    @property
    def uplift(self) -> "UpliftScorer | None":
        """Its effects over the learning horizon, None of a rule, which learned none."""
        ...

    @property
    def belief_version(self) -> str | None:
        """World model whose beliefs it must be given, None if it needs none."""
        ...

    @property
    def needs_histories(self) -> bool:
        """Whether it asks of histories."""
        ...

    def stand_on(self, uplift: "UpliftScorer") -> "Scorer":
        """Return it with other effects under it; a rule stands on none."""
        ...

    def score(self, contexts: Contexts) -> Scores:
        """Return scores of n customers."""
        ...


@dataclass(frozen=True)
class LifecycleRule:
    """The classical rule: past the inactivity threshold, send the fixed reactivation offer.

    The longer a customer is inactive, the sooner the budget reaches them. Effects are the offers'
    mean ones among active (row 0) and inactive (row 1) customers, shape (2, K); the rule knows no
    others.
    """

    reactivation_action: int
    inactivity_days: int
    mean_value_effect: np.ndarray
    mean_cost_effect: np.ndarray

    @property
    def kind(self) -> str:
        """Name in reports."""
        return "lifecycle_rule"

    @property
    def uplift(self) -> None:
        """None: a rule learned nothing."""
        return None

    @property
    def belief_version(self) -> None:
        """None."""
        return None

    @property
    def needs_histories(self) -> bool:
        """No."""
        return False

    def stand_on(self, uplift: "UpliftScorer") -> "LifecycleRule":
        """Return itself."""
        return self

    def score(self, contexts: Contexts) -> Scores:
        """Score by days of inactivity; days since sign-up where there was no purchase."""
        days = count_inactive_days(contexts)
        is_inactive = days > self.inactivity_days
        shape = contexts.eligible.shape
        reward, is_meant = np.zeros(shape), np.zeros(shape, dtype=bool)
        reward[:, self.reactivation_action] = days
        is_meant[:, self.reactivation_action] = is_inactive
        pruned = PrunedPairs(*shape)
        pruned.mark(~is_meant, "not_in_rule")
        group = is_inactive.astype(int)
        return Scores(
            reward,
            contexts.eligible,
            pruned,
            self.mean_value_effect[group],
            self.mean_cost_effect[group],
        )


def count_inactive_days(contexts: Contexts) -> np.ndarray:
    """Return days since the last purchase, or since sign-up without one, shape (n,)."""
    days = contexts.frame["days_since_purchase"].fill_null(contexts.frame["tenure_days"])
    return days.to_numpy().astype(float)


@dataclass(frozen=True)
class Guardrails:
    """How far effects are trusted, and what a pair must promise at least.

    ``caution``: standard deviations of the value effect over resamples that are taken off it
    (against the optimiser's curse); ``least_return``: net value per unit of cost that the dearest
    offer must bring; ``most_cost_per_value`` of a pair; ``depths`` as of ``group_depths``;
    ``least_plausibility`` of a customer's day to the world model, where the heads know one.
    """

    caution: float = 0.0
    least_return: float = 0.0
    most_cost_per_value: float | None = None
    depths: tuple[tuple[int, ...], ...] = ()
    least_plausibility: float = 0.0

    def reward(self, value_bound: np.ndarray, cost_effect: np.ndarray) -> np.ndarray:
        """Return what the budget is spent for: net value beyond the least return, shape (n, K)."""
        return np.asarray(value_bound - (1 + self.least_return) * cost_effect)


@dataclass(frozen=True)
class UpliftScorer:
    """Net value effect per customer and action; pairs that can't pay are pruned.

    ``fallback_cost``, shape (K,), stands for the cost of actions without a supported head, which
    exploration still takes. ``later_effect``, shape (K,): what each action brings after the
    learning horizon, which the objective counts. Offers whose reward is not above
    ``least_reward``, currency, are pruned too: it keeps the policy from sending more than the log
    ever did.
    """

    heads: UpliftHeads
    fallback_cost: np.ndarray
    later_effect: np.ndarray
    least_reward: float = 0.0
    guardrails: Guardrails = Guardrails()

    @property
    def kind(self) -> str:
        """Name in reports."""
        return "uplift"

    @property
    def uplift(self) -> "UpliftScorer":
        """Itself."""
        return self

    @property
    def belief_version(self) -> str | None:
        """Of its heads."""
        return self.heads.belief_version

    @property
    def needs_histories(self) -> bool:
        """No."""
        return False

    def stand_on(self, uplift: "UpliftScorer") -> "UpliftScorer":
        """Return the other."""
        return uplift

    def score(self, contexts: Contexts) -> Scores:
        """Score by predicted value effect, less what caution takes off, minus cost effect."""
        effects = self.predict(contexts)
        whole = effects.value_effect + self.later_effect
        bound = whole - self.guardrails.caution * effects.value_spread
        return self.weigh_pairs(contexts, effects, whole=whole, bound=bound)

    def predict(self, contexts: Contexts, *, needs_proof: bool = True) -> Effects:
        """Return the heads' effects; where told so, deeper offers' not below shallower ones'."""
        effects = self.heads.predict(contexts, needs_proof=needs_proof)
        depths = self.guardrails.depths
        return replace(
            effects,
            value_effect=order_by_depth(effects.value_effect, depths, effects.supported),
            cost_effect=order_by_depth(effects.cost_effect, depths, effects.supported),
        )

    def weigh_pairs(
        self, contexts: Contexts, effects: Effects, *, whole: np.ndarray, bound: np.ndarray
    ) -> Scores:
        """Return the scores of pairs by what they bring.

        Parameters
        ----------
        contexts
            Of n customers.
        effects
            Of ``predict``: over the learning horizon.
        whole : shape (n, K), currency
            Value effects with all that comes later, cost of later offers taken off.
        bound : shape (n, K), currency
            The same, cautiously: what the budget is spent for.

        Returns
        -------
        Scores
            Pairs that can't pay are pruned.
        """
        rails, cost = self.guardrails, effects.cost_effect
        reward = rails.reward(bound, cost)
        pruned = PrunedPairs(*reward.shape)
        is_odd = contexts.find_odd(self.heads.belief_version, least=rails.least_plausibility)
        # Effects of such customers were hardly seen: they are left to exploration.
        pruned.mark(is_odd[:, None], "implausible")
        prune_by_economics(
            pruned,
            value_bound=bound,
            value_effect=whole,
            cost_effect=cost,
            supported=effects.supported,
            reward=reward,
            least_reward=self.least_reward,
            most_cost_per_value=rails.most_cost_per_value,
        )
        cost = np.where(effects.supported, cost, self.fallback_cost)
        return Scores(reward, contexts.eligible, pruned, effects.value_effect, cost)


@dataclass(frozen=True)
class BudgetedPolicy:
    """A scorer, the cut at which its budget ends, and exploration: a policy.

    Frozen, it is what the gate values; ``ml.pipeline.spending`` solves the cut anew for tonight's
    customers. It
    carries the actions and attributes that it was fitted with, and encodes features by them, so
    it goes on deciding after an offer or an attribute was added.
    """

    scorer: Scorer
    actions: ActionSet
    attributes: tuple[Attribute, ...]
    schema_hash: str
    floor: float
    cut: BudgetCut | LimitedCut = UNLIMITED

    @property
    def kind(self) -> str:
        """Name in reports."""
        return self.scorer.kind

    @property
    def belief_version(self) -> str | None:
        """World model whose beliefs it must be given, None if it needs none."""
        return self.scorer.belief_version

    @property
    def needs_histories(self) -> bool:
        """Whether rows must carry histories."""
        return self.scorer.needs_histories

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return the policy as deployed: cut, pruned, explored; shape (n, K)."""
        return self.mix(self.scorer.score(contexts), contexts)

    def mix(self, scores: Scores, contexts: Contexts) -> np.ndarray:
        """Return the policy of scored customers, shape (n, K)."""
        if isinstance(self.cut, LimitedCut):
            target = limit_probabilities(
                scores.reward,
                scores.cost_effect,
                scores.allowed,
                cut=self.cut,
                segment=contexts.lifecycle_index,
            )
        else:
            target = cut_probabilities(
                scores.reward, scores.cost_effect, scores.allowed, cut=self.cut
            )
        return explore(target, contexts.eligible, floor=self.floor)


@dataclass(frozen=True)
class AlignedPolicy:
    """A policy seen through another action set, for a log with offers that it doesn't know.

    It encodes the features its own way and gives unknown actions probability 0.
    """

    policy: BudgetedPolicy
    actions: ActionSet
    programme: Programme

    @property
    def kind(self) -> str:
        """Name in reports."""
        return self.policy.kind

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return shape (n, K) over ``actions``, rows sum to 1.

        Raises
        ------
        ContractError
            If the policy knows an action that ``actions`` lacks.
        """
        seen, columns = self._see(contexts)
        aligned = np.zeros(contexts.eligible.shape)
        aligned[:, columns] = self.policy.probabilities(seen)
        return aligned

    def score(self, contexts: Contexts) -> Scores:
        """Return the policy's scores over ``actions``; unknown ones are not allowed.

        Raises
        ------
        ContractError
            If the policy knows an action that ``actions`` lacks.
        """
        seen, columns = self._see(contexts)
        own = self.policy.scorer.score(seen)
        shape = contexts.eligible.shape
        reward, value, cost = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        reward[:, columns] = own.reward
        value[:, columns], cost[:, columns] = own.value_effect, own.cost_effect
        pruned = PrunedPairs(*shape)
        pruned.codes[:, columns] = own.pruned.codes
        pruned.mark(~np.isin(np.arange(shape[1]), columns), "thin_support")
        return Scores(reward, contexts.eligible, pruned, value, cost)

    def _see(self, contexts: Contexts) -> tuple[Contexts, list[int]]:
        """Return the contexts as the policy encodes them, and its actions' columns."""
        own = self.policy.actions.action_ids
        lacking = sorted(set(own) - set(self.actions.action_ids))
        if lacking:
            raise ContractError(f"the action catalogue lacks {lacking}, which the policy offers")
        columns = [self.actions.action_ids.index(action) for action in own]
        encoded = build_contexts(
            contexts.frame,
            programme=replace(self.programme, attributes=self.policy.attributes),
            actions=self.policy.actions,
        )
        return replace(encoded, eligible=contexts.eligible[:, columns]), columns


@dataclass(frozen=True)
class ExplorationOnly:
    """Before anything is learned: random offers, as many as the budget surely covers.

    A customer with K eligible actions gets no-offer with 1/K, and offers share the rest by
    ``weights``, shape (K,); costs are taken at their declared most, face value plus message.
    """

    actions: ActionSet
    floor: float
    budget_per_decision: float
    weights: np.ndarray

    @property
    def kind(self) -> str:
        """Name in reports."""
        return "exploration_only"

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return shape (n, K), rows sum to 1.

        Raises
        ------
        BudgetError
            If exploration at the floor may cost more than the budget.
        """
        eligible = contexts.eligible
        evenly = (np.arange(eligible.shape[1]) > 0).astype(float)
        # The skew gives way where it would take an offer below the floor.
        for weights in (self.weights, np.sqrt(self.weights), evenly):
            policy = self._share(eligible, weights)
            if policy[eligible].min(initial=1.0) >= self.floor:
                return policy
        raise BudgetError(
            f"the budget of {self.budget_per_decision:.2f} per decision can't pay for "
            f"exploration at propensity_floor {self.floor}: raise the one or lower the other"
        )

    def _share(self, eligible: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return probabilities by weights, as many offers as the budget pays; (n, K)."""
        counts = eligible.sum(axis=1, keepdims=True)  # (n, 1)
        offers = eligible * weights
        total_weight = np.maximum(offers.sum(axis=1, keepdims=True), 1e-12)
        skewed = (counts - 1) / counts * offers / total_weight
        skewed[:, 0] = 1 / counts[:, 0]
        most = self.actions.face_values + self.actions.message_costs  # (K,)
        affordable = self.budget_per_decision * len(eligible)
        total = float((skewed * most).sum())
        share = min(1.0, affordable / total) if total > 0 else 1.0
        control = np.zeros(eligible.shape)
        control[:, 0] = 1.0
        return np.asarray(share * skewed + (1 - share) * control)


@dataclass(frozen=True)
class NoOffers:
    """While the programme is frozen: nobody gets anything."""

    actions: ActionSet

    @property
    def kind(self) -> str:
        """Name in reports."""
        return FROZEN

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return shape (n, K), no-offer with certainty."""
        policy = np.zeros(contexts.eligible.shape)
        policy[:, 0] = 1.0
        return policy
