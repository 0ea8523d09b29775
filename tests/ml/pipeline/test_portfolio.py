"""Pairing our log with another programme's, and policies by protected group."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from known_log import ACTIONS, PROGRAMME, make_rows

from ml.core.programme import Attribute
from ml.pipeline.groups import value_groups
from ml.pipeline.portfolio import estimate_portfolio
from ml.pipeline.snapshots import take_snapshot

AT = datetime(2026, 2, 1, 1, 30, tzinfo=UTC)


def _logs(interaction, *, n=9_000, hours=5.5):
    """Return our log, and another programme's decisions some hours before on two in three."""
    rows, _ = make_rows(8, n=n, slope=0.0)
    random = np.random.default_rng(9)
    is_other = random.random(n) < 0.3
    is_own = (rows["action_id"] != "no_offer").to_numpy()
    decided = np.arange(n) % 3 > 0
    value = rows["value"].to_numpy() + decided * is_other * (0.4 + interaction * is_own)
    others = pl.DataFrame(
        {
            "customer_id": rows["customer_id"],
            "decided_at": [AT - timedelta(hours=hours)] * n,
            "surface": ["checkout"] * n,
            "action_id": np.where(is_other, "free_delivery", "no_offer"),
            "propensity": np.where(is_other, 0.3, 0.7),
            "eligible_actions": [["no_offer", "free_delivery"]] * n,
            "eligible_propensities": [[0.7, 0.3]] * n,
        }
    ).filter(pl.Series(decided))
    own = rows.with_columns(value=pl.Series(value), decided_at=pl.lit(AT.replace(tzinfo=None)))
    snapshot = take_snapshot(own, programme=PROGRAMME, actions=ACTIONS)
    return snapshot.everything, others


def _net(effects):
    return effects.filter(outcome="net_value").row(0, named=True)


def test_an_interaction_is_found_and_sums_are_refused():
    own, others = _logs(-0.9)
    row = _net(estimate_portfolio(own, others, control="no_offer", programme=PROGRAMME))
    assert row["interaction_low"] <= -0.9 <= row["interaction_high"] < 0
    assert row["other_low"] <= 0.4 <= row["other_high"]
    assert row["added"] is None
    assert "don't add up" in row["refusal"]


def test_without_interaction_effects_are_added():
    own, others = _logs(0.0)
    effects = estimate_portfolio(own, others, control="no_offer", programme=PROGRAMME)
    row = _net(effects)
    assert row["added"] == pytest.approx(row["own"] + row["other"])
    assert row["refusal"] is None
    assert effects["outcome"].to_list() == ["value", "cost", "net_value"]


def test_what_was_not_random_or_not_near_is_no_evidence():
    own, others = _logs(0.0)
    sure = others.with_columns(
        propensity=pl.lit(1.0), eligible_propensities=pl.lit(None, dtype=pl.List(pl.Float64))
    )
    row = _net(estimate_portfolio(own, sure, control="no_offer", programme=PROGRAMME))
    assert row["own"] is None
    assert "let both programmes explore" in row["refusal"]
    _, long_ago = _logs(0.0, hours=24 * 9)
    row = _net(estimate_portfolio(own, long_ago, control="no_offer", programme=PROGRAMME))
    assert row["own"] is None
    nobody = estimate_portfolio(own, others.head(0), control="no_offer", programme=PROGRAMME)
    assert nobody.is_empty()


def test_groups_of_protected_attributes_are_valued_apart(candidate, rule):
    rows, _ = make_rows(1)
    random = np.random.default_rng(0)
    gender = random.choice(["f", "m"], rows.height)
    tagged = rows.with_columns(
        attributes=pl.Series(
            [
                text.replace("}", f', "gender": "{each}"}}')
                for text, each in zip(rows["attributes"], gender, strict=True)
            ]
        )
    )
    snapshot = take_snapshot(tagged, programme=PROGRAMME, actions=ACTIONS)
    keywords = {"candidate": candidate, "champion": rule}
    values = value_groups(snapshot, programme=PROGRAMME, **keywords)
    assert values.select("policy", "group").rows() == [
        (policy, group) for policy in ("champion", "candidate") for group in ("f", "m")
    ]
    sizes = values.filter(policy="candidate")["n_decisions"]
    assert sizes.sum() == snapshot.evaluation.n_decisions
    # Gender has nothing to do with anything here: both groups' intervals meet.
    own = values.filter(policy="candidate")
    assert own["net_value_low"].max() < own["net_value_high"].min()
    assert own["offer_share"].max() - own["offer_share"].min() < 0.1
    ages = (Attribute(name="age", kind="number", is_protected=True),)
    quarters = value_groups(snapshot, programme=replace(PROGRAMME, attributes=ages), **keywords)
    assert quarters["group"].n_unique() == 4
    # The effect rises with age, and so do offers: what is protected may still be reached.
    shares = quarters.filter(policy="candidate")["offer_share"]
    assert shares.max() > shares.min() + 0.3
