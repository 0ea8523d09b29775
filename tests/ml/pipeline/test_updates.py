"""When the loop learns anew: what a log tells, and the rule."""

import numpy as np
import polars as pl
import pytest

from ml.core.schemas import Monitoring
from ml.pipeline.updates import (
    LEAST_GAIN,
    RECALIBRATION,
    TRAINING,
    choose_update,
    measure_information,
)

CALM = Monitoring.create_empty()
DEFAULTS = {
    "days_since": 7,
    "days_decided": 15,
    "can_recalibrate": True,
    "matured_after_days": 8,
    "learned_from": 100.0,
    "gained": 0.0,
}


def _log(chances):
    names = [["offer", "none"] if row % 2 else ["none", "offer"] for row in range(len(chances))]
    lists = [
        None if np.isnan(p) else ([1 - p, p] if row % 2 else [p, 1 - p])
        for row, p in enumerate(chances)
    ]
    schema = {"eligible_actions": pl.List(pl.String), "eligible_propensities": pl.List(pl.Float64)}
    return pl.LazyFrame({"eligible_actions": names, "eligible_propensities": lists}, schema=schema)


def _alarm(signal, *, is_alarm=True):
    row = {"signal": signal, "subject": "x", "statistic": 9.0, "limit": 8.0, "n_rows": 200}
    frame = pl.DataFrame([{**row, "is_alarm": is_alarm}], schema=CALM.schema)
    return Monitoring.validate(frame)


def test_information_is_the_sum_of_the_control_propensitys_variances():
    chances = np.random.default_rng(1).random(200)
    assert measure_information(_log(chances), control="none") == pytest.approx(
        sum(p * (1 - p) for p in chances)
    )
    # Certain decisions and those without propensities tell nothing, nor does an unknown control.
    assert measure_information(_log([1.0, 0.0, np.nan]), control="none") == 0
    assert measure_information(_log(chances), control="other") == 0
    assert measure_information(_log([]), control="none") == 0


def test_information_is_the_precision_of_an_effect_in_units_of_the_outcomes_variance():
    random = np.random.default_rng(2)
    chances = random.beta(0.4, 0.4, 4_000)
    information = measure_information(_log(chances), control="none")
    found = []
    for _ in range(400):
        is_offer = random.random(len(chances)) > chances
        outcome = 3 * chances + 0.5 * is_offer + random.normal(0, 2.0, len(chances))
        centred = is_offer - (1 - chances)
        found.append((centred * (outcome - 3 * chances - 0.5 * (1 - chances))).sum())
    errors = np.array(found) / information
    assert errors.std() == pytest.approx(2.0 / information**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("signals", "facts", "job", "reason"),
    [
        (CALM, {"days_since": 6, "gained": 1e6}, None, "6 days old"),
        (CALM, {"gained": 0.0}, None, "shrink by 0%"),
        (CALM, {"gained": 20.0}, None, "less than 10%"),
        (CALM, {"gained": 30.0}, TRAINING, "shrink by 12%"),
        (CALM, {"learned_from": 0.0, "gained": 1.0}, TRAINING, "shrink by 100%"),
        (_alarm("costs"), {}, RECALIBRATION, "costs of x drifted: 9.0, limit 8.0"),
        # Once: what it did not mend, and what can't be mended so, is learned anew.
        (_alarm("effects"), {"can_recalibrate": False}, TRAINING, "effects of x"),
        (_alarm("catalogue"), {}, TRAINING, "catalogue of x"),
        (_alarm("catalogue"), {"days_since": 2}, None, "2 days old"),
        # What has matured is of the champion before.
        (_alarm("costs"), {"days_decided": 14}, None, "shrink by"),
        (_alarm("catalogue"), {"days_decided": 14}, TRAINING, "catalogue of x"),
        (_alarm("features"), {}, None, "shrink by"),
        (_alarm("costs", is_alarm=False), {}, None, "shrink by"),
    ],
)
def test_the_rule(signals, facts, job, reason):
    update = choose_update(signals, **{**DEFAULTS, **facts})
    assert update.job == job
    assert reason in update.reason


def test_trainings_grow_rarer_as_the_log_grows():
    learned, known, weeks = 100.0, 100.0, []
    for week in range(1, 200):
        known += 10.0
        facts = {"learned_from": learned, "gained": known - learned}
        update = choose_update(CALM, **{**DEFAULTS, **facts})
        if update.job == TRAINING:
            learned = known
            weeks.append(week)
    gaps = np.diff(weeks)
    assert (np.diff(gaps) >= -1).all()
    assert gaps[-1] > 4 * gaps[0]
    # Each shrinks errors by a tenth: their number is logarithmic.
    assert len(weeks) <= np.log(known / 100) / np.log(1 / (1 - LEAST_GAIN) ** 2) + 1
