import numpy as np
import pytest

from benchmarks.studies.gate.coverage import cover, summarise_coverage
from benchmarks.studies.gate.logs import (
    Cell,
    candidate_policy,
    champion_policy,
    draw_log,
    target_policy,
    true_value,
)
from benchmarks.studies.gate.sequences import CORRUPTIONS, corrupt_log, judge, live_gates

CELL = Cell(skew=1.0, tail=0.0, per_customer=2, n_customers=1_000)


def test_the_truth_is_what_the_target_policy_brings():
    random = np.random.default_rng(1)
    brought = []
    for _ in range(40):
        log = draw_log(CELL, random)
        weight = log.weigh(target_policy(log.context)).weight
        brought.append((weight * log.reward).mean())
    error = np.std(brought, ddof=1) / np.sqrt(len(brought))
    assert np.mean(brought) == pytest.approx(true_value(CELL), abs=4 * error)


def test_without_a_gain_the_two_policies_are_worth_the_same():
    context = np.random.default_rng(2).normal(size=400_000)
    odd = np.column_stack([np.zeros_like(context), 0.2 * context, -0.1 * context])
    difference = ((candidate_policy(context) - champion_policy(context)) * odd).sum(axis=1)
    assert difference.mean() == pytest.approx(0, abs=4 * difference.std() / np.sqrt(len(context)))


def test_coverage_is_counted_where_logs_are_accepted():
    covered = summarise_coverage(cover(CELL, seed=1, n_logs=30))
    assert covered.height == 8
    assert (covered["accepted"] > 0.5).all()
    assert (covered["coverage"] > 0.7).all()


def test_a_large_gain_is_promoted_and_the_same_on_wrong_propensities_refused():
    assert live_gates(seed=1, gain=3.0, n_gates=2) == 1
    clean = draw_log(Cell(0.5, 0.8, 4), np.random.default_rng(3), gain=3.0)
    assert judge(clean, gate_number=1).verdict.is_passed
    for kind in CORRUPTIONS:
        judged = corrupt_log(kind, seed=1, gain=3.0)
        assert judged is None or not judged.verdict.is_passed, kind
