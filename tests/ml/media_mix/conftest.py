"""Fixtures of the media mix's tests: two short fits of the known series."""

import pytest
from known_media import SHORT, make_known_media

from ml.media_mix.fitting import fit_media_mix


@pytest.fixture(scope="session")
def known():
    """The series, what each channel added, shape (T, C), and a lift test of 'search'."""
    return make_known_media()


@pytest.fixture(scope="session")
def fitted(known):
    """Fitted without the test."""
    return fit_media_mix(known[0], settings=SHORT)
