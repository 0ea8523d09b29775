from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml.core.actions import read_actions
from ml.core.contexts import BEHAVIOUR_FEATURES, build_contexts, hash_feature_schema
from ml.core.errors import ContractError
from ml.simulate.config import WorldConfig

CONFIG = WorldConfig()
PROGRAMME, ACTIONS = CONFIG.programme, read_actions(CONFIG.offers_frame())


def _features(attributes, channels):
    base = {name: [1] * len(attributes) for name in BEHAVIOUR_FEATURES}
    return pl.DataFrame(
        {**base, "attributes": attributes, "contactable_channels": channels}
    ).with_columns(days_since_purchase=pl.lit(None, dtype=pl.Int64))


def test_attributes_are_encoded_and_protected_ones_left_out():
    features = _features(
        ['{"age": 40, "income": 1.5, "has_app": 1, "region": "east", "gender": "f"}', "{}"],
        ["email,push", ""],
    )
    contexts = build_contexts(features, programme=PROGRAMME, actions=ACTIONS)
    row = dict(zip(contexts.feature_names, contexts.context[0], strict=True))
    assert row["age"] == 40
    assert row["region=east"] == 1
    assert row["region=north"] == 0
    assert np.isnan(row["days_since_purchase"])
    assert not [name for name in contexts.feature_names if "gender" in name]
    assert np.isnan(contexts.context[1][contexts.feature_names.index("age")])


def test_eligibility_follows_channels_and_control_is_always_there():
    features = _features(["{}", "{}"], ["email", ""])
    eligible = build_contexts(features, programme=PROGRAMME, actions=ACTIONS).eligible
    by_action = dict(zip(ACTIONS.action_ids, eligible.T, strict=True))
    assert by_action["no_offer"].tolist() == [True, True]
    assert by_action["email_coupon_2"].tolist() == [True, False]
    assert by_action["text_coupon_2"].tolist() == [False, False]


def test_schema_hash_sees_every_change_that_a_model_would_feel():
    fewer = replace(PROGRAMME, attributes=PROGRAMME.attributes[1:])
    dearer = replace(PROGRAMME, margin=0.5)
    assert hash_feature_schema(fewer) != hash_feature_schema(PROGRAMME)
    assert hash_feature_schema(dearer) == hash_feature_schema(PROGRAMME)


def test_a_missing_column_is_named():
    with pytest.raises(ContractError, match="visits_7d"):
        build_contexts(
            _features(["{}"], [""]).drop("visits_7d"), programme=PROGRAMME, actions=ACTIONS
        )


def test_action_set_refuses_two_controls_and_unknown_names():
    offers = CONFIG.offers_frame()
    with pytest.raises(ContractError, match="exactly one control"):
        read_actions(offers.with_columns(is_control=pl.lit(True)))
    with pytest.raises(ContractError, match="unknown actions"):
        ACTIONS.index_of(pl.Series(["no_offer", "balloon"]))


def test_lists_spread_to_a_matrix():
    lists = pl.Series([["no_offer", "push_ad"], ["no_offer"]])
    values = pl.Series([[0.25, 0.75], [1.0]])
    matrix = ACTIONS.spread_lists(lists, values)
    assert matrix.sum(axis=1).tolist() == [1.0, 1.0]
    assert matrix[0, ACTIONS.action_ids.index("push_ad")] == 0.75
