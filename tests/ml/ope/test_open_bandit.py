"""Agreement with independent numbers on the Open Bandit small logs."""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml.core.errors import SupportError
from ml.ope.diagnostics import diagnose_support
from ml.ope.estimators import find_estimator, weigh_decisions

SHARED = Path(__file__).parents[4] / "shared"
REFERENCE = SHARED / "reference" / "obd_reference.json"
pytestmark = pytest.mark.skipif(
    not REFERENCE.exists(), reason="shared/reference/obd_reference.json is absent"
)
NAMES = {
    "ips": "ipw",
    "snips": "snipw",
    "dm": "dm",
    "dr": "dr",
    "sndr": "sndr",
    "switch_dr": "switch-dr",
    "dros": "dr-os",
}
CASES = {"bts_from_random": "random", "random_from_bts": "bts"}
LIMIT = 10.0


def _read_case(campaign, case):
    """Return the decisions under the reference's policy, and the reference's figures."""
    reference = json.loads(REFERENCE.read_text())["campaigns"][campaign]
    log = CASES[case]
    file = SHARED / "data" / "open-bandit-small" / log / campaign / f"{campaign}.csv.gz"
    content = gzip.decompress(file.read_bytes())
    assert hashlib.sha256(content).hexdigest() == reference["sha256"][log]
    rows = pl.read_csv(content)
    action = rows["item_id"].to_numpy()
    position = rows["position"].rank("dense").to_numpy().astype(int) - 1
    reward = rows["click"].to_numpy().astype(float)
    figures = reference[case]
    n_actions = figures["n_actions"]
    if case == "bts_from_random":
        chances = np.array(figures["action_dist_counts"]) / 100_000
        policy = chances[:, position].T
    else:
        policy = np.full((len(action), n_actions), 1 / n_actions)
    clicks = np.bincount(action, weights=reward, minlength=n_actions)
    shown = np.bincount(action, minlength=n_actions)
    means = (clicks + 100 * reward.mean()) / (shown + 100)
    decisions = weigh_decisions(
        reward,
        policy=policy,
        action=action,
        propensity=rows["propensity_score"].to_numpy(),
        expected_reward=np.tile(means, (len(action), 1)),
    )
    return decisions, policy, action, rows["propensity_score"].to_numpy(), figures


def _diagnose(campaign, case):
    """Return the support report, and the reference's figures."""
    _, policy, action, propensity, figures = _read_case(campaign, case)
    support = diagnose_support(
        policy,
        np.arange(len(action)),
        action=action,
        propensity=propensity,
        action_ids=[str(number) for number in range(policy.shape[1])],
    )
    return support, figures


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("campaign", ["all", "women"])
def test_every_tabular_reference_is_met(campaign, case):
    decisions, *_, figures = _read_case(campaign, case)
    for name, theirs in NAMES.items():
        ours = find_estimator(name).contribute(decisions, LIMIT).mean()
        assert ours == pytest.approx(figures["tabular"][theirs], abs=1e-12, rel=0), name
    assert decisions.weight.mean() == pytest.approx(figures["weights"]["mean"], rel=1e-12)


def test_a_log_worth_two_decisions_is_refused():
    support, figures = _diagnose("women", "random_from_bts")
    assert support.effective_sample_size == pytest.approx(figures["weights"]["ess"], rel=1e-9)
    with pytest.raises(SupportError, match=r"effective sample size 2\.1 is below 300"):
        support.require()


def test_a_log_of_random_choices_supports_the_bandit():
    support, _ = _diagnose("women", "bts_from_random")
    support.require()
