"""Fitting uplift heads: candidates on trial, the winners fitted on resamples of customers."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from ml.core.actions import ActionSet
from ml.core.errors import SupportError
from ml.core.hashing import hash_text
from ml.core.logged import LoggedDecisions
from ml.uplift.calibration import Calibration, apply_calibrations, prove_means
from ml.uplift.caution import settle_caution
from ml.uplift.forest import score_forests
from ml.uplift.heads import (
    OUTCOMES,
    UNPROVEN,
    LifecycleHead,
    OutcomeHead,
    OutcomeModel,
    UpliftHeads,
)
from ml.uplift.learners import find_learner
from ml.uplift.report import report_heads
from ml.uplift.sample import Sample
from ml.uplift.selection import (
    N_FOLDS,
    Candidate,
    Judged,
    Operate,
    adjust_by_holm,
    prove_heterogeneity,
)
from ml.uplift.trees import TreeSettings, fit_forest
from ml.uplift.trial import CONSTANT, Confirm, OutcomeTrial, run_trial
from ml.uplift.winners import Progress, fit_winners, name_ensemble

PERSONALISING_LEVEL = 0.10


@dataclass(frozen=True)
class Support:
    """One lifecycle's decisions per action, shape (K,), and why an action has too few; or empty."""

    n_rows: np.ndarray
    refusals: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """What is tried, and how the winner is fitted.

    ``value_learners`` and ``cost_learners`` are names of ``ml.uplift.learners``; each is tried
    pooled, and with ``tries_own_lifecycles`` on each lifecycle's rows alone too. The winners are
    fitted as ``n_members`` resamples of customers. ``n_threads`` models are fitted side by side, on
    a thread each (0: as many as there are CPUs); results don't depend on it.
    """

    value_learners: tuple[str, ...] = ("residual", "residual_fine", "hurdle")
    cost_learners: tuple[str, ...] = ("s_learner", "hurdle")
    tries_own_lifecycles: bool = True
    n_members: int = 10
    n_threads: int = 0
    trees: TreeSettings = field(default_factory=TreeSettings)

    @property
    def threads(self) -> int:
        """Models to fit side by side."""
        return self.n_threads or os.cpu_count() or 1

    def list_candidates(self, outcome: str) -> list[Candidate]:
        """Return an outcome's learners in each scope; the constant effect is always among them."""
        learners = {"value": self.value_learners, "cost": self.cost_learners}[outcome]
        return [
            Candidate(find_learner(name), is_pooled)
            for name in dict.fromkeys((CONSTANT, *learners))
            for is_pooled in (True, False)
            if is_pooled or (self.tries_own_lifecycles and not find_learner(name).is_pooled_only)
        ]


def fit_uplift_heads(
    logged: LoggedDecisions,
    *,
    actions: ActionSet,
    minimum_support: int,
    seed: int,
    settings: LearningSettings | None = None,
    operate: Operate | None = None,
    later_effect: np.ndarray | None = None,
    belief_version: str | None = None,
    progress: Progress = lambda message: None,
) -> UpliftHeads:
    """Fit value and cost effects of all actions by the candidates that prove best.

    Every candidate predicts customers that it wasn't fitted on. Per lifecycle and outcome, those
    whose doubly robust risk is not proven above the best one's are shortlisted; of these their
    stack is taken, or the lowest risk if the stack isn't listed. Value heads take another listed
    one if its policy at the operating budget is proven worth more (10 % over all listed) on a fold
    that none was fitted or chosen on. Rows are weighted by mean propensity over propensity,
    which makes the log as if randomised alike for everybody. Slopes are calibrated per family; a
    family whose effects are not proven to differ between customers (Holm over families and
    outcomes, family-wise 10 %) abstains: each of its offers has its lifecycle's mean. A family that
    abstains on value is offered only if its mean net value is proven positive. Outcomes are capped
    at their 99.5 % quantile for learning alone.

    Parameters
    ----------
    logged
        Matured decisions of training customers alone, each with its full propensity vector.
    actions
        The action set of the log.
    minimum_support
        Fewest rows of an action in a lifecycle, or of its family there if all lifecycles together
        have so many of the action; below it the action is not offered there.
    seed
        Of trees, folds and resamples.
    settings
        Candidates, members, trees; None takes the defaults.
    operate
        The policy that effects lead to at the operating budget. None: risk alone chooses.
    later_effect : shape (K,), optional
        What the objective counts of each action beside value less cost.
    belief_version
        Of the world model whose beliefs the learner 'belief' is tried on; None: it isn't.
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
    settings = settings or LearningSettings()
    settings = replace(settings, trees=replace(settings.trees, seed=seed % 2**31))
    n_belief = 0
    if belief_version is not None:
        n_features = len(logged.contexts.feature_names)
        logged = replace(logged, contexts=logged.contexts.see_belief(belief_version))
        n_belief = len(logged.contexts.feature_names) - n_features
        settings = replace(settings, value_learners=(*settings.value_learners, "belief"))
    support = _count_support(logged, actions, minimum_support, progress)
    if not support:
        raise SupportError(
            f"no lifecycle has {minimum_support} decisions without an offer: explore longer, "
            "or lower minimum_support in programme.json"
        )
    later = np.zeros(actions.n_actions) if later_effect is None else later_effect
    trials = hold_trials(
        logged, actions, seed=seed, settings=settings, n_belief=n_belief, progress=progress
    )
    chosen: dict[str, dict[str, str]] = {}
    evidence = []
    for outcome in ("cost", "value"):
        confirm = None
        if outcome == "value" and operate is not None:
            confirm = _confirm_by_policy(operate, trials, chosen["cost"], logged, later)
        chosen[outcome], table = trials[outcome].choose(list(support), confirm=confirm)
        evidence.append(table)
    p_values = adjust_by_holm(
        {
            (outcome, family): p_value
            for outcome, trial in trials.items()
            for family, p_value in prove_heterogeneity(trial.raw, trial.judged, seed=seed).items()
        }
    )
    calibrations = {}
    for outcome, trial in trials.items():
        for name, each in trial.judged.calibrate(
            trial.stitch(chosen[outcome], is_calibrated=False)
        ).items():
            calibrations[outcome, name] = tuple(
                one
                if p_values.get((outcome, family), 1.0) <= PERSONALISING_LEVEL
                else one.abstain()
                for one, family in zip(each, actions.families, strict=True)
            )
    is_proven = _prove_families(trials, calibrations, list(support), actions, later)
    if not is_proven.all():
        unproven = [actions.action_ids[action] for action in np.flatnonzero(~is_proven)]
        progress(f"not offered, since neither ranking nor mean is proven: {', '.join(unproven)}")
    heads = tuple(
        _describe_head(name, support[name], is_proven, trials, chosen, calibrations)
        for name in support
    )
    fitted = UpliftHeads(
        heads=heads,
        ensembles=fit_winners(
            trials,
            chosen,
            logged.customer,
            trees=settings.trees,
            n_members=settings.n_members,
            n_threads=settings.threads,
            seed=seed,
            progress=progress,
        ),
        outcome_model=_fit_outcome_model(trials["value"].sample, settings.trees),
        descriptors=trials["value"].sample.descriptors,
        feature_names=logged.contexts.feature_names,
        schema_hash=logged.contexts.schema_hash,
        belief_version=belief_version,
        report=report_heads(
            trials,
            chosen,
            evidence=pl.concat(evidence),
            p_values=p_values,
            actions=actions,
            seed=seed,
        ),
    )
    if operate is None:
        return fitted
    confirm = _confirm_by_policy(operate, trials, chosen["cost"], logged, later)
    return settle_caution(
        fitted,
        trials["value"],
        chosen["value"],
        confirm,
        trees=settings.trees,
        n_members=settings.n_members,
        n_threads=settings.threads,
        seed=seed,
        progress=progress,
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


def hold_trials(
    logged: LoggedDecisions,
    actions: ActionSet,
    *,
    seed: int,
    settings: LearningSettings,
    n_belief: int = 0,
    progress: Progress = lambda message: None,
) -> dict[str, OutcomeTrial]:
    """Put the candidates on trial for each outcome.

    Parameters
    ----------
    logged, actions
        Matured decisions of training customers, and the action set.
    seed
        Of the folds.
    settings
        Candidates and trees.
    n_belief
        How many of the last features are a belief.
    progress
        Called with a line per candidate.

    Returns
    -------
    dict
        Outcome to its trial.
    """
    hashed = hash_text(logged.contexts.frame["customer_id"], salt=f"fold-{seed}")
    fold = (hashed % np.uint64(N_FOLDS)).astype(np.int64)
    value = Sample(
        context=logged.contexts.context,
        descriptors=describe_actions(actions),
        action=logged.action,
        logging_policy=logged.logging_policy,
        outcome=logged.value,
        # Of other bits than the trial's folds: any of those may be left out, both of these stay.
        fold=(hashed // np.uint64(N_FOLDS) % np.uint64(2)).astype(np.int64),
        is_in_scope=np.ones(logged.n_decisions, dtype=bool),
        is_zero_without_offer=False,
        n_belief=n_belief,
    )
    judged = Judged(
        pseudo=np.zeros((logged.n_decisions, actions.n_actions)),
        possible=value.is_possible,
        fold=fold,
        customer=logged.customer,
        lifecycle=logged.contexts.frame["lifecycle"].to_numpy(),
        families=actions.families,
    )
    samples = {"value": value, "cost": value.with_outcome(logged.cost, is_zero_without_offer=True)}
    return {
        outcome: run_trial(
            outcome,
            samples[outcome],
            replace(judged, shrinks_means=outcome == "value"),
            settings.list_candidates(outcome),
            settings=settings.trees,
            n_threads=settings.threads,
            progress=progress,
        )
        for outcome in OUTCOMES
    }


def _confirm_by_policy(
    operate: Operate,
    trials: Mapping[str, OutcomeTrial],
    cost_choice: Mapping[str, str],
    logged: LoggedDecisions,
    later: np.ndarray,
) -> Confirm:
    """Return what value effects are worth, deciding with the cost heads chosen already."""
    cost = trials["cost"]
    effects = cost.stitch(cost_choice)
    net = trials["value"].judged.pseudo - cost.judged.pseudo + later

    def confirm(value_effect: np.ndarray, rows: np.ndarray) -> np.ndarray:
        eligible = logged.contexts.eligible[rows]
        policy = operate(value_effect, np.maximum(effects[rows], 0.0), eligible)
        return np.asarray((policy * net[rows]).sum(axis=1))

    return confirm


def _prove_families(
    trials: Mapping[str, OutcomeTrial],
    calibrations: Mapping[tuple[str, str], tuple[Calibration, ...]],
    lifecycles: list[str],
    actions: ActionSet,
    later: np.ndarray,
) -> np.ndarray:
    """Return which actions' family is proven, by its ranking or its mean, shape (K,), bool."""
    value, cost = trials["value"].judged, trials["cost"].judged
    is_proven = prove_means(
        value.pseudo - cost.pseudo + later,
        value.possible,
        families=actions.families,
        customer=value.customer,
    )
    is_proven |= np.array([each.slope > 0 for each in calibrations["value", lifecycles[0]]])
    return is_proven


def _describe_head(
    name: str,
    support: Support,
    is_proven: np.ndarray,
    trials: Mapping[str, OutcomeTrial],
    chosen: Mapping[str, Mapping[str, str]],
    calibrations: Mapping[tuple[str, str], tuple[Calibration, ...]],
) -> LifecycleHead:
    """Return one lifecycle's head with its mean effects."""
    refusals = tuple(
        refusal or ("" if proven else UNPROVEN)
        for refusal, proven in zip(support.refusals, is_proven, strict=True)
    )
    is_supported = np.array([not refusal for refusal in refusals])
    outcomes = {}
    for outcome, trial in trials.items():
        rows = trial.judged.lifecycle == name
        own = calibrations[outcome, name]
        effects = apply_calibrations(
            trial.raw[chosen[outcome][name]][rows], {name: own}, trial.judged.lifecycle[rows]
        )
        outcomes[outcome] = OutcomeHead(
            candidate=chosen[outcome][name],
            mixture={
                name_ensemble(outcome, name, candidate): weight
                for candidate, weight in trial.resolve(name, chosen[outcome][name]).items()
            },
            calibrations=own,
            effect=np.where(is_supported, effects.mean(axis=0), 0.0),
        )
    return LifecycleHead(name, support.n_rows, refusals, outcomes)


def _fit_outcome_model(sample: Sample, settings: TreeSettings) -> OutcomeModel:
    """Fit the mean value on all rows."""
    weights = sample.weights
    baseline = fit_forest(
        sample.binned, sample.capped, weights=weights, settings=settings, is_joint=False
    )
    explained = score_forests([baseline], sample.context, sample.descriptors)[0]
    added = fit_forest(sample.binned, sample.capped - explained, weights=weights, settings=settings)
    return OutcomeModel(baseline, added)


def _count_support(
    logged: LoggedDecisions, actions: ActionSet, minimum_support: int, progress: Progress
) -> dict[str, Support]:
    """Return the support of each lifecycle with enough controls.

    An action that is thin in a lifecycle leans on its family there, if all lifecycles together
    have enough of it; offers are learned together, and slopes are the family's.
    """
    lifecycle = logged.contexts.frame["lifecycle"].to_numpy()
    policy = logged.logging_policy
    # Both arms must have been possible, else the comparison has no common ground.
    possible = (policy > 0) & (policy[:, :1] > 0)
    taken = np.eye(policy.shape[1], dtype=bool)[logged.action] & possible
    families, everywhere = np.array(actions.families), taken.sum(axis=0)
    supports = {}
    for name in sorted(set(lifecycle)):
        n_rows = taken[lifecycle == name].sum(axis=0)
        if n_rows[0] < minimum_support:
            progress(f"{name}: {n_rows[0]} controls, fewer than {minimum_support}: no head")
            continue
        refusals = []
        for action, own in enumerate(n_rows):
            relatives = int(n_rows[1:][families[1:] == families[action]].sum())
            thin = f"{own} decisions, fewer than {minimum_support}; "
            if own >= minimum_support:
                refusals.append("")
            elif everywhere[action] < minimum_support:
                refusals.append(f"{thin}{everywhere[action]} in all lifecycles")
            elif relatives < minimum_support:
                refusals.append(f"{thin}{relatives} in its family")
            else:
                refusals.append("")
        supports[str(name)] = Support(n_rows, tuple(refusals))
    return supports
