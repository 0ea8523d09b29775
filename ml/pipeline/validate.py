"""Validate: what every policy is worth on logged data, and whether the candidate may replace."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from ml.core.contexts import Contexts, hash_feature_schema
from ml.core.errors import PromotionError, SupportError
from ml.core.logged import LoggedDecisions
from ml.core.policy import Policy
from ml.core.programme import Programme
from ml.core.schemas import EvaluationRecord, PolicyValues
from ml.ope.design import detectable_difference
from ml.ope.diagnostics import diagnose_support
from ml.ope.estimators import (
    WeightedDecisions,
    effective_sample_size,
    find_estimator,
    weigh_decisions,
)
from ml.ope.evidence import gather_evidence
from ml.ope.gate import GateEvidence, LimitUse, decide_promotion
from ml.ope.intervals import Estimate, estimate_mean
from ml.ope.tuning import allow_for_bias, choose_by_validation
from ml.pipeline.objective import (
    REWARDS,
    expect_rewards,
    find_later_mean,
    realise_rewards,
    take_judged,
)
from ml.pipeline.policies import AlignedPolicy, BudgetedPolicy
from ml.pipeline.snapshots import Snapshot, find_most_offers
from ml.pipeline.spending import list_limits, measure_use
from ml.uplift.diagnostics import fit_best_linear_predictor

CANDIDATE, CHAMPION, NO_OFFER = "candidate", "champion", "no_offer"
ESTIMATORS = ("ips", "snips", "dr", "sndr")
TUNED = "tuned"
RECORD_DAYS = 8


@dataclass(frozen=True)
class SingleAction:
    """The policy that gives everybody one action, and no-offer where it isn't eligible."""

    action: int

    @property
    def kind(self) -> str:
        """Name in reports."""
        return "single_action"

    def probabilities(self, contexts: Contexts) -> np.ndarray:
        """Return shape (n, K), rows of one 1."""
        policy = np.zeros(contexts.eligible.shape)
        can = contexts.eligible[:, self.action]
        policy[can, self.action] = 1.0
        policy[~can, 0] = 1.0
        return policy


@dataclass(frozen=True)
class Evaluation:
    """``policy_values`` is PolicyValues rows, ``record`` one EvaluationRecord row."""

    policy_values: pl.DataFrame
    record: pl.DataFrame


def evaluate_candidate(
    snapshot: Snapshot,
    *,
    candidate: BudgetedPolicy,
    champion: BudgetedPolicy,
    programme: Programme,
    candidate_version: str,
    champion_version: str,
    candidate_hash: str,
    training_date: date,
    gate_number: int,
    is_randomisation_sound: bool,
) -> Evaluation:
    """Value every policy on the evaluation cohort and decide the gate.

    Candidate and champion are valued as deployed (cut frozen on training customers, pruning and
    exploration included), beside no-offer and each offer to everybody. Values are per decision,
    intervals clustered by customer, increments over no-offer paired.

    Parameters
    ----------
    snapshot
        Its evaluation decisions are used; its training ones fitted the candidate.
    candidate, champion
        Policies; the candidate's heads are the outcome model of DR.
    programme
        Budget, tolerance of harm.
    candidate_version, champion_version, candidate_hash
        Identify the policies in the record.
    training_date
        Of the snapshot.
    gate_number
        How many gates the champion has met, this one included.
    is_randomisation_sound
        Verdict of the randomisation checks.

    Returns
    -------
    Evaluation
        Values and the gate's record.

    Raises
    ------
    SupportError
        If there is no decision to evaluate on.
    """
    logged = take_judged(snapshot.evaluation, programme)
    if snapshot.evaluation.n_decisions and not logged.n_decisions:
        raise SupportError(
            "no evaluation decision's accounting horizon has passed yet: wait, or set "
            "later_value_weight in programme.json to 0"
        )
    if not logged.n_decisions:
        raise SupportError(
            "no evaluation decision has a logged propensity: nothing can be valued on fitted ones; "
            "let the loop explore until its own decisions have matured"
        )
    policies: dict[str, Policy] = {NO_OFFER: SingleAction(0)}
    for action, name in enumerate(candidate.actions.action_ids[1:], start=1):
        policies[f"all_{name}"] = SingleAction(action)
    seen_champion = AlignedPolicy(champion, candidate.actions, programme)
    policies |= {CHAMPION: seen_champion, CANDIDATE: candidate}
    deployed = {name: policy.probabilities(logged.contexts) for name, policy in policies.items()}
    later_mean = find_later_mean(snapshot, programme)
    expected = expect_rewards(candidate, logged, later_mean=later_mean)
    weighted = _weigh_all(logged, deployed, realise_rewards(logged, programme), expected)
    evidence = _gather_evidence(
        logged,
        weighted,
        action_ids=candidate.actions.action_ids,
        policy=deployed[CANDIDATE],
        limit_uses=_use_limits(candidate, deployed[CANDIDATE], logged, programme),
        promised=_promise(deployed[CANDIDATE], expected["net_value"]),
        programme=programme,
        gate_number=gate_number,
        is_randomisation_sound=is_randomisation_sound,
        has_feature_contract=candidate.schema_hash == hash_feature_schema(programme),
    )
    verdict = decide_promotion(evidence)
    difference, support = evidence.net_value_difference, evidence.support
    row = {
        "candidate_version": candidate_version,
        "champion_version": champion_version,
        "evaluated_for_date": training_date,
        "judged_since": logged.contexts.frame["decision_date"].min(),
        "gate_number": gate_number,
        "is_passed": verdict.is_passed,
        "reasons": list(verdict.reasons),
        "net_value_difference": difference.value,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "smallest_detectable_difference": detectable_difference(
            difference.standard_error, level=difference.level
        ),
        "level": difference.level,
        "lifecycle_differences": [
            {"lifecycle": name, "difference": each.value, "high": each.high}
            for name, each in evidence.lifecycle_differences.items()
        ],
        "promise_slope": evidence.promise_slope,
        "offer_share": evidence.offer_share,
        "logged_offer_share": evidence.logged_offer_share,
        "expected_cost": evidence.expected_cost.value,
        "budget_per_decision": programme.budget_per_decision,
        "effective_sample_size": support.effective_sample_size,
        "mean_importance_weight": support.mean_weight,
        "largest_weight_share": support.largest_share,
        "skewness_ratio": evidence.tail.ratio,
        "matched_share": support.matched_share,
        "n_decisions": difference.n_decisions,
        "n_customers": difference.n_customers,
        "candidate_hash": candidate_hash,
        "feature_schema_hash": candidate.schema_hash,
        "data_hash": snapshot.data_hash,
        "programme_hash": hash_programme(programme),
    }
    record = pl.DataFrame([row], schema=EvaluationRecord.create_empty().schema)
    return Evaluation(
        _value_all(logged, weighted, seed=programme.seed), EvaluationRecord.validate(record)
    )


def _weigh_all(
    logged: LoggedDecisions,
    deployed: Mapping[str, np.ndarray],
    rewards: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
) -> dict[tuple[str, str], WeightedDecisions]:
    """Return the decisions under every policy and reward."""
    return {
        (name, reward): weigh_decisions(
            rewards[reward],
            policy=policy,
            action=logged.action,
            propensity=logged.propensity,
            expected_reward=expected[reward],
        )
        for name, policy in deployed.items()
        for reward in REWARDS
    }


def _value_all(
    logged: LoggedDecisions,
    weighted: Mapping[tuple[str, str], WeightedDecisions],
    *,
    seed: int,
) -> pl.DataFrame:
    """Return PolicyValues: each policy's value, and its gain over no-offer, paired."""
    rows = []
    for (name, reward), decisions in weighted.items():
        for estimator in ESTIMATORS:
            contribute = find_estimator(estimator).contribute
            own = contribute(decisions, np.inf)
            base = contribute(weighted[NO_OFFER, reward], np.inf)
            level = estimate_mean(own, logged.customer)
            gain = estimate_mean(own - base, logged.customer)
            rows.append(_describe_value(name, estimator, reward, decisions, level, gain))
    unbiased = find_estimator("dr").contribute
    for name in (CANDIDATE, CHAMPION):
        choice = choose_by_validation(weighted[name, "net_value"], logged.customer, seed=seed)
        method = find_estimator(choice.estimator)
        for reward in REWARDS:
            decisions = weighted[name, reward]
            own = method.contribute(decisions, choice.limit)
            exact = own if method.is_unbiased else unbiased(decisions, np.inf)
            base = unbiased(weighted[NO_OFFER, reward], np.inf)
            level = allow_for_bias(own, exact, logged.customer)
            gain = allow_for_bias(own - base, exact - base, logged.customer)
            rows.append(
                {
                    **_describe_value(name, TUNED, reward, decisions, level, gain),
                    "method": choice.estimator,
                    "limit": choice.limit if np.isfinite(choice.limit) else None,
                }
            )
    return PolicyValues.validate(pl.DataFrame(rows, schema=PolicyValues.create_empty().schema))


def _describe_value(
    policy: str,
    estimator: str,
    reward: str,
    decisions: WeightedDecisions,
    level: Estimate,
    gain: Estimate,
) -> dict[str, object]:
    """Return a PolicyValues row."""
    return {
        "policy": policy,
        "estimator": estimator,
        "reward": reward,
        "method": estimator,
        "policy_value": level.value,
        "standard_error": level.standard_error,
        "low": level.low,
        "high": level.high,
        "incremental_value": gain.value,
        "incremental_low": gain.low,
        "incremental_high": gain.high,
        "level": level.level,
        "effective_sample_size": effective_sample_size(decisions.weight),
        "n_decisions": level.n_decisions,
        "n_customers": level.n_customers,
    }


def _gather_evidence(
    logged: LoggedDecisions,
    weighted: Mapping[tuple[str, str], WeightedDecisions],
    *,
    action_ids: Sequence[str],
    policy: np.ndarray,
    limit_uses: Sequence[LimitUse],
    promised: np.ndarray,
    programme: Programme,
    gate_number: int,
    is_randomisation_sound: bool,
    has_feature_contract: bool,
) -> GateEvidence:
    """Estimate what the gate judges, by DR."""
    contribute = find_estimator("dr").contribute
    net = {
        name: contribute(weighted[name, "net_value"], np.inf)
        for name in (CANDIDATE, CHAMPION, NO_OFFER)
    }
    slope = fit_best_linear_predictor(net[CANDIDATE] - net[NO_OFFER], promised, logged.customer)
    has_promise = bool(np.isfinite(slope.value))
    return gather_evidence(
        net[CANDIDATE] - net[CHAMPION],
        contribute(weighted[CANDIDATE, "cost"], np.inf),
        customer=logged.customer,
        lifecycle=logged.contexts.frame["lifecycle"].to_numpy(),
        gate_number=gate_number,
        support=diagnose_support(
            policy,
            logged.customer,
            action=logged.action,
            propensity=logged.propensity,
            action_ids=action_ids,
            eligible=logged.contexts.eligible,
            logging_policy=logged.logging_policy if logged.has_vector.all() else None,
            features=logged.contexts.context,
            feature_names=logged.contexts.feature_names,
        ),
        promise_slope=slope.value if has_promise else None,
        promise_slope_high=slope.high if has_promise else None,
        budget_per_decision=programme.budget_per_decision,
        harm_tolerance=programme.harm_tolerance,
        limit_uses=limit_uses,
        offer_share=float((1 - policy[:, 0]).mean()),
        logged_offer_share=find_most_offers(logged),
        is_randomisation_sound=is_randomisation_sound,
        has_feature_contract=has_feature_contract,
    )


def _use_limits(
    candidate: BudgetedPolicy, policy: np.ndarray, logged: LoggedDecisions, programme: Programme
) -> list[LimitUse]:
    """Return what the candidate is expected to use of every declared limit, per decision."""
    if not programme.limits:
        return []
    scores = candidate.scorer.score(logged.contexts)
    uses = []
    for limit in list_limits(programme.limits, candidate.actions, n_decisions=1, budget=np.inf)[1:]:
        used = (policy * measure_use(limit, scores, logged.contexts)).sum(axis=1)  # (n,)
        use = estimate_mean(used, logged.customer)
        uses += [
            LimitUse(limit.name, use, bound, is_most)
            for bound, is_most in ((limit.most, True), (limit.least, False))
            if np.isfinite(bound)
        ]
    return uses


def _promise(policy: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the net value over no-offer that a policy promises each decision, shape (n,)."""
    return np.asarray((policy * (expected - expected[:, :1])).sum(axis=1))


def verify_promotion(
    record: pl.DataFrame,
    *,
    candidate_version: str,
    candidate_hash: str,
    champion_version: str,
    programme: Programme,
    today: date,
) -> None:
    """Verify a persisted evaluation record once more, before anything is promoted.

    Parameters
    ----------
    record
        The newest EvaluationRecord row.
    candidate_version, candidate_hash
        Of what would be promoted, its files hashed now.
    champion_version
        Of what would be replaced, now.
    programme
        Now.
    today
        Newest ingested date; a record older than ``RECORD_DAYS`` is stale.

    Raises
    ------
    PromotionError
        Naming everything that doesn't hold: the gate's own reasons, or evidence about another
        candidate, champion, programme or time.
    """
    row = EvaluationRecord.validate(record).row(0, named=True)
    age = (today - row["evaluated_for_date"]).days
    problems = list(row["reasons"])
    if not row["is_passed"] and not problems:
        problems.append("the record says that the gate failed")
    facts = (
        ("candidate_version", candidate_version),
        ("candidate_hash", candidate_hash),
        ("champion_version", champion_version),
        ("programme_hash", hash_programme(programme)),
        ("feature_schema_hash", hash_feature_schema(programme)),
    )
    problems += [
        f"the record's {name} is {row[name]}, now it is {value}: evaluate again"
        for name, value in facts
        if row[name] != value
    ]
    if not 0 <= age <= RECORD_DAYS:
        problems.append(f"the record is {age} days old, at most {RECORD_DAYS}: evaluate again")
    if problems:
        raise PromotionError(f"version {candidate_version} refused: {'; '.join(problems)}")


def hash_programme(programme: Programme) -> str:
    """Return the SHA-256 of the programme's settings."""
    return hashlib.sha256(programme.to_json().encode()).hexdigest()


def count_sent(logged: LoggedDecisions, policies: Mapping[str, Policy]) -> pl.DataFrame:
    """Return how many offers of a hundred decisions each policy would send, by lifecycle.

    Parameters
    ----------
    logged
        The decisions.
    policies
        Name to policy.

    Returns
    -------
    pl.DataFrame
        lifecycle, and a column per policy.
    """
    sent = {
        name: 100 * (1 - policy.probabilities(logged.contexts)[:, 0])
        for name, policy in policies.items()
    }
    lifecycle = logged.contexts.frame["lifecycle"]
    return (
        pl.DataFrame({"lifecycle": lifecycle, **sent})
        .group_by("lifecycle")
        .mean()
        .sort("lifecycle")
    )
