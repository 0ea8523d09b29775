"""What offers do after the learning horizon: counted as far as proven, in one objective."""

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.programme import parse_programme
from ml.pipeline.later import estimate_later_effects
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.validate import evaluate_candidate, expect_rewards, realise_rewards

COUPONS = [k for k in range(1, ACTIONS.n_actions) if ACTIONS.families[k] == "coupon"]


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
    counted = [
        estimate_later_effects(
            _snapshot(0.1, seed=seed, noise=20.0, n=3_000).training, actions=ACTIONS, weight=1.0
        ).per_action[COUPONS[0]]
        for seed in range(20)
    ]
    assert np.mean(np.array(counted) == 0) > 0.4
    for snapshot, weight in ((_snapshot(-0.4, is_over=False), 1.0), (_snapshot(-0.4), 0.0)):
        found = estimate_later_effects(snapshot.training, actions=ACTIONS, weight=weight)
        assert (found.per_action == 0).all()
        assert found.table.is_empty()
    rows, _ = make_rows(1)
    plain = take_snapshot(rows, programme=PROGRAMME, actions=ACTIONS)
    assert not estimate_later_effects(plain.training, actions=ACTIONS, weight=1.0).table.height


def test_training_gate_and_allocation_share_the_objective(tmp_path, candidate, rule):
    snapshot = _snapshot(-0.4)
    aware = fit_candidate(snapshot, programme=PROGRAMME, actions=ACTIONS)
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
    logged = snapshot.evaluation
    shift = realise_rewards(aware, logged)["net_value"] - logged.net_value
    assert shift == pytest.approx(aware.scorer.later_effect[logged.action])
    expected = expect_rewards(aware, logged)
    assert expected["net_value"] == pytest.approx(
        expected["value"] - expected["cost"] + aware.scorer.later_effect
    )
    values = evaluate_candidate(
        snapshot,
        candidate=aware,
        champion=rule,
        programme=PROGRAMME,
        candidate_version="2",
        champion_version="1",
        candidate_hash="x",
        training_date=rule_date(snapshot),
        gate_number=1,
        is_randomisation_sound=True,
    ).policy_values
    by_reward = {
        row["reward"]: row["incremental_value"]
        for row in values.filter(policy="candidate", estimator="dr").to_dicts()
    }
    later = float((aware.probabilities(contexts) * aware.scorer.later_effect).sum(axis=1).mean())
    assert by_reward["net_value"] == pytest.approx(by_reward["value"] - by_reward["cost"] + later)


def rule_date(snapshot):
    return snapshot.evaluation.contexts.frame["decision_date"].max()


def test_the_weight_is_declared():
    import json

    from ml.core.errors import ContractError

    with pytest.raises(ContractError, match="later_value_weight"):
        parse_programme({**json.loads(PROGRAMME.to_json()), "later_value_weight": 2})
