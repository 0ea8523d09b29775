import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.diagnostics import diagnose_support
from ml.ope.estimators import weigh

N = 4_000


def _diagnose(logging, policy, *, claimed=None, seed=1):
    """Draw actions from ``logging`` and diagnose ``policy`` on the claimed propensities."""
    random = np.random.default_rng(seed)
    logging, policy = np.tile(logging, (N, 1)), np.tile(policy, (N, 1))
    claimed = logging if claimed is None else np.tile(claimed, (N, 1))
    action = (random.random((N, 1)) > logging.cumsum(axis=1)).sum(axis=1)
    weight = weigh(policy, action, claimed[np.arange(N), action])
    return diagnose_support(
        weight, np.arange(N), policy=policy, action=action, logging_policy=claimed
    )


def test_a_supported_policy_has_no_reasons():
    report = _diagnose([0.5, 0.3, 0.2], [0.2, 0.2, 0.6])
    assert report.reasons == ()
    report.require()
    assert report.mean_weight == pytest.approx(1, abs=4 * report.mean_weight_error)
    assert report.action_decisions.sum() == N
    assert report.unsupported_mass == 0
    assert report.matched_share == 1


@pytest.mark.parametrize(
    ("logging", "policy", "claimed", "reason"),
    [
        ([0.989, 0.01, 0.001], [0, 0, 1], None, "too little evidence"),
        ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.5, 0.1, 0.4], "propensities doubtful"),
        ([0.5, 0.5, 0.0], [0.5, 0.4, 0.1], None, "could not take"),
    ],
)
def test_what_a_log_does_not_support_is_refused(logging, policy, claimed, reason):
    report = _diagnose(logging, policy, claimed=claimed)
    assert any(reason in each for each in report.reasons)
    with pytest.raises(SupportError, match=reason):
        report.require()


def test_one_decision_that_decides_is_named():
    weight = np.ones(N)
    weight[0] = 400.0
    half = np.full((N, 2), 0.5)
    report = diagnose_support(weight, np.arange(N), policy=half, action=np.zeros(N, dtype=int))
    assert any("one decision decides" in each for each in report.reasons)
    assert report.thin_mass is None


def test_thin_propensities_are_counted():
    report = _diagnose([0.9, 0.095, 0.005], [0.5, 0.4, 0.1])
    assert report.thin_mass == pytest.approx(0.1)
    assert report.unsupported_mass == 0
