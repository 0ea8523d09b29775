"""From tokens to what may be said: planted drivers are found, named, measured and asked of."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
import torch
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.errors import ContractError, SupportError
from ml.core.schemas import Interactors
from ml.interactors.codes import CodeSettings
from ml.interactors.search import SearchSettings
from ml.pipeline.explain_effects import explain_effects
from ml.pipeline.find_interactors import (
    MEASURING,
    OUTCOMES,
    SEARCHED,
    TEACHING,
    InteractorSettings,
    choose_options,
    list_attributes,
    make_trial,
    split_roles,
)
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
_N, _N_TOKENS = 20_000, 8
_ITEMS = ("recipes", *(f"item_{each}" for each in range(1, _N_TOKENS)))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def log():
    """Coupons of 2 bring .5, 1 more per standard deviation of age, 3 more to readers of recipes."""
    rows, _ = make_rows(7, n=_N)
    random = np.random.default_rng(7)
    reads = random.random((_N, _N_TOKENS)) < 0.25
    is_sent = (rows["action_id"] == "email_coupon_2").to_numpy()
    rows = rows.with_columns(
        value=pl.col("value") + pl.Series(3.0 * (is_sent & reads[:, 0])),
        decided_at=pl.lit(datetime(2026, 2, 1, 1, 30)),
    )
    customer, item = np.nonzero(reads)
    tokens = pl.DataFrame(
        {
            "customer_id": rows["customer_id"].gather(customer),
            "kind": ["read"] * len(item),
            "item": np.array(_ITEMS)[item],
            "available_at": [datetime(2026, 1, 5)] * len(item),
        }
    )
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
    assert age["share"] > 0.2
    assert set(explained.examples["name"]) == {"read:recipes"}
    assert all("recipes" in text for text in explained.examples["history"])
    render_png(plot_interactors(found, outcome="value", unit="EUR"))


def test_stability_is_of_the_first_outcome_and_words_claim_no_cause(explained):
    # Visits depend on nothing: halves select nothing there.
    assert explained.reading.outcome == "visits"
    assert (explained.reading.interactors["stability"].to_numpy() <= 0.25).all()
    assert explained.reading.words == "subgroup effect"
    # One decision a customer: what is hidden can't be told.
    assert explained.reading.residual is None


def test_the_tree_asks_of_what_was_found_and_knows_which_coupon_pays(log, explained):
    tree, leaves = explained.reading.tree, explained.reading.leaves
    assert {tree.names[each] for each in tree.feature if each >= 0} <= {"age", "read:recipes"}
    assert set(leaves["option"]) == {"no offer", "ad", "coupon 2", "coupon 5"}
    logged, selected = log[0], list(explained.findings.selected)
    asked = explained.candidates.matrix[:, selected].toarray()
    value, cost = predict_by_tree(tree, asked, ACTIONS, measure_actions(logged, ACTIONS))
    small = ACTIONS.action_ids.index("email_coupon_2")
    is_reader = explained.candidates.matrix[:, [explained.candidates.names.index("read:recipes")]]
    is_reader = is_reader.toarray()[:, 0] > 0
    gap = value[is_reader, small].mean() - value[~is_reader, small].mean()
    assert gap == pytest.approx(3.0, abs=0.6)
    assert (value[:, 0] == 0).all()
    assert (cost[:, 0] == 0).all()
    assert cost[:, small].mean() == pytest.approx(0.3, abs=0.05)
    render_png(plot_tree(tree, leaves, currency="EUR"))


def test_customers_teach_or_are_searched_or_measure_and_the_holdout_teaches(log):
    ids = log[0].contexts.frame["customer_id"]
    roles = split_roles(ids, SETTINGS)
    shares = np.bincount(roles) / len(roles)
    assert shares[[TEACHING, SEARCHED, MEASURING]] == pytest.approx([0.2, 0.4, 0.4], abs=0.02)
    assert (split_roles(ids.reverse(), SETTINGS)[::-1] == roles).all()
    outside = np.arange(len(ids)) < 5
    assert (split_roles(ids, SETTINGS, outside=outside)[:5] == TEACHING).all()


def test_without_items_attributes_are_searched_alone_and_protected_ones_never(log):
    quick = replace(SETTINGS, search=replace(SETTINGS.search, n_draws=99))
    found = explain(log, tokens=log[1].head(0), settings=quick)
    assert found.taught is None
    assert {found.candidates.names[each] for each in found.findings.selected} == {"age"}
    assert not any("gender" in each for each in found.candidates.names)
    assert found.examples.is_empty()


def test_counts_are_candidates_by_their_logarithm(log):
    candidates = list_attributes(log[0].contexts)
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
    nobody = np.zeros(ACTIONS.n_actions, dtype=bool)
    with pytest.raises(SupportError, match="no decision left chance"):
        make_trial(log[0], "value", nobody)
    assert choose_options(ACTIONS)[0] == ("no offer", "ad", "coupon 2", "coupon 5")


def test_an_unknown_family_is_refused_with_those_there_are(log):
    with pytest.raises(ContractError, match="family 'gift': there are ad, coupon"):
        explain_effects(
            *log, family="gift", actions=ACTIONS, programme=PROGRAMME, settings=SETTINGS
        )
