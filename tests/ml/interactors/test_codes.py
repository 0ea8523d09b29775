"""Sparse codes of vectors that a few planted features write."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from ml.core.errors import ContractError, ModelError
from ml.interactors.codes import (
    CodeSettings,
    find_recurring,
    group_duplicates,
    load_coder,
    save_coder,
    train_coder,
)

N_FEATURES, SIZE = 24, 16
SETTINGS = CodeSettings(
    n_features=32, n_active=3, n_steps=1_500, batch_size=256, learning_rate=3e-3, n_revived=8
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def planted():
    """Directions, who has which, and the vectors they write."""
    random = np.random.default_rng(1)
    directions = random.normal(size=(N_FEATURES, SIZE))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    has = random.random((6_000, N_FEATURES)) < 2 / N_FEATURES
    vectors = (has * random.uniform(0.7, 1.3, has.shape)) @ directions
    return directions, has, vectors + random.normal(0, 0.03, vectors.shape)


@pytest.fixture(scope="module")
def coders(planted):
    return [train_coder(planted[2][:4_000], replace(SETTINGS, seed=seed)) for seed in range(3)]


def test_planted_features_come_back_as_codes_on_rows_not_seen(planted, coders):
    _, has, vectors = planted
    codes = coders[0].encode(vectors[4_000:]).toarray()
    codes = codes[:, codes.any(axis=0)]
    best = np.corrcoef(has[4_000:].T, codes.T)[:N_FEATURES, N_FEATURES:].max(axis=1)
    assert np.median(best) > 0.9
    assert (best > 0.7).mean() >= 0.8


def test_codes_are_few_positive_and_of_unit_directions(planted, coders):
    coder, vectors = coders[0], planted[2]
    codes = coder.encode(vectors)
    assert codes.shape == (len(vectors), SETTINGS.n_features)
    assert np.diff(codes.indptr).max() <= SETTINGS.n_active
    assert codes.data.min() > 0
    assert np.linalg.norm(coder.decoder, axis=1) == pytest.approx(1.0)
    assert coder.measure_loss(vectors[4_000:]) < 0.35
    # A row's codes don't depend on who else is encoded.
    assert codes[[5]].toarray() == pytest.approx(coder.encode(vectors[[5]]).toarray())


def test_what_recurs_is_what_was_planted(planted, coders):
    directions, _, _ = planted
    recurs = find_recurring(coders)
    assert len(recurs) >= 0.7 * N_FEATURES
    # Whitened directions are compared where they were learned.
    seen = directions @ coders[0].whitening
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    kept = np.array([coders[place].decoder[feature] for place, feature in recurs])
    every = np.concatenate([each.decoder for each in coders])
    left = every[(every @ kept.T).max(axis=1) <= 0.7]
    assert len(left)
    assert (kept @ seen.T).max(axis=1).mean() > (left @ seen.T).max(axis=1).mean() + 0.1
    # Each finding once.
    assert np.abs(kept @ kept.T - np.eye(len(kept))).max() <= 0.7 + 1e-9
    with pytest.raises(ContractError, match="train at least two"):
        find_recurring(coders[:1])


def test_what_most_trainings_found_counts_though_one_missed_it(coders):
    (place, feature), *_ = find_recurring(coders)
    row = coders[place].decoder[feature]
    spoilt = []
    for each in coders:
        decoder = each.decoder.copy()
        if not spoilt:
            # The first training never saw what all found.
            decoder[decoder @ row > 0.7] = np.eye(decoder.shape[1])[0]
        spoilt.append(replace(each, decoder=decoder))
    found = [spoilt[one].decoder[other] @ row for one, other in find_recurring(spoilt)]
    assert max(found) > 0.7


def test_dead_features_go_on_learning_from_what_is_left(planted):
    vectors = planted[2][:4_000]
    many = replace(SETTINGS, n_features=256, n_active=1, dead_after=20, n_steps=400)
    begun = train_coder(vectors, replace(many, n_steps=1, learning_rate=0.0)).decoder
    moved = []
    for n_revived in (8, 0):
        coder = train_coder(vectors, replace(many, n_revived=n_revived))
        is_dead = np.diff(coder.encode(vectors).tocsc().indptr) == 0
        assert is_dead.any()
        moved.append(np.abs(coder.decoder - begun)[is_dead].max(axis=1))
    # One that was active once has moved either way.
    assert np.median(moved[0]) > 3 * np.median(moved[1])


def test_nearly_equal_features_share_a_group():
    random = np.random.default_rng(2)
    base = random.random((500, 3)) * (random.random((500, 3)) < 0.2)
    copies = np.column_stack([base, 2 * base[:, 0], base[:, 1] + 0.01 * (base[:, 2] > 0)])
    groups = group_duplicates(sparse.csr_array(np.column_stack([copies, np.zeros(500)])))
    assert groups[0] == groups[3]
    assert groups[1] == groups[4]
    assert len(set(groups.tolist())) == 4


def test_files_give_the_same_codes_back_and_seeds_the_same_coder(planted, coders, tmp_path):
    save_coder(coders[0], tmp_path)
    back = load_coder(tmp_path)
    vectors = planted[2][:200]
    assert (back.encode(vectors) != coders[0].encode(vectors)).nnz == 0
    again = train_coder(planted[2][:4_000], replace(SETTINGS, seed=0))
    assert (again.decoder == coders[0].decoder).all()
    described = (tmp_path / "coder.json").read_text()
    (tmp_path / "coder.json").write_text(described.replace('"layout": 1', '"layout": 9'))
    with pytest.raises(ModelError, match="layout 9"):
        load_coder(tmp_path)


def test_what_can_not_be_learned_is_refused(planted, coders):
    with pytest.raises(ContractError, match="40 active features of 32"):
        train_coder(planted[2], replace(SETTINGS, n_active=40))
    with pytest.raises(ContractError, match="20 vectors can't teach 32"):
        train_coder(planted[2][:20], SETTINGS)
    with pytest.raises(ContractError, match="have 3 dimensions"):
        coders[0].encode(np.zeros((2, 3)))
