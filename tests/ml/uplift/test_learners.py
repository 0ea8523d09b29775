"""Every registered learner on a trial whose effects are known."""

from dataclasses import replace

import numpy as np
import pytest

from ml.core.errors import ContractError, SupportError
from ml.uplift import wrapping
from ml.uplift.ensemble import fit_ensemble, resample_customers
from ml.uplift.learners import LEARNERS, find_learner
from ml.uplift.sample import Sample
from ml.uplift.trees import TreeSettings

DESCRIPTORS = np.array([[0.0, 0, 0], [2, 1, 0], [5, 0, 1]])
SETTINGS = TreeSettings(minimum_leaf_rows=100)
# Share of the constant effect's error that is left, on seed 1; each a little above what was seen.
MOST_LEFT = {
    "zero": 2.0,
    "constant": 1.01,
    "s_learner": 0.75,
    "t_learner": 1.0,
    "x_learner": 0.8,
    "dr_learner": 1.1,
    "r_learner": 0.9,
    "residual": 0.7,
    "residual_fine": 1.0,
    "hurdle": 0.7,
    "econml_dr": 0.85,
    "econml_forest": 1.0,
    "belief": 0.9,
}


def make_trial(seed, *, n=20_000, skew=0.0):
    """A purchase in two cases of five, its amount Gamma; effects act on its probability."""
    random = np.random.default_rng(seed)
    context = random.normal(size=(n, 5))
    logits = np.column_stack([np.zeros(n), skew * context[:, 0], -skew * context[:, 0]])
    policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    action = (random.random((n, 1)) > policy.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    base = 0.3 + 0.1 * np.tanh(context[:, 0])
    effect = np.column_stack(
        [np.zeros(n), 0.1 + 0.1 * np.tanh(context[:, 1]), 0.15 * (context[:, 2] > 0)]
    )
    amount = 10 + 2 * context[:, 3]
    buys = random.random(n) < base + effect[np.arange(n), action]
    value = buys * np.maximum(amount, 1) * random.gamma(4, 0.25, n)
    sample = Sample(
        context=context,
        descriptors=DESCRIPTORS,
        action=action,
        logging_policy=policy,
        outcome=value,
        fold=np.arange(n) % 2,
        is_in_scope=np.ones(n, dtype=bool),
        is_zero_without_offer=False,
    )
    return sample, effect * np.maximum(amount, 1)[:, None], buys


@pytest.fixture(scope="module")
def trial():
    return make_trial(1)


def _error(effects, truth):
    return float(np.sqrt(((effects - truth)[:, 1:] ** 2).mean()))


@pytest.mark.parametrize("name", sorted(MOST_LEFT))
def test_a_learner_recovers_known_effects(trial, name):
    sample, _, _ = trial
    if name == "belief":
        sample = replace(sample, n_belief=5)
    fresh, fresh_truth, _ = make_trial(2)
    constant = fit_ensemble(find_learner("constant"), sample, settings=SETTINGS)
    worst = _error(constant.predict(fresh.context, DESCRIPTORS).mean, fresh_truth)
    ensemble = fit_ensemble(find_learner(name), sample, settings=SETTINGS)
    effects = ensemble.predict(fresh.context, DESCRIPTORS).mean
    assert (effects[:, 0] == 0).all()
    assert _error(effects, fresh_truth) <= MOST_LEFT[name] * worst


def test_every_registered_learner_is_tested():
    assert set(LEARNERS) == set(MOST_LEFT)
    with pytest.raises(ContractError, match="no learner 'magic'"):
        find_learner("magic")


@pytest.mark.parametrize("name", ["s_learner", "t_learner", "hurdle", "constant"])
def test_the_cost_of_an_offer_is_an_ordinary_regression(trial, name):
    sample, _, buys = trial
    # A coupon is redeemed by half of those who buy.
    redeems = buys & (np.random.default_rng(3).random(sample.n_rows) < 0.5)
    cost = redeems * DESCRIPTORS[sample.action, 0]
    costs = sample.with_outcome(cost, is_zero_without_offer=True)
    effects = fit_ensemble(find_learner(name), costs, settings=SETTINGS).predict(
        sample.context, DESCRIPTORS
    )
    seen = [cost[sample.action == action].mean() for action in range(3)]
    assert (effects.mean[:, 0] == 0).all()
    assert effects.mean.mean(axis=0) == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize(
    "name",
    ["x_learner", "dr_learner", "r_learner", "residual", "residual_fine", "econml_dr", "belief"],
)
def test_learners_of_differences_refuse_a_cost(trial, name):
    sample = replace(trial[0], n_belief=5)
    costs = sample.with_outcome(sample.outcome * (sample.action > 0), is_zero_without_offer=True)
    with pytest.raises(SupportError, match="ordinary regression"):
        fit_ensemble(find_learner(name), costs, settings=SETTINGS)


def test_the_hurdle_refuses_what_has_none(trial):
    sample, _, _ = trial
    for outcome, reason in (
        (sample.outcome - 1, "negative"),
        (sample.outcome + 1, "no hurdle"),
        (np.where(np.arange(sample.n_rows) < 1_000, sample.outcome, 0.0), "fewer than 500"),
    ):
        with pytest.raises(SupportError, match=reason):
            fit_ensemble(
                find_learner("hurdle"),
                sample.with_outcome(outcome, is_zero_without_offer=False),
                settings=SETTINGS,
            )


def test_finer_trees_serve_small_logs_whose_effects_stand_out(trial):
    sample, truth, _ = trial
    noise = np.random.default_rng(5).normal(size=sample.n_rows)
    outcome = truth[np.arange(sample.n_rows), sample.action] + 0.2 * noise
    clear = sample.with_outcome(outcome, is_zero_without_offer=False)
    left = {}
    for name in ("residual", "residual_fine"):
        ensemble = fit_ensemble(find_learner(name), clear, settings=TreeSettings())
        left[name] = _error(ensemble.predict(sample.context, DESCRIPTORS).mean, truth)
    assert left["residual_fine"] < 0.9 * left["residual"]
    large, _, _ = make_trial(1, n=30_001)
    with pytest.raises(SupportError, match="30001 decisions are over 30000"):
        fit_ensemble(find_learner("residual_fine"), large, settings=SETTINGS)


def test_skewed_exploration_is_corrected_by_weights_and_biased_without():
    """Three standard errors of the mean effect, over ten logs with propensities of 0.02 to 0.8."""
    errors = {"weighted": [], "unweighted": []}
    for seed in range(10):
        sample, truth, _ = make_trial(20 + seed, n=8_000, skew=1.5)
        unweighted = replace(sample, logging_policy=np.full((sample.n_rows, 3), 1 / 3))
        for name, each in (("weighted", sample), ("unweighted", unweighted)):
            ensemble = fit_ensemble(find_learner("constant"), each, settings=SETTINGS)
            effects = ensemble.predict(sample.context[:1], DESCRIPTORS).mean[0]
            errors[name].append(effects[1:] - truth.mean(axis=0)[1:])
    assert sample.logging_policy.min() < 0.02
    assert sample.logging_policy.max() > 0.8
    for name, is_biased in (("weighted", False), ("unweighted", True)):
        each = np.array(errors[name])
        z = each.mean(axis=0) / (each.std(axis=0, ddof=1) / np.sqrt(len(each)))
        assert (np.abs(z) > 3).any() == is_biased, (name, z)


def test_a_baseline_is_never_fitted_on_nobody(trial):
    sample, _, _ = trial
    for name in ("residual", "hurdle"):
        with pytest.raises(SupportError, match="outside of fold"):
            fit_ensemble(find_learner(name), sample.restrict(sample.fold == 0), settings=SETTINGS)


def test_members_are_resamples_of_customers():
    customer = np.repeat(np.arange(500), 4)
    counts = np.array(resample_customers(customer, n_members=200, seed=1))
    assert (counts.reshape(200, 500, 4) == counts.reshape(200, 500, 4)[:, :, :1]).all()
    assert counts.mean() == pytest.approx(1.0, abs=0.02)
    assert counts.reshape(200, 500, 4)[:, :, 0].var() == pytest.approx(1.0, abs=0.03)


def test_the_spread_over_members_tells_the_error_of_a_mean():
    """Bootstrap spread of a constant effect against the spread over fresh trials."""
    learner, spreads, means = find_learner("constant"), [], []
    for seed in range(60):
        sample, _, _ = make_trial(100 + seed, n=2_000)
        resamples = resample_customers(np.arange(2_000), n_members=30, seed=seed)
        bagged = fit_ensemble(learner, sample, settings=SETTINGS, resamples=resamples)
        estimate = bagged.predict(sample.context[:1], DESCRIPTORS)
        spreads.append(estimate.spread[0, 1:])
        means.append(estimate.mean[0, 1:])
    assert np.mean(spreads, axis=0) == pytest.approx(np.std(means, axis=0, ddof=1), rel=0.3)


def test_a_wrapped_estimator_knows_the_logged_propensities():
    """With constant propensities assumed, a skewed log would mislead it."""
    sample, truth, _ = make_trial(5, skew=1.2)
    effects = fit_ensemble(find_learner("econml_dr"), sample, settings=SETTINGS).predict(
        sample.context, DESCRIPTORS
    )
    assert effects.mean.mean(axis=0)[1:] == pytest.approx(truth.mean(axis=0)[1:], abs=0.3)


def test_a_wrapped_estimator_is_refused_where_its_library_is_missing(trial, monkeypatch):
    sample, _, _ = trial
    monkeypatch.setattr(wrapping, "find_spec", lambda name: None)
    with pytest.raises(SupportError, match="pip install 'liftloop\\[causal\\]'"):
        fit_ensemble(find_learner("econml_dr"), sample, settings=SETTINGS)


def test_a_bigger_log_than_an_estimator_can_bear_is_sampled(trial):
    sample, _, _ = trial
    counts = np.full(sample.n_rows, 2.0)
    chosen = wrapping.arrange(sample, counts, most=5_000, seed=1)
    assert len(chosen.rows) == 5_000
    assert (np.diff(chosen.rows) >= 0).all()
    assert (chosen.actions[chosen.taken] == sample.action[chosen.rows]).all()
    for train, test in chosen.splits:
        assert set(sample.fold[chosen.rows[train]]) ^ set(sample.fold[chosen.rows[test]]) == {0, 1}
    whole = wrapping.arrange(sample, counts, most=10**6, seed=1)
    assert len(whole.rows) == 2 * sample.n_rows


def test_an_estimator_never_compares_with_another_offer(trial):
    """Without controls in a fold there is nothing to compare with; an offer that one lacks is 0."""
    sample, _, _ = trial
    with pytest.raises(SupportError, match="control and an offer"):
        fit_ensemble(
            find_learner("econml_dr"), sample.restrict(sample.action > 0), settings=SETTINGS
        )
    lacking = sample.restrict((sample.action != 2) | (sample.fold == 0))
    effects = fit_ensemble(find_learner("econml_dr"), lacking, settings=SETTINGS).predict(
        sample.context[:100], DESCRIPTORS
    )
    assert (effects.mean[:, 2] == 0).all()
    assert (effects.mean[:, 1] != 0).all()


def test_members_fitted_side_by_side_are_the_same(trial):
    sample, _, _ = trial
    resamples = resample_customers(np.arange(sample.n_rows), n_members=4, seed=1)
    for name in ("residual", "hurdle"):
        alone, together = (
            fit_ensemble(
                find_learner(name), sample, settings=SETTINGS, resamples=resamples, n_threads=n
            )
            for n in (1, 4)
        )
        for first, second in zip(alone.members, together.members, strict=True):
            assert {k: each.text for k, each in first.forests.items()} == {
                k: each.text for k, each in second.forests.items()
            }


def test_the_same_seed_gives_the_same_ensemble(trial):
    sample, _, _ = trial
    small = sample.restrict(np.arange(sample.n_rows) < 5_000)
    first, second = (
        fit_ensemble(find_learner("residual"), small, settings=SETTINGS) for _ in range(2)
    )
    assert first.members[0].forests["added"].text == second.members[0].forests["added"].text


def test_trees_never_split_on_a_belief_and_the_belief_learner_wants_one(trial):
    sample, _, _ = trial
    believing = replace(sample, n_belief=3)
    effects = fit_ensemble(find_learner("residual"), believing, settings=SETTINGS)
    moved = sample.context.copy()
    moved[:, -3:] += 5.0
    before, after = (effects.predict(each, DESCRIPTORS).mean for each in (sample.context, moved))
    assert (before == after).all()
    with pytest.raises(SupportError, match="the rows carry no belief"):
        fit_ensemble(find_learner("belief"), sample, settings=SETTINGS)
    unknown = sample.context.copy()
    unknown[400:, -3:] = np.nan
    with pytest.raises(SupportError, match="only 400 rows carry a belief"):
        fit_ensemble(find_learner("belief"), replace(believing, context=unknown), settings=SETTINGS)


def test_a_customer_without_a_belief_gets_the_mean_effect(trial):
    believing = replace(trial[0], n_belief=5)
    ensemble = fit_ensemble(find_learner("belief"), believing, settings=SETTINGS)
    unknown = np.full((1, 5), np.nan)
    everybody = ensemble.predict(believing.context, DESCRIPTORS).mean.mean(axis=0)
    assert ensemble.predict(unknown, DESCRIPTORS).mean[0] == pytest.approx(everybody, abs=0.05)
