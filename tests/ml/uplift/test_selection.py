"""Choosing among candidates on pseudo-outcomes whose every effect is known."""

import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.uplift.ensemble import Learner
from ml.uplift.sample import Sample
from ml.uplift.selection import (
    CONFIRMING_FOLD,
    Candidate,
    Judged,
    adjust_by_holm,
    admit_by_lifecycle,
    compare_risks,
    cross_predict,
    prove_heterogeneity,
    shortlist,
)
from ml.uplift.stacking import STACK, stack_across
from ml.uplift.trees import TreeSettings
from ml.uplift.trial import OutcomeTrial

LIFECYCLES = np.array(["activation", "habituation"])


def _make_judged(seed, *, n_customers=2_000, noise=3.0, spread=1.0, shared=0.0):
    """Two decisions a customer; the effect of offer 1 is 1 + spread z, of offer 2 always 1."""
    random = np.random.default_rng(seed)
    customer = np.repeat(np.arange(n_customers), 2)
    n = len(customer)
    z = random.normal(size=n)
    truth = np.column_stack([np.zeros(n), 1 + spread * z, np.ones(n)])
    common = shared * random.normal(size=(n_customers, 1))[customer]
    pseudo = truth + noise * random.normal(size=(n, 3)) + common
    pseudo[:, 0] = 0
    judged = Judged(
        pseudo=pseudo,
        possible=np.ones((n, 3), dtype=bool),
        fold=random.integers(0, 4, n_customers)[customer],
        customer=customer,
        lifecycle=LIFECYCLES[random.integers(0, 2, n)],
        families=("none", "coupon", "ad"),
    )
    constant = np.tile([0.0, 1.0, 1.0], (n, 1))
    wrong = np.column_stack([np.zeros(n), 1 + random.normal(size=n), np.ones(n)])
    return judged, {"constant": constant, "right": truth, "wrong": wrong}


def test_risk_tells_right_from_wrong():
    judged, effects = _make_judged(1)
    risks = compare_risks(effects, judged, against="constant")
    difference = dict(zip(risks["candidate"], risks["risk_difference"], strict=True))
    error = dict(zip(risks["candidate"], risks["standard_error"], strict=True))
    # E[(psi - tau)^2] falls by the variance of the effect that is told.
    assert difference["right"] == pytest.approx(-1, abs=3 * error["right"])
    assert difference["wrong"] == pytest.approx(1, abs=3 * error["wrong"])
    assert difference["constant"] == error["constant"] == 0
    assert shortlist(risks, effects, judged) == ["right"]


def test_the_confirming_fold_has_no_say_in_risk_and_stack():
    judged, effects = _make_judged(2)
    changed = judged.with_pseudo(
        np.where((judged.fold == CONFIRMING_FOLD)[:, None], 99.0, judged.pseudo)
    )
    first, second = (compare_risks(effects, each, against="constant") for each in (judged, changed))
    assert first.equals(second)
    assert stack_across(effects, judged)[1] == stack_across(effects, changed)[1]


def test_the_stack_takes_what_is_right_and_weights_sum_to_one():
    judged, effects = _make_judged(3)
    mixed, mixtures = stack_across(effects, judged)
    for mixture in mixtures.values():
        assert sum(mixture.values()) == pytest.approx(1)
        assert min(mixture.values()) > 0
        assert mixture["right"] > 0.8
    left = ((mixed - effects["right"]) ** 2)[:, 1].mean()
    assert left < 0.1 * ((effects["constant"] - effects["right"]) ** 2)[:, 1].mean()


def test_weights_are_those_of_constrained_least_squares():
    """A grid over the simplex finds no better mixture."""
    judged, effects = _make_judged(4, n_customers=300)
    mixture = stack_across(effects, judged)[1]["activation"]
    rows = (judged.lifecycle == "activation") & (judged.fold != CONFIRMING_FOLD)

    def lose(weights):
        mixed = sum(weights.get(name, 0.0) * effects[name][rows] for name in effects)
        return float(((judged.pseudo[rows] - mixed)[:, 1:] ** 2).sum())

    grid = np.linspace(0, 1, 41)
    best = min(
        lose({"constant": a, "right": b, "wrong": 1 - a - b})
        for a in grid
        for b in grid
        if a + b <= 1
    )
    assert lose(mixture) <= best * 1.001


def test_constant_effects_are_personalised_as_often_as_the_level_says():
    """Correlated candidates, decisions correlated within customers: p-values are uniform enough."""
    hits = 0
    for seed in range(200):
        judged, _ = _make_judged(100 + seed, n_customers=300, spread=0.0, shared=2.0)
        random = np.random.default_rng(seed)
        by_customer = random.normal(size=300)[judged.customer]
        candidates = {
            name: np.column_stack([np.zeros(len(by_customer)), tau, tau])
            for name, tau in (
                ("one", by_customer),
                ("two", by_customer + 0.3 * random.normal(size=len(by_customer))),
                ("three", random.normal(size=len(by_customer))),
            )
        }
        p_values = prove_heterogeneity(candidates, judged, seed=seed, n_draws=1_000)
        hits += p_values["coupon"] <= 0.10
    assert abs(hits / 200 - 0.10) <= 3 * np.sqrt(0.1 * 0.9 / 200)


def test_real_heterogeneity_is_proven_in_its_family_alone():
    judged, effects = _make_judged(5)
    p_values = prove_heterogeneity(effects, judged, seed=1)
    assert p_values["coupon"] < 0.001
    assert p_values["ad"] > 0.1


def test_holm_by_hand():
    adjusted = adjust_by_holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5})


def _make_trial(judged, effects, mixtures=None):
    control = np.zeros(len(judged.customer))
    return OutcomeTrial(
        "value",
        None,
        judged,
        control,
        effects,
        effects,
        mixtures or {},
        {name: [each for each in effects if each != STACK] for name in LIFECYCLES},
        {"sick": "why"},
        {},
    )


def test_the_stack_is_taken_unless_another_is_worth_more():
    judged, effects = _make_judged(6)
    # The same predictions but for a rounding: risk can't tell them apart.
    effects = {**effects, STACK: effects["right"] + 1e-6}
    trial = _make_trial(judged, effects, {name: {"right": 1.0} for name in LIFECYCLES})
    chosen, evidence = trial.choose(list(LIFECYCLES))
    assert set(chosen.values()) == {STACK}
    assert trial.resolve("activation", STACK) == {"right": 1.0}
    assert evidence.filter(evidence["candidate"] == "sick")["refusal"].to_list() == ["why"] * 2

    def confirm(effect, rows):
        assert (judged.fold[rows] == CONFIRMING_FOLD).all()
        return np.full(len(rows), 1.0 if (effect == effects["right"][rows]).all() else 0.0)

    assert set(trial.choose(list(LIFECYCLES), confirm=confirm)[0].values()) == {"right"}


def test_a_lifecycle_has_a_model_of_its_own_only_where_that_is_better():
    judged, effects = _make_judged(8)
    is_active = (judged.lifecycle == "activation")[:, None]
    effects = {
        "constant": effects["constant"],
        "tree": effects["constant"],
        # Right where customers are active, and as good as the pooled model elsewhere.
        "tree, own": np.where(is_active, effects["right"], effects["constant"]),
    }
    admitted = admit_by_lifecycle(effects, judged, refused={})
    assert admitted == {
        "activation": ["constant", "tree", "tree, own"],
        "habituation": ["constant", "tree"],
    }
    refused = {"tree, own": {"activation": "too few"}}
    assert "tree, own" not in admit_by_lifecycle(effects, judged, refused=refused)["activation"]
    mixtures = stack_across(effects, judged, admitted=admitted)[1]
    assert mixtures["activation"]["tree, own"] > 0.8
    assert "tree, own" not in mixtures["habituation"]


def test_nobody_is_predicted_by_a_model_of_their_own_fold():
    n = 400
    random = np.random.default_rng(7)
    fold, seen = np.arange(n) % 4, []
    learner = Learner(
        "spy",
        lambda scores, numbers, shape: np.zeros(shape),
        prepare=lambda sample, settings: (
            seen.append(set(fold[sample.is_usable].tolist())) or _nothing()
        ),
    )
    sample = Sample(
        context=random.normal(size=(n, 2)),
        descriptors=np.eye(2),
        action=np.arange(n) % 2,
        logging_policy=np.full((n, 2), 0.5),
        outcome=random.normal(size=n),
        fold=fold // 2,
        is_in_scope=np.ones(n, dtype=bool),
        is_zero_without_offer=False,
    )
    cross_predict(
        Candidate(learner, is_pooled=True),
        sample,
        fold=fold,
        lifecycle=np.full(n, "all"),
        settings=TreeSettings(),
    )
    assert seen == [{1, 2}, {0, 2}, {0, 1}, {0, 1, 2}]


def test_what_would_be_refused_in_the_end_takes_no_part():
    """A learner that bears every three folds, but not the whole it is to be fitted on."""
    n = 400
    learner = Learner(
        "picky",
        lambda scores, numbers, shape: np.zeros(shape),
        refuse=lambda sample: "too many" if sample.is_usable.sum() > 350 else "",
    )
    sample = Sample(
        context=np.zeros((n, 1)),
        descriptors=np.eye(2),
        action=np.arange(n) % 2,
        logging_policy=np.full((n, 2), 0.5),
        outcome=np.ones(n),
        fold=np.arange(n) % 2,
        is_in_scope=np.ones(n, dtype=bool),
        is_zero_without_offer=False,
    )
    with pytest.raises(SupportError, match="picky refused: too many"):
        cross_predict(
            Candidate(learner, is_pooled=True),
            sample,
            fold=np.arange(n) % 4,
            lifecycle=np.full(n, "all"),
            settings=TreeSettings(),
        )


def _nothing():
    from ml.uplift.ensemble import Prepared

    return Prepared()
