"""The off-policy benchmark runs without its peer, and streams what it sums."""

import pytest

from benchmarks.performance.ope import draw_part, measure
from ml.ope.estimators import find_estimator, weigh_decisions
from ml.ope.sums import sum_log


def test_the_benchmark_measures_its_own_figures_without_a_peer():
    figures = measure(20_000, 3, "", 1)
    assert figures["rounds"] == 20_000
    assert figures["point_cpu"] > 0
    assert "point_cpu_ratio" not in figures
    assert figures["extra_mib"] >= 0


def test_the_benchmarks_log_is_one_that_can_be_valued():
    part = draw_part(30_000, 4)
    decisions = weigh_decisions(
        part.reward, policy=part.policy, action=part.action, propensity=part.propensity
    )
    assert decisions.weight.mean() == pytest.approx(1, abs=0.03)
    truth = (part.policy * part.expected_reward).sum(axis=1).mean()
    values = sum_log([part], limit=10.0, shrinkage=10.0).values
    assert values["dr"] == pytest.approx(truth, abs=0.02)
    assert values["ips"] == pytest.approx(
        find_estimator("ips").contribute(decisions, float("inf")).mean()
    )
