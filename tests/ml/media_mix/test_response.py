"""The model against an oracle in plain Python."""

import numpy as np
import pytest
from known_media import TRUTH, UNIT, make_known_media
from oracles.media_response import add_up

from ml.media_mix import model
from ml.media_mix.fitting import MediaMix, MediaMixSettings
from ml.media_mix.model import Scales
from ml.media_mix.reading import read_contributions, read_returns, respond

SCALES = Scales(0.0, 1.0, np.full(2, UNIT), np.zeros(0), np.zeros(0))


@pytest.fixture(scope="module")
def true_mix():
    """A mix whose only draw is the truth."""
    series, _, test = make_known_media()
    draws = {
        name: np.array([[each[name] for each in TRUTH.values()]])
        for name in ("kept", "half", "slope", "beta")
    }
    draws |= {"intercept": np.array([10_000.0]), "base": np.zeros((1, 5)), "sigma": np.ones(1)}
    return MediaMix(series, SCALES, MediaMixSettings(), (test,), draws, None)


def test_contributions_are_the_oracles(true_mix, known):
    contributions = read_contributions(true_mix)
    for index, channel in enumerate(TRUTH):
        ours = contributions.filter(part=channel)["mean"].to_numpy()
        np.testing.assert_allclose(ours, known[1][:, index], rtol=2e-5, atol=1e-2)
    assert set(contributions.filter(part="base")["mean"]) == {10_000.0}


def test_returns_are_what_spend_added_and_one_percent_more_would_add(true_mix, known):
    series, added, _ = known
    returns = read_returns(true_mix)
    spent = series.spend.sum(axis=0)
    np.testing.assert_allclose(returns.average[0], added.sum(axis=0) / spent, rtol=1e-4)
    more = [
        sum(add_up(1.01 * series.spend[:, c] / UNIT, **each))
        for c, each in enumerate(TRUTH.values())
    ]
    expected = (np.array(more) - added.sum(axis=0)) / (0.01 * spent)
    np.testing.assert_allclose(returns.marginal[0], expected, rtol=2e-2)
    assert (returns.marginal < returns.average).all()


def test_steady_spend_adds_what_many_equal_weeks_end_at(true_mix):
    steady = respond(true_mix, np.array([[700.0, 300.0]]))[0, 0]
    for index, (spend, each) in enumerate(zip((700, 300), TRUTH.values(), strict=True)):
        assert steady[index] == pytest.approx(add_up([spend / UNIT] * 40, **each)[-1], rel=1e-6)


def test_a_lift_test_expects_what_the_oracle_loses_without_the_spend(true_mix, known):
    design = true_mix.design
    one = {name: each[0] for name, each in true_mix.draws.items()}
    tested = known[2].weeks
    lost = known[1][:, 1] - add_up(known[0].spend[:, 1] * ~tested / UNIT, **TRUTH["search"])
    expected = np.asarray(model.expect_lifts(design, one))
    np.testing.assert_allclose(expected, [lost[tested].sum()], rtol=1e-3)


def test_a_channel_off_air_adds_nothing(true_mix):
    assert respond(true_mix, np.zeros((1, 2))).max() == 0.0


def test_the_papers_prior_permits_harm_and_ours_does_not():
    import numpyro

    design = model.make_design(make_known_media()[0], SCALES, n_harmonics=1)
    drawn = {"ours": [], "paper": []}
    for preset, found in drawn.items():
        for seed in range(200):
            with numpyro.handlers.seed(rng_seed=seed):
                one = model.derive_beta(design, model.draw_priors(design, preset))
            found.append(np.asarray(one["beta"]))
    assert np.min(drawn["ours"]) > 0
    assert 0.01 < np.mean(np.array(drawn["paper"]) < 0) < 0.12
