import numpy as np
import pytest

from ml.core.errors import SupportError
from ml.interactors.codes import CodeSettings
from ml.pipeline import candidates
from ml.pipeline.candidates import learn_codes

SETTINGS = CodeSettings(n_features=8, n_active=2, n_steps=20)


def _vectors():
    return np.random.default_rng(0).normal(size=(200, 8))


def test_codes_name_their_training_and_give_up_those_that_are_not_asked():
    codes = learn_codes(_vectors(), None, (), SETTINGS, n_coders=3)
    assert codes.write(_vectors()).matrix.shape == (200, len(codes.names))
    one = codes.take(codes.names[-1:])
    assert len(one.coders) == 1
    whole, part = codes.write(_vectors()), one.write(_vectors())
    assert part.matrix.toarray() == pytest.approx(whole.matrix.toarray()[:, -1:])


def test_where_nothing_recurs_the_search_is_told_so(monkeypatch):
    monkeypatch.setattr(candidates, "find_recurring", lambda _: [])
    with pytest.raises(SupportError, match="no code recurs"):
        learn_codes(_vectors(), None, (), SETTINGS, n_coders=2)
