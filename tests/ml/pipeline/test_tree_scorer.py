"""A policy tree of histories' codes: scored, kept, judged by the gate, decided by."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
import torch
from known_log import ACTIONS, PROGRAMME, make_readers

from ml.core.contexts import BELIEF, HISTORY, PLAUSIBILITY
from ml.core.errors import ContractError, SupportError
from ml.interactors.codes import CodeSettings
from ml.interactors.histories import join_histories
from ml.interactors.search import SearchSettings
from ml.pipeline.decide import decide_night
from ml.pipeline.explain_effects import explain_effects
from ml.pipeline.find_interactors import InteractorSettings
from ml.pipeline.learn import fit_candidate, fit_lifecycle_rule
from ml.pipeline.policy_files import load_policy, save_policy
from ml.pipeline.recalibrate import recalibrate_policy
from ml.pipeline.snapshots import take_snapshot
from ml.pipeline.tree_scorer import TreeScorer, fit_tree_policy, list_requirements
from ml.pipeline.validate import evaluate_candidate

SMALL = ACTIONS.action_ids.index("email_coupon_2")
SETTINGS = InteractorSettings(
    teaching=0.2,
    measuring=0.4,
    n_coders=2,
    codes=CodeSettings(
        n_features=16, n_active=4, n_steps=1_200, batch_size=256, learning_rate=3e-3
    ),
    search=SearchSettings(n_draws=99),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def rows_and_tokens():
    rows, tokens = make_readers(7)
    return join_histories(rows, tokens), tokens


@pytest.fixture(scope="module")
def snapshot(rows_and_tokens):
    return take_snapshot(rows_and_tokens[0], programme=PROGRAMME, actions=ACTIONS)


@pytest.fixture(scope="module")
def base(snapshot):
    return fit_candidate(snapshot, programme=PROGRAMME, actions=ACTIONS)


def explain(snapshot, tokens, **options):
    outside = snapshot.training.contexts.frame.head(0).select("customer_id", "decided_at")
    return explain_effects(
        snapshot.training,
        tokens,
        outside,
        family="coupon",
        actions=ACTIONS,
        programme=PROGRAMME,
        settings=SETTINGS,
        **options,
    )


@pytest.fixture(scope="module")
def explained(snapshot, rows_and_tokens):
    return explain(snapshot, rows_and_tokens[1])


@pytest.fixture(scope="module")
def tree(snapshot, base, explained):
    return fit_tree_policy(
        snapshot, base, explained.reading.tree, explained.reader, programme=PROGRAMME
    )


def test_a_policy_scores_by_the_leaf_that_histories_and_attributes_lead_to(
    snapshot, explained, tree
):
    assert tree.kind == "tree"
    assert tree.needs_histories
    own = tree.scorer.tree
    code = 1 - own.names.index("age")
    assert own.names[code].startswith("read:recipes")
    contexts = snapshot.evaluation.contexts.take(np.arange(300))
    scores = tree.scorer.score(contexts)
    ages = contexts.context[:, contexts.feature_names.index("age")]
    coded = tree.scorer.reader.read(contexts, own.names)
    kind = own.options.index("coupon 2")
    for row in range(contexts.n_customers):
        assert coded[row, 1 - code] == ages[row]
        node = 0
        while own.feature[node] >= 0:
            is_left = np.float32(coded[row, own.feature[node]]) <= own.threshold[node]
            node = own.left[node] if is_left else own.right[node]
        expected = own.value_effect[node, kind] * tree.scorer.value_ratio[SMALL]
        assert scores.value_effect[row, SMALL] == pytest.approx(expected)
    # Readers of recipes gain 3 more; nobody else gains that much but the old.
    reads = contexts.frame[HISTORY].list.contains("read:recipes").to_numpy()
    assert np.corrcoef(reads, coded[:, code])[0, 1] > 0.8
    assert scores.value_effect[reads, SMALL].mean() > scores.value_effect[~reads, SMALL].mean() + 2


def test_the_gate_lets_it_replace_the_rule(snapshot, tree):
    rule = fit_lifecycle_rule(snapshot, programme=PROGRAMME, actions=ACTIONS)
    evaluation = evaluate_candidate(
        snapshot,
        candidate=tree,
        champion=rule,
        programme=PROGRAMME,
        candidate_version="2",
        champion_version="1",
        candidate_hash="abc",
        training_date=date(2026, 3, 9),
        gate_number=1,
        is_randomisation_sound=True,
    )
    row = evaluation.record.row(0, named=True)
    assert row["is_passed"], row["reasons"]
    assert row["net_value_difference"] > 0.5


def test_it_decides_a_night_within_the_budget_and_refuses_rows_without_histories(
    rows_and_tokens, tree
):
    night_of = date(2026, 3, 8)
    features = rows_and_tokens[0].with_columns(pl.lit(night_of).alias("decision_date"))
    options = {
        "policy": tree,
        "policy_version": "2",
        "catalogue": ACTIONS,
        "programme": PROGRAMME,
        "decision_date": night_of,
    }
    night = decide_night(features, **options)
    assert night.expected_cost <= night.budget
    sent = night.assignments.filter(action_id="email_coupon_2")
    reads = features.filter(pl.col(HISTORY).list.contains("read:recipes"))["customer_id"]
    share = sent["customer_id"].is_in(reads.implode()).mean()
    assert share > 0.4
    with pytest.raises(ContractError, match="carry no histories"):
        decide_night(features.drop(HISTORY), **options)


def test_what_was_not_measured_in_a_leaf_is_not_sent_there(snapshot, tree):
    scorer, contexts = tree.scorer, snapshot.evaluation.contexts
    kind = scorer.tree.options.index("coupon 2")
    value = scorer.tree.value_effect.copy()
    leaf = scorer.tree.find_leaves(scorer.reader.read(contexts, scorer.tree.names))
    value[leaf[0], kind] = np.nan
    # Though it would bring much later.
    later = replace(scorer.uplift, later_effect=np.full(ACTIONS.n_actions, 50.0))
    unknown = replace(scorer, tree=replace(scorer.tree, value_effect=value), uplift=later)
    allowed = unknown.score(contexts).allowed[:, SMALL]
    assert not allowed[leaf == leaf[0]].any()
    assert allowed[leaf != leaf[0]].any()


def test_it_reads_what_it_asks_of_and_nothing_else(snapshot, explained, tree):
    assert tree.scorer.reader.attributes.names == ("age",)
    assert len(explained.reader.attributes.names) > 5
    contexts = snapshot.evaluation.contexts
    age = contexts.feature_names.index("age")
    only = replace(
        contexts,
        feature_names=("age",),
        context=contexts.context[:, [age]],
    )
    names = tree.scorer.tree.names
    assert (tree.scorer.reader.read(only, names) == tree.scorer.reader.read(contexts, names)).all()
    assert list_requirements(tree.scorer) == []


def test_files_give_the_same_tree_back(snapshot, tree, tmp_path):
    first = save_policy(tree, tmp_path / "a")
    back = load_policy(tmp_path / "a")
    assert isinstance(back.scorer, TreeScorer)
    assert back.needs_histories
    contexts = snapshot.evaluation.contexts
    assert (back.probabilities(contexts) == tree.probabilities(contexts)).all()
    assert save_policy(back, tmp_path / "b") == first
    assert not list(tmp_path.rglob("*.pkl"))


def test_a_tree_needs_heads_and_to_know_all_offers_and_is_not_recalibrated(
    snapshot, base, explained, tree
):
    found = (explained.reading.tree, explained.reader)
    rule = fit_lifecycle_rule(snapshot, programme=PROGRAMME, actions=ACTIONS)
    with pytest.raises(ContractError, match="no heads to stand on"):
        fit_tree_policy(snapshot, rule, *found, programme=PROGRAMME)
    grown = found[0]
    # Columns go by name: options in another order mean the same.
    turned = replace(
        grown,
        options=grown.options[::-1],
        value_effect=grown.value_effect[:, ::-1],
        cost_effect=grown.cost_effect[:, ::-1],
    )
    again = fit_tree_policy(snapshot, base, turned, found[1], programme=PROGRAMME)
    contexts = snapshot.evaluation.contexts
    assert (again.probabilities(contexts) == tree.probabilities(contexts)).all()
    renamed = replace(grown, options=("no offer", "coupon 7", *grown.options[2:]))
    with pytest.raises(ContractError, match="knows no offers of the kind"):
        fit_tree_policy(snapshot, base, renamed, found[1], programme=PROGRAMME)
    nothing = np.full(len(grown.feature), -1)
    with pytest.raises(SupportError, match="asks nothing"):
        fit_tree_policy(
            snapshot, base, replace(grown, feature=nothing), found[1], programme=PROGRAMME
        )
    with pytest.raises(ContractError, match="grown anew, not recalibrated"):
        recalibrate_policy(tree, snapshot, programme=PROGRAMME)


def test_beliefs_represent_customers_as_histories_do(rows_and_tokens, base, tmp_path):
    rows, tokens = rows_and_tokens
    reads = rows[HISTORY].list.contains("read:recipes").to_numpy()
    random = np.random.default_rng(3)
    # Three units: one knows who reads recipes, two know nothing.
    units = np.column_stack([reads, random.random((rows.height, 2)) < 0.5])
    believed = rows.with_columns(
        pl.Series(f"{BELIEF}4", np.where(units, 0.9, 0.1).tolist()),
        pl.lit(0.5).alias(f"{PLAUSIBILITY}4"),
    )
    # Some have no belief yet.
    lacks = pl.Series(random.random(rows.height) < 0.05)
    believed = believed.with_columns(pl.when(~lacks).then(pl.col(f"{BELIEF}4")).alias(f"{BELIEF}4"))
    seen = take_snapshot(believed, programme=PROGRAMME, actions=ACTIONS)
    found = explain(seen, tokens, encoder="belief")
    assert found.taught.representation.name == "belief"
    names = [found.candidates.names[each] for each in found.findings.by_outcome["value"].selected]
    assert "age" in names
    coded = [each for each in names if each.startswith("code ")]
    assert len(coded) == 1
    assert found.examples.is_empty()
    policy = fit_tree_policy(seen, base, found.reading.tree, found.reader, programme=PROGRAMME)
    assert policy.belief_version == "4"
    assert not policy.needs_histories
    save_policy(policy, tmp_path)
    contexts = seen.evaluation.contexts
    own = policy.probabilities(contexts)
    assert (load_policy(tmp_path).probabilities(contexts) == own).all()
    other = replace(base.scorer.heads, belief_version="3")
    mixed = replace(base, scorer=replace(base.scorer, heads=other))
    with pytest.raises(SupportError, match="world model 4, the heads of 3"):
        fit_tree_policy(seen, mixed, found.reading.tree, found.reader, programme=PROGRAMME)


def test_without_beliefs_attributes_are_searched_and_no_encoder_is_made_up(
    snapshot, rows_and_tokens
):
    found = explain(snapshot, rows_and_tokens[1], encoder="belief")
    assert found.taught is None
    assert "no decision carries a belief" in found.why_not
    with pytest.raises(ContractError, match="no encoder 'words': there are bag, phrases"):
        explain(snapshot, rows_and_tokens[1], encoder="words")
