"""Sequences of weekly gates on a growing log, and gates on logs whose propensities are wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from benchmarks.studies.gate.logs import (
    ACTION_IDS,
    N_ACTIONS,
    Cell,
    Log,
    candidate_policy,
    champion_policy,
    draw_log,
)
from ml.core.errors import SupportError
from ml.ope.diagnostics import diagnose_support
from ml.ope.estimators import find_estimator
from ml.ope.evidence import gather_evidence
from ml.ope.gate import Verdict, decide_promotion
from ml.ope.intervals import Estimate, estimate_mean

N_GATES = 12
LIFECYCLES = np.array(["activation", "habituation", "resurrection"])
_WEEK = Cell(skew=0.5, tail=0.8, per_customer=1, n_customers=2_000)


@dataclass(frozen=True)
class Judged:
    """A gate's verdict and the paired difference that it rests on."""

    verdict: Verdict
    difference: Estimate


def live_gates(*, seed: int, gain: float, n_gates: int = N_GATES) -> int:
    """Return at which weekly gate a candidate is promoted, 0 if at none.

    Parameters
    ----------
    seed
        Of the weeks.
    gain
        What the last action brings more per decision.
    n_gates
        How many weeks.

    Returns
    -------
    int
        1 to n_gates, or 0.
    """
    random = np.random.default_rng([seed, 83])
    log = draw_log(replace(_WEEK, per_customer=n_gates), random, gain=gain)
    week = np.tile(np.arange(n_gates), _WEEK.n_customers)
    for number in range(1, n_gates + 1):
        seen = take(log, week < number)
        if judge(seen, gate_number=number).verdict.is_passed:
            return number
    return 0


def measure_unit(*, n_logs: int = 50) -> tuple[float, float]:
    """Return one gate's standard error, and the value difference per unit of gain."""
    errors, per_gain = [], []
    for seed in range(n_logs):
        log = draw_log(_WEEK, np.random.default_rng([seed, 84]))
        errors.append(judge(log, gate_number=1).difference.standard_error)
        more = candidate_policy(log.context)[:, -1] - champion_policy(log.context)[:, -1]
        # The gain raises the chance of a purchase, whose mean amount is 1, by a tenth of itself.
        per_gain.append(0.1 * float(more.mean()))
    return float(np.mean(errors)), float(np.mean(per_gain))


def judge(log: Log, *, gate_number: int) -> Judged:
    """Judge the candidate against the champion on a log, with every criterion of the gate.

    Parameters
    ----------
    log
        Up to the gate.
    gate_number
        Counted from 1.

    Returns
    -------
    Judged
        Verdict and difference.
    """
    contribute = find_estimator("dr").contribute
    policy = candidate_policy(log.context)
    own = contribute(log.weigh(policy), np.inf)
    other = contribute(log.weigh(champion_policy(log.context)), np.inf)
    difference = own - other
    support = diagnose_support(
        policy,
        log.customer,
        action=log.action,
        propensity=log.propensity,
        action_ids=ACTION_IDS,
        features=log.context[:, None],
        feature_names=("context",),
    )
    evidence = gather_evidence(
        difference,
        np.zeros_like(difference),
        customer=log.customer,
        lifecycle=LIFECYCLES[log.customer % len(LIFECYCLES)],
        gate_number=gate_number,
        support=support,
        promise_slope=None,
        promise_slope_high=None,
        budget_per_decision=1.0,
        limit_uses=(),
        harm_tolerance=0.05,
        offer_share=float((1 - policy[:, 0]).mean()),
        logged_offer_share=1.0,
        is_randomisation_sound=True,
        has_feature_contract=True,
    )
    return Judged(decide_promotion(evidence), estimate_mean(difference, log.customer))


def corrupt_log(kind: str, *, seed: int, gain: float) -> Judged | None:
    """Judge a truly better candidate on a log whose propensities are wrong.

    Parameters
    ----------
    kind
        A name of CORRUPTIONS.
    seed
        Of the log.
    gain
        What the last action brings more per decision.

    Returns
    -------
    Judged or None
        None where the log could not be weighted at all.
    """
    random = np.random.default_rng([seed, 85])
    log = draw_log(replace(_WEEK, per_customer=4), random, gain=gain)
    wrong = CORRUPTIONS[kind](log, random)
    try:
        return judge(replace(log, propensity=wrong), gate_number=1)
    except SupportError:
        return None


def live_sequences(multiple: float, *, gain: float, seeds: range) -> pl.DataFrame:
    """Return a row per sequence: at which gate it was promoted, 0 if at none.

    Parameters
    ----------
    multiple
        The improvement in standard errors of one gate, kept with the rows.
    gain
        What the last action brings more per decision.
    seeds
        One per sequence.

    Returns
    -------
    pl.DataFrame
        multiple, seed, promoted_at.
    """
    # An improvement is only asked after at the fourth gate; none must pass all of them.
    n_gates = 4 if multiple else N_GATES
    promoted = [live_gates(seed=seed, gain=gain, n_gates=n_gates) for seed in seeds]
    return pl.DataFrame({"multiple": multiple, "seed": seeds, "promoted_at": promoted})


def corrupt_logs(kind: str, *, gain: float, n_logs: int) -> pl.DataFrame:
    """Return a row per log with wrong propensities: whether it was refused, and for them.

    Parameters
    ----------
    kind
        A name of CORRUPTIONS.
    gain
        What the last action brings more per decision.
    n_logs
        How many.

    Returns
    -------
    pl.DataFrame
        kind, is_refused, is_named.
    """
    judged = [corrupt_log(kind, seed=seed, gain=gain) for seed in range(n_logs)]
    return pl.DataFrame(
        {
            "kind": kind,
            "is_refused": [each is None or not each.verdict.is_passed for each in judged],
            "is_named": [
                each is None or any("propensities" in reason for reason in each.verdict.reasons)
                for each in judged
            ],
        }
    )


def take(log: Log, rows: np.ndarray) -> Log:
    """Return some of a log's decisions, bool mask of shape (n,)."""
    return Log(
        log.customer[rows],
        log.context[rows],
        log.logging_policy[rows],
        log.action[rows],
        log.propensity[rows],
        log.reward[rows],
        log.expected[rows],
    )


def _double_one(log: Log, random: np.random.Generator) -> np.ndarray:
    return np.where(log.action == 1, np.minimum(2 * log.propensity, 1.0), log.propensity)


def _permute(log: Log, random: np.random.Generator) -> np.ndarray:
    return random.permutation(log.propensity)


def _make_uniform(log: Log, random: np.random.Generator) -> np.ndarray:
    return np.full(len(log.action), 1 / N_ACTIONS)


def _invert(log: Log, random: np.random.Generator) -> np.ndarray:
    return np.asarray(1 - log.propensity)


def _make_certain(log: Log, random: np.random.Generator) -> np.ndarray:
    return np.where(random.random(len(log.action)) < 0.2, 1.0, log.propensity)


CORRUPTIONS: dict[str, Callable[[Log, np.random.Generator], np.ndarray]] = {
    "doubled on one action": _double_one,
    "permuted": _permute,
    "stale uniform": _make_uniform,
    "inverted": _invert,
    "a fifth set to 1": _make_certain,
}
