"""A learner, and the ensemble that it is fitted as: shared parts once, members on resamples."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ml.core.errors import SupportError
from ml.uplift.forest import Forest, score_forests
from ml.uplift.sample import CONTEXT, Sample, Scores
from ml.uplift.trees import TreeSettings

Forests = Mapping[str, Forest]


@dataclass(frozen=True)
class Part:
    """Forests, and constants such as each action's mean, by name."""

    forests: Forests = field(default_factory=dict)
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """What all members share: a part that is kept, and arrays per row that serve fitting alone."""

    part: Part = field(default_factory=Part)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Learner:
    """One way to estimate effects, in three functions.

    ``prepare(sample, settings)`` fits what members share. ``fit_member(sample, prepared, counts,
    settings)`` fits one member; counts, shape (n,), say how often a resample holds each row.
    ``combine(scores, numbers, shape)`` turns raw scores and constants, shared and own, into means
    or effects of that shape, (n, K): what counts is the difference to column 0.

    ``refuse(sample)`` says why a sample is none for this learner; empty if it is one.
    ``is_pooled_only``: a lifecycle's rows alone are nothing to try it on.
    """

    name: str
    combine: Callable[[Scores, Mapping[str, np.ndarray], tuple[int, int]], np.ndarray]
    fit_member: Callable[[Sample, Prepared, np.ndarray, TreeSettings], Part] = (
        lambda sample, prepared, counts, settings: Part()
    )
    prepare: Callable[[Sample, TreeSettings], Prepared] = lambda sample, settings: Prepared()
    refuse: Callable[[Sample], str] = lambda sample: ""
    is_pooled_only: bool = False


@dataclass(frozen=True)
class EffectEstimate:
    """Effects, shape (n, K), currency, column 0 = 0: the members' mean, and their spread.

    ``spread`` is the standard deviation over members, 0 for a single one.
    """

    mean: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Ensemble:
    """A fitted learner."""

    learner: Learner
    shared: Part
    members: tuple[Part, ...]
    is_zero_without_offer: bool

    def predict(self, context: np.ndarray, descriptors: np.ndarray) -> EffectEstimate:
        """Predict effects.

        Parameters
        ----------
        context : shape (n, d), NaN where unknown
            Features, as fitted.
        descriptors : shape (K, p)
            The actions, as fitted.

        Returns
        -------
        EffectEstimate
            In the order of ``context``.
        """
        return summarise_members(self.predict_members(context, descriptors))

    def predict_members(self, context: np.ndarray, descriptors: np.ndarray) -> np.ndarray:
        """Predict effects by each member, shape (B, n, K); same parameters as ``predict``."""
        parts = (self.shared, *self.members)
        forests = [forest for part in parts for forest in part.forests.values()]
        scores = iter(score_forests(forests, context, descriptors))
        shared = {CONTEXT: context, **{name: next(scores) for name in self.shared.forests}}
        shape = len(context), len(descriptors)
        effects = np.empty((len(self.members), *shape))
        for number, member in enumerate(self.members):
            own = {name: next(scores) for name in member.forests}
            numbers = {**self.shared.numbers, **member.numbers}
            means = self.learner.combine({**shared, **own}, numbers, shape)
            control = 0.0 if self.is_zero_without_offer else means[:, :1]
            effects[number] = means - control
        effects[:, :, 0] = 0.0
        return effects


def summarise_members(effects: np.ndarray) -> EffectEstimate:
    """Return mean and spread over members of effects, shape (B, n, K)."""
    return EffectEstimate(effects.mean(axis=0), effects.std(axis=0, ddof=min(1, len(effects) - 1)))


def spread_over_actions(scores: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return scores of shape (n, K); a forest that never split on the action has but (n,)."""
    return np.broadcast_to(scores if scores.ndim > 1 else scores[:, None], shape)


def stack_actions(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    """Combine forests 'effect_<action>' to effects; 0 for an action without one."""
    nothing = np.zeros(shape[0])
    return np.column_stack([scores.get(f"effect_{action}", nothing) for action in range(shape[1])])


def fit_ensemble(
    learner: Learner,
    sample: Sample,
    *,
    settings: TreeSettings,
    resamples: Sequence[np.ndarray] | None = None,
    n_threads: int = 1,
) -> Ensemble:
    """Fit a learner to a sample.

    Parameters
    ----------
    learner
        Which.
    sample
        Decisions and one outcome.
    settings
        Tree settings; members differ in their seed.
    resamples : B arrays of shape (n,), counts, optional
        How often each row counts in each member, as ``resample_customers`` draws them. None: one
        member, every row once.
    n_threads
        Members fitted side by side; they are the same for any number.

    Returns
    -------
    Ensemble
        With B members.

    Raises
    ------
    SupportError
        If the learner refuses the sample, or there is nothing in it.
    """
    if not sample.is_usable.any():
        raise SupportError(f"{learner.name} refused: there are no rows to learn from")
    reason = learner.refuse(sample)
    if reason:
        raise SupportError(f"{learner.name} refused: {reason}")
    prepared = learner.prepare(sample, settings)
    counts = [np.ones(sample.n_rows)] if resamples is None else resamples
    with ThreadPoolExecutor(min(n_threads, len(counts))) as pool:
        members = tuple(
            pool.map(
                lambda number: learner.fit_member(
                    sample, prepared, counts[number], settings.reseed(number)
                ),
                range(len(counts)),
            )
        )
    return Ensemble(learner, prepared.part, members, sample.is_zero_without_offer)


def resample_customers(customer: np.ndarray, *, n_members: int, seed: int) -> list[np.ndarray]:
    """Return bootstrap counts, the same for all rows of a customer.

    Parameters
    ----------
    customer : shape (n,), int
        Dense customer number.
    n_members
        B.
    seed
        Of the draws.

    Returns
    -------
    list
        B arrays of shape (n,): Poisson(1) counts, which resampling with replacement tends to.
    """
    random = np.random.default_rng([seed, 71])
    n_customers = int(customer.max(initial=-1)) + 1
    return [random.poisson(1.0, n_customers)[customer].astype(float) for _ in range(n_members)]
