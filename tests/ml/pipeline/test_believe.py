"""The world model in the loop: who trains it, what it finds odd, who may use which version."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.contexts import build_contexts, join_beliefs
from ml.core.errors import ContractError, ModelError, SupportError
from ml.core.hashing import hash_folder
from ml.core.schemas import Beliefs, CustomerDays
from ml.pipeline.believe import (
    count_implausible,
    explain_staleness,
    infer_beliefs,
    prepare_days,
    train_world_model,
)
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.snapshots import take_snapshot
from ml.uplift.fitting import LearningSettings
from ml.world_model.consistency import measure_free_energy
from ml.world_model.learning import TrainingConfig
from ml.world_model.model import load_world_model, save_world_model

COUPON = ACTIONS.action_ids.index("email_coupon_2")
SMALL = TrainingConfig(hidden=(8,), n_epochs=6, batch_size=128, n_particles=128)


def make_days(n=3_000, *, seed=1, n_dates=4):
    """Customers who come a lot or hardly at all: visits, purchases and spend go together."""
    random = np.random.default_rng(seed)
    first = date(2026, 1, 5)
    often = random.random(n) < 0.4
    rows = []
    for week in range(n_dates):
        visits = random.random((n, 49)) < np.where(often, 0.5, 0.05)[:, None]
        buys = visits & (random.random((n, 49)) < 0.5)
        rows.append(
            pl.DataFrame(
                {
                    "customer_id": [f"c{number}" for number in range(n)],
                    "decision_date": [first + timedelta(days=7 * week)] * n,
                    "built_for_date": [first + timedelta(days=7 * week)] * n,
                    "is_holdout": np.arange(n) % 20 == 0,
                    "is_evaluation": np.arange(n) % 3 == 0,
                    "lifecycle": np.where(often, "habituation", "resurrection"),
                    "attributes": ["{}"] * n,
                    "tenure_days": random.integers(100, 400, n),
                    "days_since_visit": np.where(visits.any(axis=1), visits.argmax(axis=1), 60),
                    "days_since_purchase": np.where(buys.any(axis=1), buys.argmax(axis=1), 60),
                    "visits_90d": 2 * visits.sum(axis=1),
                    "purchases_90d": 2 * buys.sum(axis=1),
                    "spend_90d": 20.0 * buys.sum(axis=1),
                    "visit_days": visits @ (1 << np.arange(49)),
                    "purchase_days": buys @ (1 << np.arange(49)),
                    "redemption_days": np.zeros(n, dtype=np.int64),
                    "offer_days": random.integers(0, 2**28, n),
                }
            )
        )
    return CustomerDays.validate(pl.concat(rows))


@pytest.fixture(scope="module")
def days():
    return make_days()


@pytest.fixture(scope="module")
def fitted(days):
    return train_world_model(days, programme=PROGRAMME, config=SMALL)


def test_evaluation_and_holdout_customers_teach_it_nothing(days, fitted):
    touched = days.with_columns(
        pl.when(pl.col("is_evaluation") | pl.col("is_holdout"))
        .then(pl.lit(0, pl.Int64))
        .otherwise(pl.col("visit_days"))
        .alias("visit_days")
    )
    again = train_world_model(touched, programme=PROGRAMME, config=SMALL)
    for one, other in zip(again.model.network.weights, fitted.model.network.weights, strict=True):
        assert (one == other).all()
    with pytest.raises(SupportError, match="no customer-days"):
        train_world_model(days.filter("is_evaluation"), programme=PROGRAMME, config=SMALL)
    with pytest.raises(SupportError, match="the world model needs 128"):
        train_world_model(days.head(100), programme=PROGRAMME, config=SMALL)


def test_beliefs_tell_customers_apart_and_are_rows_of_the_schema(days, fitted):
    beliefs = Beliefs.validate(infer_beliefs(fitted.model, "7", days))
    assert beliefs.height == days.height
    assert set(beliefs["version"]) == {"7"}
    means = beliefs["belief"].list.to_array(fitted.model.n_belief).to_numpy()
    often = (days["lifecycle"] == "habituation").to_numpy()
    apart = np.abs(means[often].mean(axis=0) - means[~often].mean(axis=0)).max()
    assert apart > 0.5


def test_usual_days_are_plausible_and_contradictory_ones_are_not(days, fitted):
    fresh = make_days(2_000, seed=2)
    usual = infer_beliefs(fitted.model, "1", fresh)
    assert (usual["plausibility"] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert count_implausible(usual)["is_usual"].all()
    # Daily purchases of somebody without a visit, whose purchases are counted as none.
    odd = fresh.filter(pl.col("lifecycle") == "resurrection").with_columns(
        purchase_days=pl.lit(2**49 - 1, pl.Int64),
        visit_days=pl.lit(0, pl.Int64),
        purchases_90d=pl.lit(0, pl.Int64),
    )
    found = infer_beliefs(fitted.model, "1", odd)
    assert found["plausibility"].median() < 0.01
    assert not count_implausible(found)["is_usual"].any()


def _measure(model, rows):
    return measure_free_energy(model.network, model.encoder.encode(prepare_days(rows, [])))


def test_rows_that_are_alike_are_equally_plausible_however_many(fitted, days):
    """The oddest of the held-out days, many times over, is as plausible as its share of them."""
    one = days.filter(pl.col("lifecycle") == "resurrection").head(1)
    many = pl.concat([one] * 500)
    usual = replace(
        fitted.model,
        calibration={
            "resurrection": np.round(
                np.sort(
                    np.concatenate(
                        [
                            _measure(fitted.model, many),
                            _measure(fitted.model, one).repeat(4_500) - 5.0,
                        ]
                    )
                ),
                4,
            )
        },
    )
    assert infer_beliefs(usual, "1", many)["plausibility"].to_numpy() == pytest.approx(501 / 5_001)


def test_a_killed_training_of_other_rows_does_not_stand_in_the_way(days, fitted, tmp_path):
    def kill(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    part = days.filter(pl.col("decision_date") < date(2026, 1, 20))
    with pytest.raises(KeyboardInterrupt):
        train_world_model(
            part, programme=PROGRAMME, config=SMALL, checkpoints=tmp_path, progress=kill
        )
    assert list(tmp_path.rglob("*.safetensors"))
    again = train_world_model(days, programme=PROGRAMME, config=SMALL, checkpoints=tmp_path)
    assert (again.model.network.weights[0] == fitted.model.network.weights[0]).all()


def test_a_saved_model_says_the_same(days, fitted, tmp_path):
    save_world_model(fitted.model, tmp_path / "a")
    save_world_model(fitted.model, tmp_path / "b")
    assert hash_folder(tmp_path / "a") == hash_folder(tmp_path / "b")
    loaded = load_world_model(tmp_path / "a")
    part = days.head(200)
    one, other = (infer_beliefs(each, "1", part) for each in (fitted.model, loaded))
    assert one.drop("plausibility").equals(other.drop("plausibility"))
    assert one["plausibility"].to_numpy() == pytest.approx(other["plausibility"].to_numpy())
    (tmp_path / "a" / "world_model.json").write_text('{"format": 9}')
    with pytest.raises(ModelError, match="has format 9"):
        load_world_model(tmp_path / "a")


def test_a_model_that_knows_only_old_days_is_stale():
    last = date(2026, 2, 1)
    assert explain_staleness(last, date(2026, 3, 1)) == ""
    assert "29 days ago" in explain_staleness(last, date(2026, 3, 2))


def _believed_rows(version):
    """The known log, with a belief that holds what the effects depend on, and nothing else does."""
    rows, z = make_rows(1)
    random = np.random.default_rng(3)
    belief = np.column_stack([1 / (1 + np.exp(-z)), random.random((len(z), 3))])
    beliefs = rows.select("customer_id", "decision_date").with_columns(
        pl.lit(version).alias("version"),
        pl.Series("belief", belief.astype(np.float32), dtype=pl.Array(pl.Float32, 4)).arr.to_list(),
        pl.Series("plausibility", random.random(rows.height)),
    )
    blind = rows.with_columns(pl.lit('{"region": "east"}').alias("attributes"))
    return join_beliefs(blind, beliefs)


def test_heads_refuse_beliefs_of_another_version_and_decide_with_their_own(tmp_path):
    snapshot = take_snapshot(_believed_rows("3"), programme=PROGRAMME, actions=ACTIONS)
    programme = replace(PROGRAMME, least_plausibility=0.2)
    quick = LearningSettings(value_learners=("residual",), n_members=2)
    candidate = fit_candidate(
        snapshot, programme=programme, actions=ACTIONS, settings=quick, belief_version="3"
    )
    assert candidate.belief_version == "3"
    # Without the belief nothing tells effects apart: its learner is what serves.
    assert any("belief" in name for name in candidate.scorer.heads.ensembles)
    contexts = snapshot.evaluation.contexts
    scores = candidate.scorer.score(contexts)
    odd = contexts.beliefs["3"].plausibility < 0.2
    assert odd.any()
    assert not scores.allowed[odd][:, 1:].any()
    assert scores.allowed[~odd][:, 1:].any()
    save_policy(candidate, tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy")
    assert loaded.belief_version == "3"
    assert (loaded.probabilities(contexts) == candidate.probabilities(contexts)).all()
    z = contexts.beliefs["3"].means[:, 0]
    effect = loaded.scorer.heads.predict(contexts).value_effect[:, COUPON]
    assert np.corrcoef(effect, z)[0, 1] > 0.8
    nobody = contexts.take(np.zeros(contexts.n_customers, dtype=bool))
    assert loaded.probabilities(replace(nobody, beliefs={})).shape == (0, ACTIONS.n_actions)
    other = take_snapshot(_believed_rows("4"), programme=PROGRAMME, actions=ACTIONS)
    with pytest.raises(ContractError, match=r"no beliefs of world model version 3 \(but 4\)"):
        candidate.probabilities(other.evaluation.contexts)


def test_rows_without_a_belief_are_joined_as_unknown():
    rows = make_rows(1)[0].head(5)
    beliefs = rows.head(2).select(
        "customer_id",
        "decision_date",
        pl.lit("2").alias("version"),
        pl.lit([0.5, 0.25], dtype=pl.List(pl.Float32)).alias("belief"),
        pl.lit(1.0).alias("plausibility"),
    )
    joined = join_beliefs(rows, beliefs.unique(subset=["customer_id", "decision_date"]))
    assert joined["decision_id"].equals(rows["decision_id"])
    contexts = build_contexts(joined, programme=PROGRAMME, actions=ACTIONS)
    seen = contexts.see_belief("2")
    assert seen.feature_names[-2:] == ("belief:0", "belief:1")
    assert seen.schema_hash != contexts.schema_hash
    assert np.isnan(seen.context[-1, -2:]).all()
    assert seen.context[0, -2:].tolist() == [0.5, 0.25]
    assert contexts.see_belief(None) is contexts
