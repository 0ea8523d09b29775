"""Lower bounds of effects: chosen by what their policy is worth, and kept with the heads."""

import numpy as np
import pytest
from known_log import ACTIONS, PROGRAMME

from ml.pipeline.learn import fit_candidate
from ml.pipeline.policy_files import load_policy, save_policy
from ml.uplift.caution import CAUTIONS, USUAL_CAUTION, choose_caution
from ml.uplift.ensemble import EffectEstimate
from ml.uplift.fitting import LearningSettings


def _choose(truth, spread, noise, seed, n=4_000):
    """Choose between two offers of which the second looks better than it is."""
    random = np.random.default_rng(seed)
    mean = np.column_stack([np.zeros(n), np.full(n, 0.6), np.full(n, 1.0)])
    value = EffectEstimate(mean, np.column_stack([np.zeros((n, 2)), np.full(n, spread)]))
    outcome = np.column_stack([np.zeros(n), random.normal(truth, noise, (n, 2))])

    def confirm(bound):
        return outcome[np.arange(n), bound.argmax(axis=1)]

    return choose_caution(value, confirm, np.arange(n) // 2)


def test_caution_is_taken_where_it_pays():
    # At .5 and above the first offer is taken; it is the better one.
    chosen, table = _choose((0.6, -0.5), 1.0, 1.0, 1)
    assert chosen == USUAL_CAUTION
    assert table["caution"].to_list() == list(CAUTIONS)
    assert table.filter(table["is_chosen"])["caution"].to_list() == [chosen]
    assert table["policy_value"][0] < table["policy_value"][3]
    # Where it isn't, less caution is worth more.
    chosen, _ = _choose((0.6, 1.4), 1.0, 1.0, 2)
    assert chosen in (0.0, 0.25)


def test_without_evidence_the_usual_caution_serves():
    chosen, table = _choose((0.6, 0.6), 0.0, 1.0, 3)
    assert chosen == USUAL_CAUTION
    assert (table["difference"] == 0).all()


def test_caution_is_kept_and_prunes(snapshot, tmp_path):
    quick = LearningSettings(n_members=3)
    policy = fit_candidate(snapshot, programme=PROGRAMME, actions=ACTIONS, settings=quick)
    heads, contexts = policy.scorer.heads, snapshot.evaluation.contexts
    assert heads.caution == policy.scorer.guardrails.caution
    assert heads.report.caution.filter(is_chosen=True)["caution"].item() == heads.caution
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    assert loaded.scorer.heads.caution == heads.caution
    scores = loaded.scorer.score(contexts)
    effects = heads.predict(contexts)
    bound = effects.value_effect - heads.caution * effects.value_spread
    assert scores.reward == pytest.approx(bound - effects.cost_effect)
