"""What offers do after the learning horizon: counted as far as proven, in one objective."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.errors import ContractError, SupportError
from ml.core.programme import parse_programme
from ml.pipeline.later import estimate_later_effects
from ml.pipeline.learn import fit_candidate
from ml.pipeline.objective import realise_rewards, take_judged
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.validate import evaluate_candidate

COUPONS = [k for k in range(1, ACTIONS.n_actions) if ACTIONS.families[k] == "coupon"]

COUNTING = replace(PROGRAMME, later_value_weight=1.0)


def _snapshot(effect, *, seed=1, noise=1.0, n=12_000, is_over=True):
    """Every coupon changes what follows the learning horizon by ``effect``."""
    rows, _ = make_rows(seed, n=n)
    random = np.random.default_rng(seed + 50)
    is_offer = (rows["action_id"] != "no_offer").to_numpy()
    later = 6 + effect * is_offer + random.normal(0, noise, n)
    return take_snapshot(
        rows.with_columns(
            accounting_value=rows["value"] + pl.Series(later),
            accounting_cost=rows["cost"] + 0.1 * pl.Series(is_offer.astype(float)),
            is_accounting_matured=pl.Series(np.arange(n) % 3 > 0) if is_over else pl.lit(False),
        ),
        programme=PROGRAMME,
        actions=ACTIONS,
    )


def test_a_proven_effect_is_counted_for_its_family_alone():
    found = estimate_later_effects(_snapshot(-0.4).training, actions=ACTIONS, weight=1.0)
    # Later value falls by .4 and later redemptions cost .1.
    row = found.table.row(0, named=True)
    assert row["family"] == "coupon"
    assert row["effect"] == pytest.approx(-0.5, abs=3 * row["standard_error"])
    assert found.per_action[COUPONS] == pytest.approx(row["counted"])
    assert row["effect"] < row["counted"] < 0
    assert (np.delete(found.per_action, COUPONS) == 0).all()
    half = estimate_later_effects(_snapshot(-0.4).training, actions=ACTIONS, weight=0.5)
    assert half.per_action == pytest.approx(found.per_action / 2)


def test_what_is_not_proven_or_not_over_is_left_out():
    counted, squares = [], []
    for seed in range(60):
        training = _snapshot(0.1, seed=seed, noise=20.0, n=3_000).training
        row = estimate_later_effects(training, actions=ACTIONS, weight=1.0).table.row(0, named=True)
        counted.append(row["counted"])
        squares.append((row["effect"] / row["standard_error"]) ** 2)
    # Two offers share their controls: their common error is right all the same.
    assert 0.6 < np.mean(squares) < 1.5
    assert np.mean(np.array(counted) == 0) > 0.5
    for snapshot, weight in ((_snapshot(-0.4, is_over=False), 1.0), (_snapshot(-0.4), 0.0)):
        found = estimate_later_effects(snapshot.training, actions=ACTIONS, weight=weight)
        assert (found.per_action == 0).all()
        assert found.table.is_empty()
    rows, _ = make_rows(1)
    plain = take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS)
    assert not estimate_later_effects(plain.training, actions=ACTIONS, weight=1.0).table.height


def test_a_new_offer_tells_nothing_about_its_family():
    training = _snapshot(-0.4).training
    alone = estimate_later_effects(training, actions=ACTIONS, weight=1.0)
    action = training.action.copy()
    action[np.flatnonzero(action == COUPONS[0])[0]] = COUPONS[2]
    eligible = training.contexts.eligible.copy()
    eligible[:, COUPONS[2]] = True
    contexts = replace(training.contexts, eligible=eligible)
    once = replace(training, action=action, contexts=contexts)
    found = estimate_later_effects(once, actions=ACTIONS, weight=1.0)
    assert found.per_action == pytest.approx(alone.per_action, abs=0.01)


def test_training_gate_and_allocation_share_the_objective(tmp_path, candidate, rule):
    snapshot = _snapshot(-0.4)
    aware = fit_candidate(snapshot, programme=COUNTING, actions=ACTIONS)
    assert aware.scorer.later_effect[COUPONS] == pytest.approx(-0.5, abs=0.1)
    contexts = snapshot.evaluation.contexts
    # Offers that pay within a week and not within a month are left out.
    sent = [float(1 - each.probabilities(contexts)[:, 0].mean()) for each in (aware, candidate)]
    assert sent[0] < sent[1] - 0.05
    own, plain = aware.scorer.score(contexts), candidate.scorer.score(contexts)
    assert own.value_effect == pytest.approx(plain.value_effect)
    save_policy(aware, tmp_path)
    loaded = load_policy(tmp_path)
    assert (loaded.probabilities(contexts) == aware.probabilities(contexts)).all()
    # The gate judges what came of each decision later, where that is known: noise included.
    judged = take_judged(snapshot.evaluation, COUNTING)
    is_over = judged.contexts.frame["is_accounting_matured"]
    assert is_over.all()
    assert 0 < judged.n_decisions < snapshot.evaluation.n_decisions
    later = realise_rewards(judged, COUNTING)["net_value"] - judged.net_value
    assert later.std() > 0.5
    values = _evaluate(snapshot, aware, rule, COUNTING).policy_values
    assert set(values["n_decisions"]) == {judged.n_decisions}
    gains = {
        row["policy"]: row["incremental_value"]
        for row in values.filter(estimator="dr", reward="net_value").to_dicts()
    }
    # Coupon to all: .5 on value, .3 on cost, .5 less later.
    assert gains["all_email_coupon_2"] == pytest.approx(0.5 - 0.3 - 0.5, abs=0.3)
    short = _evaluate(snapshot, aware, rule, PROGRAMME).policy_values
    assert set(short["n_decisions"]) == {snapshot.evaluation.n_decisions}
    with pytest.raises(SupportError, match="accounting horizon has passed"):
        _evaluate(_snapshot(-0.4, is_over=False), candidate, rule, COUNTING)


def _evaluate(snapshot, candidate, champion, programme):
    return evaluate_candidate(
        snapshot,
        candidate=candidate,
        champion=champion,
        programme=programme,
        candidate_version="2",
        champion_version="1",
        candidate_hash="x",
        training_date=snapshot.evaluation.contexts.frame["decision_date"].max(),
        gate_number=1,
        is_randomisation_sound=True,
    )


def test_the_weight_is_declared():
    with pytest.raises(ContractError, match="later_value_weight"):
        parse_programme({**json.loads(PROGRAMME.to_json()), "later_value_weight": 2})
