from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from ml.pipeline.online import MINIMUM_ARM_SIZE, VALIDATION_DAYS, judge_arms

SINCE = date(2026, 3, 2)
SHARE = 0.1


def _live(random, *, n_nights=35, n=300, difference=0.0):
    """Return nights of two arms: the champion sends more, an offer brings ``difference`` less."""
    frames = []
    for night in range(n_nights):
        champion, challenger = random.uniform(0.5, 0.98, n), random.uniform(0.02, 0.3, n)
        is_challenger = random.random(n) < SHARE
        chance = np.where(is_challenger, challenger, champion)
        offer = random.random(n) < chance
        mixed = (1 - SHARE) * champion + SHARE * challenger

        def of_taken(chance, offer=offer):
            return np.where(offer, chance, 1 - chance)

        season = 3 * np.sin(night)
        frames.append(
            pl.DataFrame(
                {
                    "customer_id": [str(each) for each in range(n)],
                    "decision_date": [SINCE + timedelta(days=night)] * n,
                    "arm": np.where(is_challenger, "challenger", "champion"),
                    "net_value": season + random.exponential(3.0, n) + difference * offer,
                    "propensity": of_taken(mixed),
                    "champion_propensity": of_taken(champion),
                    "challenger_propensity": of_taken(challenger),
                }
            )
        )
    return pl.concat(frames)


def _judge(decided, night=SINCE + timedelta(days=36)):
    return judge_arms(
        decided, champion_version="2", challenger_version="1", since=SINCE, night=night
    ).row(0, named=True)


def test_the_difference_is_that_of_the_arms():
    decided = _live(np.random.default_rng(1), difference=-2.0)
    row = _judge(decided)
    means = dict(decided.group_by("arm").agg(pl.col("net_value").mean()).iter_rows())
    # What the champion sends more, times what an offer brings.
    truth = -2.0 * (0.74 - 0.16)
    assert row["difference"] == pytest.approx(truth, abs=0.15)
    assert row["difference"] == pytest.approx(means["champion"] - means["challenger"], abs=0.4)
    assert row["n_decisions"] == decided.height


@pytest.mark.parametrize(
    ("difference", "status"), [(-2.0, "harmful"), (2.0, "better"), (0.0, "running")]
)
def test_what_is_proven_is_concluded(difference, status):
    assert _judge(_live(np.random.default_rng(2), difference=difference))["status"] == status


def test_nothing_is_concluded_from_a_few_and_the_comparison_ends():
    few = _live(np.random.default_rng(3), n_nights=3, difference=-20.0)
    assert few.filter(pl.col("arm") == "challenger").height < MINIMUM_ARM_SIZE
    row = _judge(few)
    assert (row["status"], row["difference"]) == ("running", None)
    later = SINCE + timedelta(days=VALIDATION_DAYS + 1)
    assert _judge(few, later)["status"] == "ended"
    assert _judge(few.head(0), SINCE)["n_decisions"] == 0


def test_looking_every_night_rarely_demotes_a_champion_that_does_no_harm():
    random, harmful = np.random.default_rng(4), 0
    for _ in range(40):
        decided = _live(random, n_nights=49, n=200)
        nights = [SINCE + timedelta(days=day) for day in range(21, 50, 4)]
        harmful += any(
            _judge(decided.filter(pl.col("decision_date") < night), night)["status"] == "harmful"
            for night in nights
        )
    assert harmful <= 2


def test_policies_that_rarely_differ_are_not_told_apart_by_a_few():
    decided = _live(np.random.default_rng(5), n_nights=20)
    same = pl.col("champion_propensity")
    rarely = pl.int_range(pl.len()) % 20 == 0
    alike = decided.with_columns(
        challenger_propensity=pl.when(rarely).then("challenger_propensity").otherwise(same),
        propensity=pl.when(rarely).then("propensity").otherwise(same),
        net_value=pl.when(rarely & (pl.col("arm") == "challenger")).then(500.0).otherwise(1.0),
    )
    assert alike.filter(pl.col("arm") == "challenger").height > MINIMUM_ARM_SIZE
    assert _judge(alike)["status"] == "running"
