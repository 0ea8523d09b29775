"""Which learner serves a lifecycle: by doubly robust risk, then by the value of its policy."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import polars as pl
from scipy import stats

from ml.core.errors import SupportError
from ml.uplift.calibration import (
    Calibration,
    apply_calibrations,
    calibrate_effects,
    group_offers,
    mean_by_customer,
)
from ml.uplift.ensemble import Learner, fit_ensemble
from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings

N_FOLDS = 4
CONFIRMING_FOLD = 3
SHORTLIST_LEVEL = 0.95
OWN = ", own"

Key = TypeVar("Key")
Operate = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(value_effect, cost_effect, eligible), each (m, K), to the policy at the operating budget."""


@dataclass(frozen=True)
class Candidate:
    """A learner and what it learns from: every lifecycle's rows (``pooled``), or its own alone."""

    learner: Learner
    is_pooled: bool

    @property
    def name(self) -> str:
        """Such as 'hurdle' or 'hurdle, own'."""
        return self.learner.name if self.is_pooled else f"{self.learner.name}{OWN}"


@dataclass(frozen=True)
class Judged:
    """What candidates are judged on: n rows of one outcome.

    ``pseudo`` and ``possible`` have shape (n, K); ``fold``, ``customer`` (n,), int; ``lifecycle``
    (n,), text; ``families`` K names; ``shrinks_means`` as for ``calibrate_effects``.
    """

    pseudo: np.ndarray
    possible: np.ndarray
    fold: np.ndarray
    customer: np.ndarray
    lifecycle: np.ndarray
    families: Sequence[str]
    shrinks_means: bool = True

    def calibrate(self, tau: np.ndarray) -> dict[str, tuple[Calibration, ...]]:
        """Return the calibrations of predicted effects, shape (n, K), by lifecycle and action."""
        return calibrate_effects(
            self.pseudo,
            tau,
            self.possible,
            families=self.families,
            lifecycle=self.lifecycle,
            customer=self.customer,
            shrinks_means=self.shrinks_means,
        )

    def with_pseudo(self, pseudo: np.ndarray) -> "Judged":
        """Return the same rows with an outcome's pseudo-outcomes, shape (n, K)."""
        return replace(self, pseudo=pseudo)

    def take(self, rows: np.ndarray) -> "Judged":
        """Return the given rows (bool mask, shape (n,))."""
        return Judged(
            self.pseudo[rows],
            self.possible[rows],
            self.fold[rows],
            self.customer[rows],
            self.lifecycle[rows],
            self.families,
            self.shrinks_means,
        )


def cross_predict(
    candidate: Candidate,
    sample: Sample,
    *,
    fold: np.ndarray,
    lifecycle: np.ndarray,
    settings: TreeSettings,
    n_threads: int = 1,
) -> tuple[np.ndarray, dict[str, str]]:
    """Predict every row's effects by a candidate fitted on other customers.

    The first three folds predict each other and never see the confirming one, which is predicted
    by all three: on it no candidate was fitted, calibrated or chosen.

    Parameters
    ----------
    candidate
        What is fitted.
    sample
        n decisions and one outcome.
    fold : shape (n,), int in 0 to 3
        Of the customer.
    lifecycle : shape (n,)
        Of the decision.
    settings
        Tree settings.
    n_threads
        Folds fitted side by side; predictions are the same for any number.

    Returns
    -------
    tuple
        Effects, shape (n, K), currency; and why a lifecycle has no model of its own, by lifecycle:
        its effects are 0.

    Raises
    ------
    SupportError
        If nothing could be fitted; the message says why.
    """
    effects = np.zeros((sample.n_rows, sample.n_actions))
    scopes = {"": np.ones(sample.n_rows, dtype=bool)}
    if not candidate.is_pooled:
        scopes = {str(name): lifecycle == name for name in np.unique(lifecycle)}

    def predict(scope: np.ndarray, held: int) -> None:
        # All of a scope is what the winner is fitted on in the end.
        reason = candidate.learner.refuse(sample.restrict(scope))
        if reason:
            raise SupportError(f"{candidate.learner.name} refused: {reason}")
        rows = scope & (fold == held)
        if rows.any():
            own = sample.restrict(scope & (fold != held) & (fold != CONFIRMING_FOLD))
            ensemble = fit_ensemble(candidate.learner, own, settings=settings)
            effects[rows] = ensemble.predict(sample.context[rows], sample.descriptors).mean

    refused: dict[str, str] = {}
    with ThreadPoolExecutor(n_threads) as pool:
        tasks = [
            (name, pool.submit(predict, scope, held))
            for name, scope in scopes.items()
            for held in range(N_FOLDS)
        ]
        for name, task in tasks:
            try:
                task.result()
            except SupportError as error:
                refused.setdefault(name, str(error))
    for name in refused:
        effects[scopes[name]] = 0.0
    if len(refused) == len(scopes):
        raise SupportError(next(iter(refused.values())))
    return effects, refused


def calibrate_across(tau: np.ndarray, judged: Judged) -> np.ndarray:
    """Return effects with each fold's slope taken from the other folds, shape (n, K).

    Parameters
    ----------
    tau : shape (n, K)
        Predicted by models of other customers.
    judged
        The same rows.

    Returns
    -------
    np.ndarray
        Currency; the confirming fold's slope comes from the others, and serves none of them.
    """
    calibrated = np.empty_like(tau)
    for held in range(N_FOLDS):
        others = (judged.fold != held) & (judged.fold != CONFIRMING_FOLD)
        calibrations = judged.take(others).calibrate(tau[others])
        rows = judged.fold == held
        calibrated[rows] = apply_calibrations(tau[rows], calibrations, judged.lifecycle[rows])
    return calibrated


def compare_risks(
    effects: Mapping[str, np.ndarray], judged: Judged, *, against: str
) -> pl.DataFrame:
    """Compare candidates' doubly robust risk with one of them, paired, on the tuning folds.

    risk = mean over rows of sum_a (psi_a - tau_a)^2 where a and control were possible.

    Parameters
    ----------
    effects : name to shape (n, K)
        Calibrated, of rows that their models didn't see.
    judged
        The same rows.
    against
        The name to compare with.

    Returns
    -------
    pl.DataFrame
        candidate, risk_difference (below 0: better), standard_error (clustered by customer).
    """
    tuning = judged.fold != CONFIRMING_FOLD
    part = judged.take(tuning)
    base = lose_by_row(effects[against][tuning], part)
    rows = []
    for name, tau in effects.items():
        difference = lose_by_row(tau[tuning], part) - base
        mean, error = mean_by_customer(difference, part.customer)
        rows.append({"candidate": name, "risk_difference": mean, "standard_error": error})
    return pl.DataFrame(rows)


def prove_heterogeneity(
    effects: Mapping[str, np.ndarray], judged: Judged, *, seed: int, n_draws: int = 4_000
) -> dict[str, float]:
    """Return the probability, by family, of rankings as good as these if effects were constant.

    A candidate's score is the covariance of its effects with the pseudo-outcomes, both centred by
    lifecycle and action, over its standard error clustered by customer. The statistic sums each
    lifecycle's best score; under constant effects scores are normal with the correlations that
    are seen, so having chosen the best is paid for.

    Parameters
    ----------
    effects : name to shape (n, K)
        Of rows that their models didn't see.
    judged
        The same rows.
    seed
        Of the draws.
    n_draws
        From the null.

    Returns
    -------
    dict
        Family to p-value.
    """
    random = np.random.default_rng([seed, 72])
    proven = {}
    for family, members in group_offers(judged.families).items():
        statistic, null = 0.0, np.zeros(n_draws)
        for name in np.unique(judged.lifecycle):
            rows = judged.lifecycle == name
            part = judged.take(rows)
            scores = np.column_stack(
                [_score_ranking(tau[rows], part, members) for tau in effects.values()]
            )  # (customers, candidates)
            scores = scores[:, (scores != 0).any(axis=0)]
            if not scores.shape[1]:
                continue
            length = np.sqrt((scores**2).sum(axis=0))
            statistic += float((scores.sum(axis=0) / length).max())
            correlation = (scores / length).T @ (scores / length)
            values, vectors = np.linalg.eigh(correlation)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            null += (random.standard_normal((n_draws, len(values))) @ root.T).max(axis=1)
        proven[family] = float((1 + (null >= statistic).sum()) / (1 + n_draws))
    return proven


def adjust_by_holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return Holm's adjusted p-values: those below a level keep the family-wise error below it.

    Parameters
    ----------
    p_values
        One per hypothesis.

    Returns
    -------
    dict
        In the same order.
    """
    ordered = sorted(p_values, key=p_values.__getitem__)
    adjusted: dict[Key, float] = {}
    running = 0.0
    for position, name in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - position) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def shortlist(risks: pl.DataFrame, effects: Mapping[str, np.ndarray], judged: Judged) -> list[str]:
    """Return the candidates whose risk is not proven above the best one's, best first.

    Parameters
    ----------
    risks
        As ``compare_risks`` gives them.
    effects, judged
        As there.

    Returns
    -------
    list
        Names.
    """
    ordered = risks.sort("risk_difference")["candidate"].to_list()
    paired = compare_risks({name: effects[name] for name in ordered}, judged, against=ordered[0])
    limit = float(stats.norm.ppf(SHORTLIST_LEVEL))
    is_kept = paired["risk_difference"] <= limit * paired["standard_error"]
    return [name for name, kept in zip(ordered, is_kept, strict=True) if kept]


def admit_by_lifecycle(
    effects: Mapping[str, np.ndarray],
    judged: Judged,
    *,
    refused: Mapping[str, Mapping[str, str]],
) -> dict[str, list[str]]:
    """Return which candidates take part in each lifecycle: the pooled, and its own if better.

    A lifecycle's own model replaces evidence that other lifecycles give: it takes part only where
    its risk is lower than the pooled model's by more than a standard error.

    Parameters
    ----------
    effects : name to shape (n, K)
        Calibrated, of rows that their models didn't see.
    judged
        The same rows.
    refused
        Name to why lifecycles have no such model.

    Returns
    -------
    dict
        Lifecycle to names, in the order of ``effects``.
    """
    admitted = {}
    for lifecycle in np.unique(judged.lifecycle):
        rows = judged.lifecycle == lifecycle
        part = judged.take(rows)
        names = []
        for name, each in effects.items():
            twin = name.removesuffix(OWN)
            if str(lifecycle) in refused.get(name, ()):
                continue
            if twin != name and twin in effects:
                pair = {name: each[rows], twin: effects[twin][rows]}
                risk = compare_risks(pair, part, against=twin).row(0, named=True)
                if not risk["risk_difference"] < -risk["standard_error"]:
                    continue
            names.append(name)
        admitted[str(lifecycle)] = names
    return admitted


def lose_by_row(tau: np.ndarray, judged: Judged) -> np.ndarray:
    """Return each row's doubly robust loss, sum_a (psi_a - tau_a)^2 where possible, shape (n,).

    Parameters
    ----------
    tau : shape (n, K)
        Predicted effects.
    judged
        The same rows.

    Returns
    -------
    np.ndarray
        Squared currency.
    """
    return np.asarray((judged.possible * (judged.pseudo - tau) ** 2)[:, 1:].sum(axis=1))


def _score_ranking(tau: np.ndarray, judged: Judged, members: Sequence[int]) -> np.ndarray:
    """Return each customer's part of the covariance of effects and pseudo-outcomes."""
    total = np.zeros(len(tau))
    for action in members:
        rows = judged.possible[:, action]
        if rows.any():
            score = tau[rows, action] - tau[rows, action].mean()
            total[rows] += score * (
                judged.pseudo[rows, action] - judged.pseudo[rows, action].mean()
            )
    return np.bincount(judged.customer, weights=total)
