"""Histories: what precedes a decision, no more, and how it reads."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ml.core.errors import SupportError
from ml.interactors.histories import (
    join_histories,
    learn_vocabulary,
    list_tokens,
    read_histories,
    read_lists,
)

START = datetime(2026, 3, 1)


def make_tokens(seed=1, n=4_000, n_customers=60):
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "customer_id": [f"c{each}" for each in random.integers(0, n_customers, n)],
            "kind": random.choice(["purchase", "read"], n),
            "item": [f"i{each}" for each in random.integers(0, 9, n)],
            "available_at": [
                START + timedelta(minutes=int(each)) for each in random.integers(0, 40_000, n)
            ],
        }
    )


def make_decisions(seed=2, n=300, n_customers=63):
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "customer_id": [f"c{each}" for each in random.integers(0, n_customers, n)],
            "decided_at": [
                START + timedelta(minutes=int(each)) for each in random.integers(-500, 40_000, n)
            ],
        }
    )


def test_a_history_holds_what_was_available_before_the_decision_and_nothing_else():
    tokens, decisions = make_tokens(), make_decisions()
    # At the very time of a decision is not before it.
    tokens = pl.concat(
        [
            tokens,
            decisions.head(40).select(
                "customer_id",
                pl.lit("read").alias("kind"),
                pl.lit("i0").alias("item"),
                pl.col("decided_at").alias("available_at"),
            ),
        ]
    )
    vocabulary = learn_vocabulary(tokens, least_customers=5)
    counts = read_histories(tokens, decisions, vocabulary=vocabulary).count().toarray()
    for row, decision in enumerate(decisions.iter_rows(named=True)):
        before = tokens.filter(
            (pl.col("customer_id") == decision["customer_id"])
            & (pl.col("available_at") < decision["decided_at"])
        )
        for place, token in enumerate(vocabulary):
            kind, item = token.split(":")
            assert counts[row, place] == before.filter(kind=kind, item=item).height
    assert 0 in counts.sum(axis=1)


def test_the_newest_tokens_are_looked_at_and_unknown_ones_left_out():
    tokens, decisions = make_tokens(), make_decisions()
    vocabulary = ("purchase:i1", "read:i2")
    histories = read_histories(tokens, decisions, vocabulary=vocabulary, most_tokens=3)
    for row, decision in enumerate(decisions.iter_rows(named=True)):
        before = tokens.with_columns((pl.col("kind") + ":" + pl.col("item")).alias("token")).filter(
            (pl.col("customer_id") == decision["customer_id"])
            & (pl.col("available_at") < decision["decided_at"])
        )
        newest = before.sort("available_at", "token").tail(3)["token"].to_list()
        own = histories.token[histories.first[row] : histories.after[row]]
        assert [vocabulary[each] for each in own] == [each for each in newest if each in vocabulary]
    assert histories.count().sum() > 20


def test_a_history_reads_as_text_and_presence_is_whether_not_how_often():
    tokens = pl.DataFrame(
        {
            "customer_id": ["a", "a", "a", "a", "b"],
            "kind": ["purchase", "purchase", "purchase", "read", "read"],
            "item": ["rye", "sour_dough", "sour_dough", "recipes", "recipes"],
            "available_at": [START] * 5,
        }
    )
    decisions = pl.DataFrame(
        {"customer_id": ["b", "a", "z"], "decided_at": [START + timedelta(days=1)] * 3}
    )
    vocabulary = learn_vocabulary(tokens, least_customers=1)
    histories = read_histories(tokens, decisions, vocabulary=vocabulary)
    assert histories.describe() == ["read recipes", "purchase sour dough, rye; read recipes", ""]
    assert histories.find_present().toarray().tolist() == [[0, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert histories.take(np.array([2, 0])).describe() == ["", "read recipes"]
    with pytest.raises(SupportError, match="histories of 20 customers: events need an item"):
        learn_vocabulary(tokens)


def test_histories_written_as_lists_are_read_back_over_any_vocabulary():
    tokens, decisions = make_tokens(), make_decisions()
    vocabulary = learn_vocabulary(tokens, least_customers=5)
    histories = read_histories(tokens, decisions, vocabulary=vocabulary)
    lists = list_tokens(histories)
    assert lists.to_list() == [
        [vocabulary[each] for each in histories.token[first:after]]
        for first, after in zip(histories.first, histories.after, strict=True)
    ]
    back = read_lists(lists, vocabulary)
    assert (back.count().toarray() == histories.count().toarray()).all()
    fewer = read_lists(lists, vocabulary[::2])
    assert (fewer.count().toarray() == histories.count().toarray()[:, ::2]).all()
    unknown = read_lists(pl.Series([None, []], dtype=pl.List(pl.String)), vocabulary)
    assert unknown.count().toarray().sum() == 0


def test_tonights_decisions_know_what_was_known_before_the_day():
    tokens = make_tokens()
    day = (START + timedelta(days=14)).date()
    tonight = pl.DataFrame({"customer_id": [f"c{each}" for each in range(62)]}).with_columns(
        decision_date=pl.lit(day)
    )
    joined = join_histories(tonight, tokens)
    assert joined.columns == ["customer_id", "decision_date", "history"]
    midnight = datetime(day.year, day.month, day.day)
    for customer, _, history in joined.iter_rows():
        known = tokens.filter(customer_id=customer).filter(pl.col("available_at") < midnight)
        assert len(history) == min(known.height, 256)
    assert joined["history"].list.len().min() == 0


def test_the_newest_tokens_count_rare_ones_too_however_they_are_read():
    """A customer with 50 tokens of the vocabulary, then 300 of none."""
    old = [START + timedelta(minutes=each) for each in range(50)]
    new = [START + timedelta(days=1, minutes=each) for each in range(240)]
    tokens = pl.DataFrame(
        {
            "customer_id": ["c"] * 290,
            "kind": ["read"] * 290,
            "item": ["known"] * 50 + [f"rare_{each}" for each in range(240)],
            "available_at": old + new,
        }
    )
    decided = pl.DataFrame({"customer_id": ["c"], "decided_at": [START + timedelta(days=9)]})
    vocabulary = ("read:known",)
    searched = read_histories(tokens, decided, vocabulary=vocabulary).count().toarray()
    joined = join_histories(decided, tokens)
    assert searched.tolist() == [[16]]
    assert (read_lists(joined["history"], vocabulary).count().toarray() == searched).all()
    # From pandas a column without any value arrives as text.
    nobody = read_lists(pl.Series([None, None], dtype=pl.String), vocabulary)
    assert nobody.count().toarray().sum() == 0
