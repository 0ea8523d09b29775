"""Fixtures of the library's tests."""

import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.pipeline.learn import fit_candidate, fit_lifecycle_rule
from ml.pipeline.snapshots import take_snapshot


@pytest.fixture(scope="session")
def snapshot():
    """The known log, split by customer."""
    return take_snapshot(make_rows(1)[0], programme=PROGRAMME, actions=ACTIONS)


@pytest.fixture(scope="session")
def candidate(snapshot):
    """The uplift policy fitted on it."""
    return fit_candidate(snapshot, programme=PROGRAMME, actions=ACTIONS)


@pytest.fixture(scope="session")
def rule(snapshot):
    """The lifecycle rule fitted on it."""
    return fit_lifecycle_rule(snapshot, programme=PROGRAMME, actions=ACTIONS)
