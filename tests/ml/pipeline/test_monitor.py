from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from known_log import PROGRAMME

from ml.core.actions import ActionSet
from ml.pipeline.monitor import (
    CUSUM_LIMIT,
    FEATURES,
    TOLERANCE,
    WINDOW_DAYS,
    Watched,
    compare_effects,
    monitor_night,
    take_newest_policy,
    take_recent,
    trace_costs,
    trace_effects,
)

FIRST = date(2026, 3, 2)
NAMES = ["no_offer", "small", "large"]
CHANCES = [0.5, 0.3, 0.2]
ACTIONS = ActionSet(
    tuple(NAMES),
    ("none", "coupon", "coupon"),
    ("", "email", "email"),
    np.array([0.0, 2, 5]),
    np.array([0.0, 0.1, 0.1]),
)
REFERENCE = pl.DataFrame(
    {
        "action_id": ["small", "small", "large", "large"],
        "outcome": ["visit", "value"] * 2,
        "effect": [0.1, 1.0, 0.2, 2.0],
        "standard_error": [0.01, 0.1, 0.01, 0.1],
    }
)


def _live(*, n_nights=28, n=400, dearer=1.0, worn=1.0, drift_night=0, seed=1, version="2"):
    """Return matured decisions; from a night on offers cost more and 'large' works less."""
    random = np.random.default_rng(seed)
    frames = []
    for night in range(n_nights):
        action = random.choice(3, size=n, p=CHANCES)
        has_drifted = night >= drift_night
        strength = np.array([0, 0.1, 0.2 * (worn if has_drifted else 1.0)])[action]
        expected = np.array([0, 0.4, 1.0])[action]
        price = expected * (dearer if has_drifted else 1.0)
        frames.append(
            pl.DataFrame(
                {
                    "decision_id": [f"{night}:{each}" for each in range(n)],
                    "customer_id": [str(each) for each in range(n)],
                    "decision_date": [FIRST + timedelta(days=night)] * n,
                    "arm": ["champion"] * n,
                    "policy_version": [version] * n,
                    "action_id": np.array(NAMES)[action],
                    "propensity": np.array(CHANCES)[action],
                    "eligible_actions": [NAMES] * n,
                    "eligible_propensities": [CHANCES] * n,
                    "expected_cost_effect": expected,
                    "visits": (random.random(n) < 0.3 + strength).astype(int),
                    "value": 10 * strength + random.exponential(3.0, n),
                    "cost": price * random.exponential(1.0, n),
                }
            )
        )
    return pl.concat(frames)


def _due(n=500, shift=0.0, seed=2):
    random = np.random.default_rng(seed)
    return pl.DataFrame({name: random.normal(size=n) + shift for name in FEATURES})


CALM = Watched(
    delivered=pl.DataFrame({"propensity": [0.5] * 100}),
    matured=_live(),
    this_week=_due(),
    last_week=_due(seed=3),
    reference=REFERENCE,
    catalogue=ACTIONS,
    fitted=ACTIONS,
)


def _alarms(watched, programme=PROGRAMME):
    signals = monitor_night(watched, programme=programme)
    return set(signals.filter("is_alarm").select("signal", "subject").rows())


def test_a_calm_night_watches_everything_and_alarms_nothing():
    signals = monitor_night(CALM, programme=PROGRAMME)
    assert set(signals["signal"]) == {
        *("propensities", "sample_ratio", "costs", "effects", "catalogue", "features")
    }
    assert not signals["is_alarm"].any()


@pytest.mark.parametrize(
    ("change", "alarm"),
    [
        ({"matured": _live(dearer=2.0, drift_night=20)}, ("costs", "large above")),
        ({"matured": _live(dearer=0.5, drift_night=20)}, ("costs", "large below")),
        ({"matured": _live(worn=0.2)}, ("effects", "large on value")),
        ({"this_week": _due(shift=1.0)}, ("features", "visits_28d")),
        (
            {"delivered": pl.DataFrame({"propensity": [0.5, None] * 50})},
            ("propensities", "missing"),
        ),
        (
            {"catalogue": replace(ACTIONS, face_values=np.array([0.0, 2, 10]))},
            ("catalogue", "large"),
        ),
        (
            {
                "matured": CALM.matured.with_columns(
                    eligible_propensities=pl.lit([0.5, 0.25, 0.25], dtype=pl.List(pl.Float64))
                )
            },
            ("sample_ratio", "large"),
        ),
    ],
)
def test_each_drift_alarms_its_signal(change, alarm):
    assert alarm in _alarms(replace(CALM, **change))


def test_a_log_without_propensities_by_declaration_does_not_alarm():
    lacking = replace(
        CALM, delivered=pl.DataFrame({"propensity": [None] * 9}, schema={"propensity": pl.Float64})
    )
    assert _alarms(lacking) == {("propensities", "missing")}
    assert _alarms(lacking, replace(PROGRAMME, fits_propensities=True)) == set()


def test_the_first_night_has_nothing_to_compare():
    empty = replace(
        CALM,
        delivered=CALM.delivered.head(0),
        matured=CALM.matured.head(0),
        last_week=CALM.last_week.head(0),
        reference=None,
        fitted=None,
    )
    assert monitor_night(empty, programme=PROGRAMME).is_empty()


def test_cost_sums_are_the_textbooks_recursion_offer_by_offer():
    lived = _live(dearer=1.3, drift_night=10)
    traced = trace_costs(lived, catalogue=ACTIONS)
    assert traced["action_id"].unique().sort().to_list() == ["large", "small"]
    for name, expected in (("small", 0.4), ("large", 1.0)):
        rise = fall = 0.0
        seen = []
        for row in traced.filter(action_id=name).iter_rows(named=True):
            costs = lived.filter(action_id=name, decision_date=row["decision_date"])["cost"]
            seen += costs.to_list()
            error = np.sqrt(np.mean((np.array(seen) - expected) ** 2) * len(costs))
            assert row["standard_error"] == pytest.approx(error)
            rise = max(0.0, rise + (costs.sum() - (1 + TOLERANCE) * expected * len(costs)) / error)
            fall = max(0.0, fall + ((1 - TOLERANCE) * expected * len(costs) - costs.sum()) / error)
            assert row["rise"] == pytest.approx(rise, abs=1e-9)
            assert row["fall"] == pytest.approx(fall, abs=1e-9)


def test_doubled_costs_alarm_within_three_matured_nights_and_calm_lives_rarely_do():
    rise = trace_costs(_live(dearer=2.0, drift_night=20), catalogue=ACTIONS).filter(
        action_id="large"
    )["rise"]
    assert rise[19] < CUSUM_LIMIT < rise[22]
    highest = [
        trace_costs(_live(n_nights=90, n=100, seed=seed), catalogue=ACTIONS)
        .select(pl.max_horizontal("rise", "fall").max())
        .item()
        for seed in range(10)
    ]
    assert max(highest) < CUSUM_LIMIT


def test_an_offer_that_exploration_alone_sends_alarms_when_nobody_redeems_it_any_more():
    """Ten a night, where the effect on value would take months to tell."""
    random = np.random.default_rng(4)
    frames = []
    for night in range(40):
        redeems = random.random(10) < (0.4 if night < 10 else 0.2)
        frames.append(
            pl.DataFrame(
                {
                    "action_id": "large",
                    "arm": "champion",
                    "decision_date": FIRST + timedelta(days=night),
                    "cost": 5.0 * redeems,
                    "expected_cost_effect": 2.0,
                }
            )
        )
    fall = trace_costs(pl.concat(frames), catalogue=ACTIONS)["fall"]
    assert fall[9] < CUSUM_LIMIT < fall[35]


def test_messages_without_a_face_value_are_left_to_the_catalogue():
    free = replace(ACTIONS, face_values=np.array([0.0, 0, 5]))
    dearer = _live(dearer=3.0)
    traced = trace_costs(dearer, catalogue=free)
    assert traced["action_id"].unique().to_list() == ["large"]


def test_effects_are_those_that_were_lived_and_wear_out():
    kept = trace_effects(CALM.matured, control="no_offer").sort("action_id", "outcome")
    assert kept["effect"].to_list() == pytest.approx([2.0, 0.2, 1.0, 0.1], abs=0.2)
    worn = compare_effects(_live(worn=0.2), REFERENCE, control="no_offer").filter(
        action_id="large", outcome="value"
    )
    assert worn["z"][0] < -4


def test_only_the_newest_policy_and_the_newest_weeks_are_compared():
    old = _live(n_nights=40, version="1")
    new = _live(n_nights=3).with_columns(pl.col("decision_date") + timedelta(days=40))
    both = pl.concat([new, old])
    assert set(take_newest_policy(both)["policy_version"]) == {"2"}
    assert take_recent(both)["decision_date"].n_unique() == WINDOW_DAYS


def test_declared_most_costs_of_exploration_are_no_expectation():
    explored = _live(dearer=0.2).with_columns(arm=pl.lit("exploration_only"))
    assert trace_costs(explored, catalogue=ACTIONS).is_empty()
    assert not any(signal == "costs" for signal, _ in _alarms(replace(CALM, matured=explored)))


def test_the_control_may_have_any_name():
    renamed = CALM.matured.with_columns(
        pl.col("action_id").replace("no_offer", "nothing"),
        pl.col("eligible_actions").list.eval(pl.element().replace("no_offer", "nothing")),
    )
    actions = replace(ACTIONS, action_ids=("nothing", "small", "large"))
    named = replace(CALM, matured=renamed, catalogue=actions, fitted=actions)
    assert monitor_night(named, programme=PROGRAMME).filter(signal="effects").height == 4
    assert _alarms(named) == set()


def test_redemptions_that_stop_alarm_though_every_offer_costs_the_same():
    is_sent = pl.col("action_id") != "no_offer"
    dead = _live().with_columns(cost=pl.when(is_sent).then(0.1).otherwise(0.0))
    assert ("costs", "large below") in _alarms(replace(CALM, matured=dead))


def test_an_offer_without_anybody_to_compare_with_is_left_out():
    sent = CALM.matured.filter(pl.col("action_id") != "no_offer")
    assert trace_effects(sent, control="no_offer").is_empty()
