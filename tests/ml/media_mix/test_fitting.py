"""Fits of a series whose effects are known."""

from dataclasses import replace

import numpy as np
import pytest
from known_media import N_WEEKS, SHORT, TRUTH, make_known_media

from ml.core.errors import ContractError
from ml.media_mix.fitting import Diagnostics, fit_media_mix, update_media_mix
from ml.media_mix.reading import predict_kpi, read_returns


def _true_returns(known):
    series, added, _ = known
    return added.sum(axis=0) / series.spend.sum(axis=0)


def test_known_returns_lie_in_the_intervals_and_the_chains_agree(fitted, known):
    returns = read_returns(fitted).average
    low, high = np.quantile(returns, [0.01, 0.99], axis=0)
    truth = _true_returns(known)
    assert (low < truth).all()
    assert (truth < high).all()
    assert np.abs(returns.mean(axis=0) / truth - 1).max() < 0.35
    assert fitted.diagnostics.largest_r_hat < 1.05
    assert fitted.diagnostics.predicts


def test_a_lift_test_narrows_its_channels_return_around_what_it_measured(fitted, known):
    series, _, test = known
    tested = fit_media_mix(series, tests=[test], settings=SHORT)
    before, after = (read_returns(mix).average[:, 1] for mix in (fitted, tested))
    truth = _true_returns(known)[1]
    assert after.std() < 0.8 * before.std()
    assert abs(after.mean() - truth) < 0.15 * truth


def test_same_seed_same_draws(fitted, known):
    again = fit_media_mix(known[0], settings=SHORT)
    for name, drawn in fitted.draws.items():
        np.testing.assert_array_equal(drawn, again.draws[name])


def test_new_weeks_are_taken_up_with_the_old_posterior_for_prior(fitted):
    # A full refit is compared in benchmarks/studies/media_mix.
    longer = make_known_media(n_weeks=140)[0]
    updated = update_media_mix(fitted, longer, weight=1.0)
    drawn, old = read_returns(updated).average, read_returns(fitted).average
    assert drawn.std(axis=0).mean() < old.std(axis=0).mean()
    forgetful = read_returns(update_media_mix(fitted, longer, weight=0.3)).average
    assert forgetful.std(axis=0).mean() > drawn.std(axis=0).mean()


def test_what_does_not_go_on_from_the_last_fit_is_refused(fitted, known):
    series = known[0]
    with pytest.raises(ContractError, match="doesn't go on"):
        update_media_mix(fitted, series)
    with pytest.raises(ContractError, match="weight must lie"):
        update_media_mix(replace(fitted, series=series.first(90)), series, weight=1.5)


def test_too_few_weeks_and_silent_channels_are_refused(known):
    series = known[0]
    with pytest.raises(ContractError, match="at least 26 whole weeks"):
        fit_media_mix(series.first(25))
    silent = series.spend.copy()
    silent[:, 0] = 0
    with pytest.raises(ContractError, match="'radio' never spent"):
        fit_media_mix(replace(series, spend=silent))


def test_weeks_ahead_are_predicted_within_their_interval(fitted):
    longer = make_known_media(n_weeks=140)[0]
    drawn = predict_kpi(fitted, longer)[:, N_WEEKS:]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    later = longer.kpi[N_WEEKS:]
    assert ((low <= later) & (later <= high)).mean() > 0.7
    constant = np.abs(fitted.series.kpi.mean() - later).mean()
    assert np.abs(drawn.mean(axis=0) - later).mean() < 0.6 * constant


@pytest.mark.slow
def test_the_papers_preset_is_fitted_too(known):
    mix = fit_media_mix(known[0], settings=replace(SHORT, preset="paper"))
    assert set(mix.draws) >= {"kept", "half", "slope", "beta"}
    assert "roi" not in mix.draws
    assert mix.draws["half"].max() <= 1
    assert len(TRUTH) == mix.draws["beta"].shape[1]


@pytest.mark.parametrize(
    ("found", "has_converged", "predicts"),
    [
        (Diagnostics(1.005, 800, 0.0, 0.9), True, True),
        (Diagnostics(1.02, 800, 0.0, 0.9), False, True),
        (Diagnostics(1.005, 300, 0.0, 0.9), False, True),
        (Diagnostics(1.005, 800, 0.01, 0.9), False, True),
        (Diagnostics(1.005, 800, 0.0, 0.5), True, False),
        (Diagnostics(float("nan"), 800, 0.0, 0.9), False, True),
    ],
)
def test_chains_that_disagree_are_told_from_a_model_that_misses(found, has_converged, predicts):
    assert (found.has_converged, found.predicts) == (has_converged, predicts)
