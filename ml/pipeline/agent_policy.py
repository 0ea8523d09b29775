"""Decide: an agent's policy, whose offers are worth what all decisions that follow make of them."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ml.core.contexts import Contexts
from ml.core.errors import ContractError
from ml.pipeline.policies import Scores, UpliftScorer


class Advantages(Protocol):
    """Something that knows what actions add in the long run, such as ``ml.control.agent.Agent``.

    It learned under ``price``, reward per unit of cost; ``discount`` is the next decision's.
    """

    @property
    def price(self) -> float:
        """Reward per unit of cost."""
        ...

    @property
    def discount(self) -> float:
        """Of the next decision's value."""
        ...

    def find_advantages(self, state: np.ndarray) -> np.ndarray:
        """Return what each action adds over no offer, shape (n, K), currency, 0 for no offer."""
        ...


@dataclass(frozen=True)
class StateEncoder:
    """How contexts become an agent's states: signed logarithms, and marks of what is unknown.

    ``feature_names`` (d) are those of the contexts, beliefs among them where the heads use some;
    ``fill``, shape (d,), stands for what is unknown; ``can_lack``, shape (d,), bool, says which
    features were unknown somewhere: each adds a mark.
    """

    feature_names: tuple[str, ...]
    fill: np.ndarray
    can_lack: np.ndarray

    def encode(self, contexts: Contexts) -> np.ndarray:
        """Return states, shape (n, F), float32.

        Raises
        ------
        ContractError
            If the contexts have other features.
        """
        if contexts.feature_names != self.feature_names:
            raise ContractError(
                "the agent was trained on other features: train it anew (make agent), or score "
                "with the programme that it was trained with"
            )
        lacks = np.isnan(contexts.context)
        filled = np.where(lacks, self.fill, contexts.context)
        scaled = np.sign(filled) * np.log1p(np.abs(filled))
        return np.column_stack([scaled, lacks[:, self.can_lack]]).astype(np.float32)


def fit_encoder(contexts: Contexts) -> StateEncoder:
    """Return an encoder for an agent that learns from such contexts: medians fill."""
    lacks = np.isnan(contexts.context)
    known = np.where(lacks.all(axis=0), 0.0, contexts.context)
    return StateEncoder(contexts.feature_names, np.nanmedian(known, axis=0), lacks.any(axis=0))


@dataclass(frozen=True)
class AgentScorer:
    """Net value per customer and action in the long run, of an agent; the rest is ``uplift``'s.

    Cost, support, guardrails and what the gate expects of a week come from the heads of ``uplift``;
    what the budget is spent for comes from the agent. It learned under a price of cost; tonight's
    is given back, since the budget itself pays for it.
    """

    uplift: UpliftScorer
    agent: Advantages
    encoder: StateEncoder

    @property
    def kind(self) -> str:
        """Name in reports."""
        return "agent"

    @property
    def belief_version(self) -> str | None:
        """Of its heads."""
        return self.uplift.belief_version

    @property
    def needs_histories(self) -> bool:
        """No."""
        return False

    def stand_on(self, uplift: UpliftScorer) -> "AgentScorer":
        """Return it on other heads."""
        return replace(self, uplift=uplift)

    def encode(self, contexts: Contexts) -> np.ndarray:
        """Return the agent's states, shape (n, F)."""
        return self.encoder.encode(self.uplift.heads.see(contexts))

    def score(self, contexts: Contexts) -> Scores:
        """Score by the agent's advantages over no offer, tonight's cost given back at its price."""
        # What an offer brings later may be worth it where nothing is proven of its week.
        effects = self.uplift.predict(contexts, needs_proof=False)
        advantage = self.agent.find_advantages(self.encode(contexts))
        whole = advantage + (1 + self.agent.price) * effects.cost_effect
        scores = self.uplift.weigh_pairs(contexts, effects, whole=whole, bound=whole)
        is_proven = self.uplift.heads.find_support(contexts.frame["lifecycle"].to_numpy())
        # Reported, and expected by the gate, is what is proven of the week.
        return replace(scores, value_effect=np.where(is_proven, scores.value_effect, 0.0))
