"""The allocation benchmark measures what it says, small."""

from benchmarks.performance.allocation import measure


def test_a_small_problem_is_measured_with_its_gaps():
    figures = measure(20_000, 4, "")
    assert figures["customers"] == 20_000
    assert 0 <= figures["gap"] < 1e-5
    assert 0 <= figures["constrained_gap"] < 1e-4
    assert figures["oracle_passes"] > 0
    assert figures["peak_mib"] >= 0
