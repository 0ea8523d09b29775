"""Validate: when the loop should learn anew, by drift and by effective new evidence."""

from typing import NamedTuple

import polars as pl

TRAINING, RECALIBRATION = "weekly_training", "recalibration"
REST_DAYS = 7
LEAST_GAIN = 0.10
"""By so much must standard errors of effects shrink for a training to be worth it."""
WORN, REPRICED = ("costs", "effects"), "catalogue"
"""Signals of monitoring: effects are other than they were; prices are."""


class Update(NamedTuple):
    """What to run, None for nothing, and why."""

    job: str | None
    reason: str


def measure_information(log: pl.LazyFrame, *, control: str) -> float:
    """Return what a log tells of offers against none, in decisions of no variance otherwise.

    The sum over decisions of p (1 - p), p the propensity of no offer: the precision of an effect
    in units of the outcome's variance (overlap weights; Li, Morgan and Zaslavsky 2018). A policy
    that leaves nothing to chance adds nothing, however many nights it decides.

    Parameters
    ----------
    log
        eligible_actions and eligible_propensities; rows without propensities count nothing.
    control
        The action that sends nothing.

    Returns
    -------
    float
        At most a quarter of the decisions.
    """
    names, chances = pl.col("eligible_actions"), pl.col("eligible_propensities")
    place = names.list.eval(pl.element() == control).list.arg_max()
    chance = pl.when(names.list.contains(control)).then(chances.list.get(place, null_on_oob=True))
    told = log.select((chance * (1 - chance)).sum()).collect(engine="streaming")
    return float(told.item() or 0.0)


def choose_update(
    signals: pl.DataFrame,
    *,
    days_since: int,
    days_decided: int,
    can_recalibrate: bool,
    matured_after_days: int,
    learned_from: float,
    gained: float,
) -> Update:
    """Choose whether to train, to recalibrate or to leave things as they are.

    After a drift the champion is brought in line with what came since, once; a training would
    mostly learn what was. Where that did not end the alarm, where the champion can't be
    recalibrated, or where prices changed, which its actions carry, there is a training. Else there
    is one once effects' standard errors shrink by ``LEAST_GAIN``: 1 - sqrt(I / (I + new)), I the
    information of the last one. So trainings grow rarer as the log grows, and stop where the policy
    leaves nothing to chance.

    Parameters
    ----------
    signals
        Monitoring rows of the last night.
    days_since
        The last training or recalibration.
    days_decided
        Since when the champion decides: until a week of its decisions has matured, costs and
        effects are those of the one before.
    can_recalibrate
        Whether the champion learned effects, and was not recalibrated since the last training.
    matured_after_days
        From a decision to its outcome.
    learned_from, gained
        ``measure_information`` of what the last training had, and of what has matured since.

    Returns
    -------
    Update
        Nothing within ``REST_DAYS`` of the last update.
    """
    if days_since < REST_DAYS:
        return Update(None, f"the last update is {days_since} days old, fewer than {REST_DAYS}")
    is_own = days_decided >= matured_after_days + REST_DAYS
    counted = [*WORN, REPRICED] if is_own else [REPRICED]
    drifted = signals.filter(pl.col("is_alarm") & pl.col("signal").is_in(counted))
    if drifted.height:
        worst = drifted.sort(pl.col("statistic") / pl.col("limit")).row(-1, named=True)
        is_repriced = (drifted["signal"] == REPRICED).any()
        return Update(
            RECALIBRATION if can_recalibrate and not is_repriced else TRAINING,
            f"{worst['signal']} of {worst['subject']} drifted: {worst['statistic']:.1f}, limit "
            f"{worst['limit']:.1f}",
        )
    gain = 1 - (learned_from / (learned_from + gained)) ** 0.5 if gained > 0 else 0.0
    if gain >= LEAST_GAIN:
        return Update(TRAINING, f"standard errors would shrink by {gain:.0%}")
    return Update(None, f"standard errors would shrink by {gain:.0%}, less than {LEAST_GAIN:.0%}")
