from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml.pipeline.learn import limit_offers
from ml.pipeline.snapshots import find_most_offers


def test_the_most_offers_are_those_of_the_busiest_four_weeks(snapshot):
    logged = snapshot.training
    n = logged.n_decisions
    weeks = np.arange(n) * 12 // n
    start = pl.date(2026, 1, 5)
    frame = logged.contexts.frame.with_columns(
        decision_date=start + pl.duration(days=pl.Series("w", weeks * 7))
    )
    # Offers to all in weeks 4 to 7, to none in the others.
    action = np.where((weeks >= 4) & (weeks < 8), 1, 0)
    lived = replace(logged, contexts=replace(logged.contexts, frame=frame), action=action)
    assert find_most_offers(lived) == pytest.approx(1.0, abs=0.01)
    assert find_most_offers(replace(lived, action=np.zeros(n, dtype=int))) == 0


def test_the_least_reward_lets_as_many_pass_as_the_log_sent(snapshot, candidate):
    scorer = replace(candidate.scorer, least_reward=0.0)
    sent = find_most_offers(snapshot.training)
    scores = scorer.score(snapshot.training.contexts)
    best = np.where(scores.allowed[:, 1:], scores.reward[:, 1:], 0).max(axis=1)
    least = limit_offers(scorer, snapshot).least_reward
    passing = (best > least).mean()
    if (best > 0).mean() > sent:
        assert passing == pytest.approx(sent, abs=0.02)
    # A log that hardly sent anything binds for certain.
    few = np.where(np.random.default_rng(1).random(len(best)) < 0.05, snapshot.training.action, 0)
    quiet = replace(snapshot, training=replace(snapshot.training, action=few))
    limited = limit_offers(scorer, quiet)
    assert limited.least_reward > 0
    pruned = limited.score(snapshot.training.contexts)
    assert pruned.allowed[:, 1:].any(axis=1).mean() == pytest.approx(
        find_most_offers(quiet.training), abs=0.02
    )
