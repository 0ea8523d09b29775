import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.ope.diagnostics import diagnose_support

N = 4_000
NAMES = ("none", "one", "two")


def _diagnose(logging, policy, *, claimed=None, seed=1):
    """Draw actions from ``logging`` and diagnose ``policy`` on the claimed propensities."""
    random = np.random.default_rng(seed)
    logging, policy = np.tile(logging, (N, 1)), np.tile(policy, (N, 1))
    claimed = logging if claimed is None else np.tile(claimed, (N, 1))
    action = (random.random((N, 1)) > logging.cumsum(axis=1)).sum(axis=1)
    return diagnose_support(
        policy,
        np.arange(N),
        action=action,
        propensity=claimed[np.arange(N), action],
        action_ids=NAMES,
        logging_policy=claimed,
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
    propensity = np.full(N, 0.5)
    propensity[0] = 0.5 / 400
    report = diagnose_support(
        np.full((N, 2), 0.5),
        np.arange(N),
        action=np.zeros(N, dtype=int),
        propensity=propensity,
        action_ids=NAMES[:2],
    )
    assert any("one decision decides" in each for each in report.reasons)
    assert report.thin_mass is None


def test_thin_propensities_are_counted():
    report = _diagnose([0.9, 0.095, 0.005], [0.5, 0.4, 0.1])
    assert report.thin_mass == pytest.approx(0.1)
    assert report.unsupported_mass == 0


def test_an_action_whose_propensity_is_wrong_is_named():
    report = _diagnose([0.5, 0.3, 0.2], [1.0, 0.0, 0.0], claimed=[0.5, 0.3, 0.4])
    assert [each for each in report.reasons if "two" in each]
    assert not [each for each in report.reasons if "mean importance weight" in each]
    assert report.action_weight == pytest.approx([1, 1, 0.5], abs=0.1)


def test_an_action_is_weighed_where_it_was_eligible():
    random = np.random.default_rng(3)
    could = random.random(N) < 0.25
    action = np.where(could & (random.random(N) < 0.5), 1, 0)
    report = diagnose_support(
        np.column_stack([1 - could, could]).astype(float),
        np.arange(N),
        action=action,
        propensity=np.where(could, 0.5, 1.0),
        action_ids=NAMES[:2],
        eligible=np.column_stack([np.ones(N, dtype=bool), could]),
    )
    assert report.reasons == ()
    assert report.action_weight == pytest.approx([1, 1], abs=0.1)


def test_propensities_that_forget_what_was_decided_by_are_refused():
    random = np.random.default_rng(4)
    feature = random.normal(size=N)
    chance = np.where(feature > 0, 0.7, 0.3)
    action = (random.random(N) < chance).astype(int)

    def diagnose(propensity):
        return diagnose_support(
            np.full((N, 2), 0.5),
            np.arange(N),
            action=action,
            propensity=propensity,
            action_ids=NAMES[:2],
            features=np.column_stack([random.normal(size=N), feature, np.ones(N)]),
            feature_names=("noise", "deciding", "constant"),
        )

    assert diagnose(np.where(action == 1, chance, 1 - chance)).reasons == ()
    # On average the claim is right: only the feature shows that it is not.
    (reason,) = diagnose(np.full(N, 0.5)).reasons
    assert "differ in deciding" in reason
