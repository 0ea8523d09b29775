"""From rows to visible units: levels, cuts, bits, and what was never seen before."""

import json

import numpy as np
import polars as pl
import pytest

from ml.core.errors import ModelError
from ml.world_model.encoding import fit_encoder, read_encoder


def _rows(n=400):
    random = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "tier": random.choice(["gold", "silver", None], n, p=[0.3, 0.6, 0.1]),
            "rare": ["common"] * (n - 3) + ["a", "b", "c"],
            "spend": np.where(random.random(n) < 0.5, 0.0, random.gamma(2, 20, n)),
            "never": [None] * n,
            "visit_days": random.integers(0, 2**28, n),
            "offer_days": [0] * n,
        },
        schema_overrides={"never": pl.Float64},
    )


def _fit(rows):
    return fit_encoder(
        rows,
        categories=["tier", "rare"],
        numbers=["spend", "never"],
        days={"visit_days": 4, "offer_days": 4},
    )


def test_each_column_becomes_its_units():
    rows = _rows()
    encoder = _fit(rows)
    visible, layout = encoder.encode(rows), encoder.layout
    assert visible.shape == (400, layout.n_units)
    unit = {name: visible[:, place].astype(bool) for place, name in enumerate(layout.names)}
    assert (unit["tier=gold"] == (rows["tier"] == "gold").fill_null(False).to_numpy()).all()
    assert (unit["tier=other"] == rows["tier"].is_null().to_numpy()).all()
    # Three rows are too few for a level: all that is rare is alike.
    assert "rare=a" not in unit
    assert unit["rare=other"].sum() == 3
    assert (unit["spend=up to 0"] == (rows["spend"] == 0).to_numpy()).all()
    bits = rows["visit_days"].to_numpy()
    for day in (1, 4):
        assert (unit[f"visit_days_day_{day}"] == ((bits >> (day - 1)) & 1).astype(bool)).all()
    for week in (1, 4):
        expected = (bits >> (7 * (week - 1))) & 127
        assert (unit[f"visit_days_week_{week}"] == (expected > 0)).all()
    for columns in layout.one_hots:
        assert (visible[:, columns].sum(axis=1) == 1).all()


def test_what_never_varies_is_left_out():
    names = {column.name for column in _fit(_rows()).columns}
    assert names == {"tier", "rare", "spend", "visit_days"}
    with pytest.raises(ModelError, match="nothing varies"):
        fit_encoder(pl.DataFrame({"a": ["x"] * 50}), categories=["a"], numbers=[], days={})


def test_rows_of_tomorrow_may_hold_what_was_never_seen():
    rows = _rows()
    encoder = _fit(rows)
    strange = rows.head(2).with_columns(tier=pl.lit("platinum"), spend=pl.lit(None, pl.Float64))
    visible = encoder.encode(strange)
    names = encoder.layout.names
    assert visible[:, names.index("tier=other")].tolist() == [1, 1]
    assert visible[:, names.index("spend=unknown")].tolist() == [1, 1]
    with pytest.raises(ModelError, match=r"lack \['spend'\]"):
        encoder.encode(rows.drop("spend"))


def test_it_survives_json():
    encoder = _fit(_rows())
    assert read_encoder(json.loads(json.dumps(encoder.to_json()))) == encoder
