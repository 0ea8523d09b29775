import numpy as np
import polars as pl
import pytest
from scipy import stats

from ml.core.hashing import hash_text, hash_uniform

IDS = pl.Series([f"customer-{number}" for number in range(50_000)])


def _oracle(text, salt):
    """The same hash, one byte at a time on Python integers."""
    mask = 2**64 - 1
    value = 0xCBF29CE484222325
    for byte in f"{salt}\x1f".encode() + text.encode():
        value = ((value ^ byte) * 0x100000001B3) & mask
    value ^= value >> 30
    value = (value * 0xBF58476D1CE4E5B9) & mask
    value ^= value >> 27
    value = (value * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def test_hash_equals_the_obvious_implementation():
    texts = pl.Series(["", "a", "ab", "Zürich", "customer-17", "x" * 300])
    hashes = hash_text(texts, salt="cohort")
    assert hashes.tolist() == [_oracle(text, "cohort") for text in texts]


def test_hash_survives_slices_and_order():
    whole = hash_text(IDS, salt="s")
    assert (hash_text(IDS[100:200], salt="s") == whole[100:200]).all()
    assert (hash_text(IDS.reverse(), salt="s") == whole[::-1]).all()


def test_hash_of_nothing_is_empty():
    assert len(hash_text(pl.Series([], dtype=pl.String), salt="s")) == 0


def test_draws_are_uniform_and_purposes_independent():
    first, second = hash_uniform(IDS, salt="a"), hash_uniform(IDS, salt="b")
    assert stats.kstest(first, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(IDS))
    cohorts = np.bincount((hash_text(IDS, salt="cohort") % 7).astype(int), minlength=7)
    assert stats.chisquare(cohorts).pvalue > 0.001


def test_null_is_refused():
    with pytest.raises(ValueError, match="null"):
        hash_text(pl.Series(["a", None]), salt="s")
