"""From tokens to what may be said: planted drivers are found, named, measured and asked of."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import torch
from known_log import ACTIONS, PROGRAMME, make_readers, make_rows
from scipy import sparse

from ml.core.errors import ContractError, SupportError
from ml.core.schemas import Interactors
from ml.interactors.codes import CodeSettings
from ml.interactors.policy_tree import OptionScores
from ml.interactors.search import SearchSettings
from ml.pipeline.candidates import (
    fit_attributes,
    size_codes,
)
from ml.pipeline.explain_effects import explain_effects
from ml.pipeline.find_interactors import (
    MEASURING,
    OUTCOMES,
    SEARCHED,
    TEACHING,
    InteractorSettings,
    choose_options,
    find_interactors,
    make_trial,
    split_roles,
)
from ml.pipeline.read_interactors import size_leaves
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.tree_policy import measure_actions, predict_by_tree
from ml.plots.drawing import render_png
from ml.plots.interactors import plot_interactors, plot_tree

SETTINGS = InteractorSettings(
    teaching=0.2,
    measuring=0.4,
    n_coders=3,
    codes=CodeSettings(
        n_features=16, n_active=4, n_steps=1_200, batch_size=256, learning_rate=3e-3
    ),
    search=SearchSettings(n_draws=199),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def log():
    """Coupons of 2 bring .5, 1 more per standard deviation of age, 3 more to readers of recipes."""
    rows, tokens = make_readers(7)
    logged = take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS).everything
    return logged, tokens, rows.filter("is_holdout").select("customer_id", "decided_at")


def explain(log, **options):
    logged, tokens, outside = log
    return explain_effects(
        logged,
        options.pop("tokens", tokens),
        outside,
        family="coupon",
        actions=ACTIONS,
        programme=PROGRAMME,
        settings=options.pop("settings", SETTINGS),
        **options,
    )


@pytest.fixture(scope="module")
def explained(log):
    said = []
    found = explain(log, n_halves=4, progress=said.append)
    assert any(line.startswith("value: added") for line in said)
    assert "half-sample 4 of 4" in said
    return found


def test_planted_drivers_are_found_named_and_measured(explained):
    names = [explained.candidates.names[each] for each in explained.findings.selected]
    assert set(names) == {"age", "read:recipes"}
    found = explained.reading.interactors
    Interactors.validate(found)
    assert found.height == 2 * len(OUTCOMES)
    recipes = found.filter(outcome="value", candidate="read:recipes").row(0, named=True)
    # Half of the coupons are of 2.
    assert recipes["is_selected"]
    assert recipes["difference_low"] < 1.5 < recipes["difference_high"]
    assert recipes["effect_active"] > recipes["effect_inactive"]
    age = found.filter(outcome="value", candidate="age").row(0, named=True)
    assert age["name"].startswith("age > ")
    assert age["share"] > age["share_low"] > 0.2
    assert set(explained.examples["name"]) == {"read:recipes"}
    assert all("recipes" in text for text in explained.examples["history"])
    render_png(plot_interactors(found, outcome="value", unit="EUR"))


def test_stability_is_of_the_first_outcome_and_words_claim_no_cause(explained):
    # Visits depend on nothing: halves select nothing there, and of others nothing is said.
    assert explained.reading.outcome == "visits"
    told = explained.reading.interactors
    assert (told.filter(outcome="visits")["stability"].to_numpy() <= 0.25).all()
    assert told.filter(pl.col("outcome") != "visits")["stability"].null_count() == told.height - 2
    assert set(told["words"]) == {"subgroup effect"}
    # One decision a customer: what is hidden can't be told.
    assert explained.reading.residuals == dict.fromkeys(OUTCOMES)


def test_the_tree_asks_of_what_was_found_and_knows_which_coupon_pays(log, explained):
    tree, leaves = explained.reading.tree, explained.reading.leaves
    assert {tree.names[each] for each in tree.feature if each >= 0} <= {"age", "read:recipes"}
    assert set(leaves["option"]) == {"no offer", "ad", "coupon 2", "coupon 5"}
    logged, selected = log[0], list(explained.findings.selected)
    asked = explained.candidates.matrix[:, selected].toarray()
    ratios = measure_actions(logged, ACTIONS)
    value, cost, is_known = predict_by_tree(tree, asked, ACTIONS, ratios)
    assert is_known[:, 0].all()
    small = ACTIONS.action_ids.index("email_coupon_2")
    is_reader = explained.candidates.matrix[:, [explained.candidates.names.index("read:recipes")]]
    is_reader = is_reader.toarray()[:, 0] > 0
    gap = value[is_reader, small].mean() - value[~is_reader, small].mean()
    assert gap == pytest.approx(3.0, abs=0.6)
    assert (value[:, 0] == 0).all()
    assert (cost[:, 0] == 0).all()
    assert cost[:, small].mean() == pytest.approx(0.3, abs=0.05)
    render_png(plot_tree(tree, leaves, currency="EUR"))


def test_leaves_are_as_large_as_measuring_them_needs():
    """Of 4,000 decisions a quarter measures; two offers are drawn with .1 each."""
    n = 4_000
    propensity = np.tile([0.8, 0.1, 0.1], (n, 1))
    zeros = np.zeros(n)
    scores = OptionScores(("none", "a", "b"), zeros, propensity, zeros, zeros, np.arange(n))
    is_growing = np.arange(n) % 4 > 0
    # 1,000 of the measuring decisions hold 100 with an offer: three times as many grow.
    assert size_leaves(scores, is_growing) == 3_000
    # Where offers are frequent and the log is long, a 150th of it.
    often = replace(scores, propensity=np.tile([0.2, 0.4, 0.4], (n, 1)))
    assert size_leaves(often, is_growing) == 750
    long = often.take(np.tile(np.arange(n), 100))
    assert size_leaves(long, np.tile(is_growing, 100)) == 400_000 // 150


def test_customers_teach_or_are_searched_or_measure(log):
    ids = log[0].contexts.frame["customer_id"]
    roles = split_roles(ids, SETTINGS)
    shares = np.bincount(roles) / len(roles)
    assert shares[[TEACHING, SEARCHED, MEASURING]] == pytest.approx([0.2, 0.4, 0.4], abs=0.02)
    assert (split_roles(ids.reverse(), SETTINGS)[::-1] == roles).all()


def test_without_items_attributes_are_searched_alone_and_protected_ones_never(log):
    quick = replace(SETTINGS, search=replace(SETTINGS.search, n_draws=99))
    found = explain(log, tokens=log[1].head(0), settings=quick)
    assert found.taught is None
    assert "events need an item" in found.why_not
    assert {found.candidates.names[each] for each in found.findings.selected} == {"age"}
    assert not any("gender" in each for each in found.candidates.names)
    assert found.examples.is_empty()


def test_counts_are_candidates_by_their_logarithm(log):
    candidates = fit_attributes(log[0].contexts).read(log[0].contexts)
    place = candidates.names.index("visits_28d")
    assert candidates.is_log[place]
    column = candidates.matrix[:, [place]].toarray()[:, 0]
    np.testing.assert_allclose(np.expm1(column), log[0].contexts.frame["visits_28d"].to_numpy())
    assert not candidates.is_log[candidates.names.index("age")]


def test_a_trial_is_the_offer_against_none_with_the_propensity_given_that_it_is_either(log):
    coupons = ACTIONS.select(actions=("email_coupon_2",), channels=(), families=())
    trial, rows = make_trial(log[0], "purchase", coupons)
    taken = log[0].action[rows]
    small = ACTIONS.action_ids.index("email_coupon_2")
    assert set(taken) == {0, small}
    policy = log[0].logging_policy[rows]
    np.testing.assert_allclose(
        trial.propensity, policy[:, small] / policy[:, [0, small]].sum(axis=1)
    )
    assert (np.diff(trial.cluster) >= 0).all()
    push = ACTIONS.select(actions=(), channels=("push",), families=())
    with pytest.raises(SupportError, match="no decision left chance"):
        make_trial(log[0], "value", push)
    with pytest.raises(SupportError, match="no action counts as the offer"):
        make_trial(log[0], "value", np.zeros(ACTIONS.n_actions, dtype=bool))
    assert choose_options(ACTIONS)[0] == ("no offer", "ad", "coupon 2", "coupon 5")


def make_weeks(rows, n_weeks=3):
    """The same customers for some weeks, their offers drawn anew; visits follow offers and age."""
    random = np.random.default_rng(9)
    frames = []
    for week in range(n_weeks):
        policy = np.array(rows["eligible_propensities"].to_list())
        taken = (random.random((rows.height, 1)) > policy.cumsum(axis=1)).sum(axis=1).clip(0, 2)
        names = np.array(["no_offer", "email_coupon_2", "email_coupon_5"])
        frames.append(
            rows.with_columns(
                pl.Series("action_id", names[taken]),
                pl.Series("propensity", policy[np.arange(rows.height), taken]),
                (f"{week}" + pl.col("decision_id")).alias("decision_id"),
                pl.Series("taken", taken),
                pl.lit(datetime(2026, 2, 1 + 7 * week, 1, 30)).alias("decided_at"),
            )
        )
    return pl.concat(frames), random


def test_two_offers_in_a_mix_that_follows_the_customer_are_no_driver():
    # Constant effects, .5 of the one and 2 of the other, which the old get more often.
    rows, z = make_rows(11, n=12_000, slope=0.0, mean_effect=0.5, skew=1.5)
    is_dear = (rows["action_id"] == "email_coupon_5").to_numpy()
    noise = np.random.default_rng(11).normal(size=len(z))
    rows = rows.with_columns(
        value=pl.Series(noise + 0.5 * (rows["action_id"] == "email_coupon_2") + 2.0 * is_dear)
    )
    logged = take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS).everything
    coupons = ACTIONS.select(actions=(), channels=(), families=("coupon",))
    trial, kept = make_trial(logged, "value", coupons)
    deep = logged.action[kept] == ACTIONS.action_ids.index("email_coupon_5")
    age = fit_attributes(logged.contexts).read(logged.contexts).matrix[:, [0]].toarray()[kept, 0]
    assert abs(np.corrcoef(deep[trial.offered], age[trial.offered])[0, 1]) < 0.04
    # What is left is drawn as its propensity says.
    z_score = (trial.offered - trial.propensity).sum() / np.sqrt(
        (trial.propensity * (1 - trial.propensity)).sum()
    )
    assert abs(z_score) < 3
    found = find_interactors(
        logged,
        fit_attributes(logged.contexts).read(logged.contexts),
        coupons,
        settings=SETTINGS,
        outcomes=("value",),
    )
    assert not found.selected


def test_a_driver_that_no_candidate_knows_is_flagged_and_a_declared_complete_set_is_not(log):
    rows, z = make_rows(13, n=6_000)
    weeks, random = make_weeks(rows)
    hidden = np.tile(random.normal(size=rows.height), 3)
    is_sent = (weeks["taken"] > 0).to_numpy()
    base = 4 + random.normal(size=weeks.height)
    words = {}
    for name, own in (("none", 0.0 * hidden), ("hidden", 1.2 * hidden)):
        effect = is_sent * (0.5 + np.tile(z, 3) + own)
        frame = weeks.with_columns(value=pl.Series(base + effect))
        logged = take_snapshot(frame, programme=PROGRAMME, actions=ACTIONS).everything
        found = explain_effects(
            logged,
            log[1].head(0),
            log[2],
            family="coupon",
            actions=ACTIONS,
            programme=PROGRAMME,
            settings=SETTINGS,
            is_sufficient=True,
        )
        residual = found.reading.residuals["value"]
        words[name] = found.reading.words["value"], residual.p_value <= 0.05
    assert words == {"none": ("direct effect modifier", False), "hidden": ("subgroup effect", True)}


def test_an_unknown_family_is_refused_with_those_there_are(log):
    with pytest.raises(ContractError, match="family 'gift': there are ad, coupon"):
        explain_effects(
            *log, family="gift", actions=ACTIONS, programme=PROGRAMME, settings=SETTINGS
        )


def test_codes_are_no_more_than_histories_can_teach():
    codes = CodeSettings(n_features=160, n_active=24)
    few = sparse.csr_array(np.eye(8)[np.arange(40) % 8])
    sized = size_codes(codes, few)
    assert (sized.n_features, sized.n_active) == (16, 2)
    many = sparse.csr_array(np.ones((40, 90)))
    sized = size_codes(codes, many)
    assert (sized.n_features, sized.n_active) == (160, 24)
