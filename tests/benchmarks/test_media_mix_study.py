"""The media mix's study: its truths, and that it runs."""

import numpy as np
import pytest

from benchmarks.studies.media_mix.cases import (
    draw_confounded_case,
    draw_prior_case,
    make_bakery_case,
)
from benchmarks.studies.media_mix.parts import cover_prior


def test_series_from_the_prior_have_the_returns_that_were_drawn():
    design, average, marginal = draw_prior_case(3)
    again = draw_prior_case(3)
    np.testing.assert_array_equal(design.kpi, again[0].kpi)
    assert (average > 0).all()
    # S-shaped curves may bring more at the margin, never more than slope times the average.
    assert (marginal > 0).all()


def test_the_bakerys_true_returns_are_what_its_walk_ins_would_lose():
    case = make_bakery_case()
    assert case.series.n_weeks == 104
    # Saturated channels bring less at the margin.
    assert (case.marginal < case.average).all()
    assert 0.2 < (case.average * case.series.spend.sum(axis=0)).sum() / case.series.kpi.sum() < 0.5


def test_demand_draws_the_confounded_channels_spend_alone():
    correlations = []
    for seed in range(20):
        case = draw_confounded_case(seed)
        assert {each.channel for each in case.tests} == set(case.series.channels)
        rest = np.diff(case.series.kpi)
        correlations.append(
            [np.corrcoef(np.diff(case.series.spend[:, c]), rest)[0, 1] for c in (0, 2)]
        )
    confounded, other = np.mean(correlations, axis=0)
    assert confounded > other + 0.2


@pytest.mark.slow
def test_a_part_of_the_study_runs():
    table = cover_prior(range(1), n_draws=30)
    assert table.height == 6
    assert (table["low"] <= table["high"]).all()
