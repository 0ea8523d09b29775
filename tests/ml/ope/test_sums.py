import numpy as np
import polars as pl
import pytest

from ml.core.errors import SupportError
from ml.ope.estimators import ESTIMATORS, effective_sample_size, weigh_decisions
from ml.ope.intervals import estimate_mean
from ml.ope.sums import LogPart, read_parts, sum_log

N, K = 6_000, 4
LIMITS = {"limit": 2.0, "shrinkage": 3.0}


def make_part(seed, *, n=N):
    random = np.random.default_rng(seed)
    logging, policy = (random.dirichlet(np.ones(K) * 2, n) * 0.9 + 0.1 / K for _ in range(2))
    action = (random.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(0, K - 1)
    expected = random.normal(0.5, 1, (n, K))
    return LogPart(
        customer=np.arange(n) // 2,
        action=action,
        propensity=logging[np.arange(n), action],
        reward=expected[np.arange(n), action] + random.normal(0, 1, n),
        policy=policy,
        expected_reward=expected,
    )


def _weigh(part):
    return weigh_decisions(
        part.reward,
        policy=part.policy,
        action=part.action,
        propensity=part.propensity,
        expected_reward=part.expected_reward,
    )


def _cut(part, rows):
    return LogPart(**{name: each[rows] for name, each in vars(part).items()})


def test_one_pass_gives_every_estimators_value():
    part = make_part(1)
    summed, decisions = sum_log([part], **LIMITS), _weigh(part)
    assert set(summed.values) == set(ESTIMATORS)
    for name, method in ESTIMATORS.items():
        limit = LIMITS["shrinkage" if name == "dros" else "limit"]
        assert summed.values[name] == pytest.approx(
            method.contribute(decisions, limit).mean(), rel=1e-12
        )
    size = effective_sample_size(decisions.weight)
    assert summed.effective_sample_size == pytest.approx(size, rel=1e-12)
    assert summed.largest_weight == decisions.weight.max()


def test_parts_from_a_file_add_up_to_the_whole(tmp_path):
    part = make_part(2)
    frame = pl.DataFrame(dict(vars(part)))
    frame.write_parquet(tmp_path / "log.parquet")
    whole = sum_log([part], **LIMITS)
    streamed = sum_log(read_parts(tmp_path / "log.parquet", rows_at_once=700), **LIMITS)
    split = sum_log([_cut(part, slice(2_001, None)), _cut(part, slice(0, 2_001))], **LIMITS)
    for each in (streamed, split):
        assert each.sums == pytest.approx(whole.sums, rel=1e-9)
        assert each.largest_weight == whole.largest_weight


def test_intervals_are_as_wide_as_those_of_customers():
    part = make_part(3)
    estimates = sum_log([part], **LIMITS).bootstrap(seed=1)
    decisions = _weigh(part)
    for name in ("ips", "snips", "dr", "sndr"):
        values = ESTIMATORS[name].contribute(decisions, np.inf)
        usual = estimate_mean(values, part.customer)
        ours = estimates[name]
        assert ours.low < ours.value < ours.high
        assert ours.high - ours.low == pytest.approx(usual.high - usual.low, rel=0.12)


def test_impossible_logs_are_refused():
    part = make_part(4, n=50)
    part.propensity[7] = 0.0
    with pytest.raises(SupportError, match="propensities"):
        sum_log([part], **LIMITS)
    strange = make_part(6, n=50)
    strange.action[3] = K
    with pytest.raises(SupportError, match="among the policy's"):
        sum_log([strange], **LIMITS)
    with pytest.raises(SupportError, match="no decision"):
        sum_log([], **LIMITS)
    lonely = _cut(make_part(5, n=50), slice(0, 2))
    with pytest.raises(SupportError, match="at least two"):
        sum_log([lonely], **LIMITS).bootstrap(seed=1)
