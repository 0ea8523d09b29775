"""What learners are fitted on: one outcome of randomised decisions, binned once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ml.uplift.trees import Binned, bin_decisions

WINSOR_QUANTILE = 0.995


@dataclass(frozen=True)
class Sample:
    """n decisions with one outcome.

    Attributes
    ----------
    context : shape (n, d), NaN where unknown
    descriptors : shape (K, p); the actions, control all 0
    action : shape (n,), int
    logging_policy : shape (n, K)
    outcome : shape (n,), currency
    fold : shape (n,), int; of the customer, for cross-fitting inside a learner
    is_in_scope : shape (n,), bool; the rows to learn from
    is_zero_without_offer : whether control's outcome is 0 by construction, as cost's is
    n_belief : the last columns of ``context`` that are a belief; trees don't split on them
    """

    context: np.ndarray
    descriptors: np.ndarray
    action: np.ndarray
    logging_policy: np.ndarray
    outcome: np.ndarray
    fold: np.ndarray
    is_in_scope: np.ndarray
    is_zero_without_offer: bool
    n_belief: int = 0

    @property
    def n_rows(self) -> int:
        """Decisions, n."""
        return len(self.action)

    @property
    def n_actions(self) -> int:
        """K, control included."""
        return len(self.descriptors)

    @cached_property
    def binned(self) -> Binned:
        """The decisions, binned."""
        seen = self.context
        if self.n_belief:
            # Constant columns keep their place and are never split on.
            seen = seen.copy()
            seen[:, -self.n_belief :] = 0.0
        return bin_decisions(seen, self.descriptors[self.action])

    @property
    def belief(self) -> np.ndarray:
        """What the world model makes of each row, shape (n, n_belief); NaN where unknown."""
        return self.context[:, self.context.shape[1] - self.n_belief :]

    @cached_property
    def is_possible(self) -> np.ndarray:
        """Where the log could have taken the action, and control too, shape (n, K), bool."""
        return (self.logging_policy > 0) & (self.logging_policy[:, :1] > 0)

    @cached_property
    def is_usable(self) -> np.ndarray:
        """Which rows are learned from: the scope's, of offers alone where control's is 0; (n,)."""
        return self.is_in_scope & ((self.action > 0) | (not self.is_zero_without_offer))

    @cached_property
    def weights(self) -> np.ndarray:
        """Mean propensity of the taken action over its own, 0 for unusable rows, shape (n,).

        They make the log as if each action had been randomised alike for everybody.
        """
        own = self.logging_policy[np.arange(self.n_rows), self.action]
        return self.is_usable * self.logging_policy.mean(axis=0)[self.action] / own

    @cached_property
    def capped(self) -> np.ndarray:
        """The outcome, capped at its 99.5 % quantile for learning, shape (n,)."""
        return np.minimum(self.outcome, np.quantile(self.outcome[self.is_usable], WINSOR_QUANTILE))

    def restrict(self, rows: np.ndarray) -> "Sample":
        """Return the sample that learns from fewer rows, shape (n,), bool; bins are shared."""
        return self._share(replace(self, is_in_scope=self.is_in_scope & rows))

    def with_outcome(self, outcome: np.ndarray, *, is_zero_without_offer: bool) -> "Sample":
        """Return the same decisions with another outcome, shape (n,); bins are shared."""
        return self._share(
            replace(self, outcome=outcome, is_zero_without_offer=is_zero_without_offer)
        )

    def _share(self, other: "Sample") -> "Sample":
        other.__dict__["binned"] = self.binned
        return other


Scores = Mapping[str, np.ndarray]
"""Raw scores by forest name; shape (n, K), or (n,) where the action plays no part.

Under ``CONTEXT`` stands what they are of, shape (n, d).
"""
CONTEXT = "context"


def refuse_zero_control(sample: Sample) -> str:
    """Return why a learner of differences to control is none for a cost; empty if it is one."""
    if sample.is_zero_without_offer:
        return "without an offer it is 0: its mean is its effect, and an ordinary regression"
    return ""
