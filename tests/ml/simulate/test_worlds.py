"""Named worlds, their drifts, their tokens, and their files."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from golden.write_worlds import FILE, describe_worlds

from ml.contract.tables import CONTRACT
from ml.core.errors import ContractError
from ml.core.programme import read_programme
from ml.simulate.config import TOKENS, WorldConfig
from ml.simulate.dynamics import chances_of
from ml.simulate.stream import stream_world
from ml.simulate.tokens import draw_tokens
from ml.simulate.truth import compute_truth
from ml.simulate.world import World
from ml.simulate.worlds import DRIFT_DAYS, WORLDS, find_world


def _open(config, *, days=0):
    world = World(config)
    state, _ = world.open_day()
    for _ in range(days):
        state, _ = world.step(state, world.randomise(state))
    return world, state


def _small(name, **changes):
    return replace(find_world(name), n_customers=3_000, **changes)


@pytest.mark.parametrize("name", WORLDS)
def test_every_named_world_lives(name):
    world, state = _open(_small(name), days=2)
    assert world.config.name == name
    truth = compute_truth(world, state)
    assert np.isfinite(truth.value).all()
    assert (truth.cost[:, 0] == 0).all()


def test_named_worlds_are_frozen():
    """Whoever changes a world raises its version, then runs golden/write_worlds.py."""
    assert json.loads(FILE.read_text()) == describe_worlds()


def test_a_name_carries_its_drift():
    assert find_world("bakery") == WorldConfig()
    drifted = find_world("bakery+tastes")
    assert drifted.drifts[0].day == DRIFT_DAYS["tastes"]
    assert find_world("bakery_plain+costs@70").drifts[0].day == 70
    for wrong in ("bakers", "bakery+weather", "bakery+costs@soon"):
        with pytest.raises(ContractError, match="bakery"):
            find_world(wrong)


def test_plain_has_no_hurdle_and_acts_on_tickets_alone():
    world, state = _open(_small("bakery_plain"), days=8)
    people, customers = world.population.people, state.customers
    n = people.n_customers
    everyone = {"offer_age": np.zeros(n, np.int8), "is_active": np.ones(n, dtype=bool)}
    with_offer, without = (
        chances_of(
            world.config,
            people,
            customers,
            world.circumstances(8),
            offer=np.full(n, action, np.int8),
            **everyone,
        )
        for action in (3, 0)
    )
    assert (with_offer[0] == without[0]).all()
    assert (with_offer[1] == without[1]).all()
    assert with_offer[2].mean() > without[2].mean() + 0.2
    week_without_purchase = (1 - without[0] * without[1]) ** 7
    assert week_without_purchase.mean() < 0.002
    truth = compute_truth(world, state)
    net = truth.value_effect - truth.cost
    assert (net[:, 1:].max(axis=1) > 0).mean() > 0.3


def test_sparse_tokens_is_a_null_and_its_twin_is_not():
    world, state = _open(_small("sparse_tokens"), days=5)
    effect = compute_truth(world, state).value_effect[:, 1]
    assert effect.std() < 1e-5 * abs(effect.mean())
    assert world.population.tokens.tends.mean() == pytest.approx(0.01, abs=0.001)
    assert len(world.population.tokens.names) == 200
    twin, state = _open(_small("sparse_tokens_planted"), days=5)
    truth = compute_truth(twin, state)
    multiplier = twin.population.multiplier[truth.rows]
    planted = truth.value_effect[:, 1]
    assert len(np.unique(multiplier)) > 3
    by_multiplier = [planted[multiplier == each].mean() for each in np.unique(multiplier)]
    assert (np.diff(by_multiplier) > 0).all()


def test_costs_double_for_everybody_to_see():
    world, state = _open(_small("bakery+costs@9"), days=8)
    calm, _ = _open(_small("bakery"))
    _, tables = world.step(state, world.randomise(state))
    doubled = tables["actions"].join(WorldConfig().offers_frame(), on="action_id")
    assert (doubled["message_cost"] == 2 * doubled["message_cost_right"]).all()
    assert (doubled["face_value"] == 2 * doubled["face_value_right"]).all()
    state, _ = world.step(state, world.randomise(state))
    before, after = (compute_truth(each, state) for each in (calm, world))
    assert after.cost == pytest.approx(2 * before.cost, rel=1e-5)
    assert (after.value == before.value).all()


def test_tastes_turn_and_the_strongest_offer_wears_out():
    _, state = _open(_small("bakery"), days=9)
    calm, turned, worn = (
        World(_small(name)) for name in ("bakery", "bakery+tastes@3", "bakery+wear_out@3")
    )
    before, after, faded = (compute_truth(each, state) for each in (calm, turned, worn))
    share = before.value_effect[:, 2] / before.value[:, 0]
    now = after.value_effect[:, 2] / before.value[:, 0]
    assert np.corrcoef(share, now)[0, 1] < -0.3
    strongest = int(np.argmax(before.value_effect.mean(axis=0)))
    ratio = faded.value_effect.mean(axis=0)[1:] / before.value_effect.mean(axis=0)[1:]
    assert ratio[strongest - 1] < 0.3
    # Coupons still held make the other actions' comparison differ a little.
    assert np.delete(ratio, strongest - 1) == pytest.approx(np.ones(8), abs=0.05)


def test_the_strongest_offer_of_a_world_without_a_hurdle_wears_out_too():
    calm, worn = (World(_small(name)) for name in ("bakery_plain", "bakery_plain+wear_out@0"))
    before, after = (each.circumstances(1).ticket_strength for each in (calm, worn))
    strongest = int(np.argmax(before))
    assert after[strongest] == pytest.approx(0.2 * before[strongest])
    assert (np.delete(after, strongest) == np.delete(before, strongest)).all()


def test_a_day_beyond_the_drawn_media_is_refused():
    with pytest.raises(ContractError, match="has no media"):
        World(_small("bakery")).circumstances(520 * 7)


def test_a_log_that_loses_propensities_is_quarantined_row_by_row():
    world, state = _open(_small("bakery+propensities@2"), days=2)
    log = world.randomise(state).with_columns(
        source_file=pl.lit("x"), row_number=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    valid, failure = CONTRACT["assignments"].filter(log, cast=True)
    assert abs(valid.height - log.height / 2) <= 1
    assert failure.counts()["propensity|nullability"] == log.height - valid.height


def test_tokens_are_planted_as_declared():
    book = draw_tokens(TOKENS, n_customers=60_000, seed=3)
    prevalence = book.tends.mean(axis=0)
    for index, each in enumerate(TOKENS.interactors):
        error = np.sqrt(each.prevalence * (1 - each.prevalence) / 60_000)
        assert abs(prevalence[index] - each.prevalence) <= 3.5 * error
        assert 0.05 <= each.prevalence <= 0.15
        assert abs(each.effect) == 0.5
        correlates = np.flatnonzero(
            (book.interactor_of == index) & (np.arange(len(prevalence)) > 3)
        )
        for column, rho in zip(correlates, each.correlates, strict=True):
            seen = np.corrcoef(book.tends[:, index], book.tends[:, column])[0, 1]
            # The correlation of rare indicators: its error grows as they get rarer.
            assert abs(seen - rho) <= 3.5 / np.sqrt(60_000 * each.prevalence)
    effects = np.array([each.effect for each in TOKENS.interactors])
    expected = np.clip(1 + book.tends[:, :4] @ effects, 0.1, None)
    assert book.multiplier == pytest.approx(expected)


def test_events_are_about_what_the_customer_tends_to():
    book = draw_tokens(TOKENS, n_customers=5_000, seed=3)
    random = np.random.default_rng(1)
    rows = np.repeat(np.arange(5_000), 40)
    drawn = book.draw(rows, 0, random.random(len(rows)))
    is_trait = drawn < len(book.names)
    own = book.tends[rows[is_trait], drawn[is_trait]]
    assert own.all()
    assert (book.kinds[drawn[is_trait]] == 0).all()
    has_any = book.counts[0, rows] > 0
    share = is_trait[has_any].mean()
    assert abs(share - TOKENS.trait_share) < 0.01
    assert not is_trait[~has_any].any()
    staples = np.bincount(drawn[~is_trait] - len(book.names), minlength=TOKENS.n_staples)
    weights = 1 / np.arange(1, TOKENS.n_staples + 1)
    assert staples / staples.sum() == pytest.approx(weights / weights.sum(), abs=0.01)
    two = np.flatnonzero(book.counts[0] == 2)[:50]
    repeated = np.repeat(two, 400)
    tokens = book.draw(repeated, 0, random.random(len(repeated)))
    for customer in two[:5]:
        mine = tokens[(repeated == customer) & (tokens < len(book.names))]
        _, counts = np.unique(mine, return_counts=True)
        assert len(counts) == 2
        assert counts.min() / counts.max() > 0.6


def test_a_streamed_world_is_the_delivered_one(tmp_path):
    config = WorldConfig(n_customers=1_000, burn_in_days=7)
    lines = []
    n_rows = stream_world(config, tmp_path, n_days=3, has_truth=True, progress=lines.append)
    world, _ = _open(config)
    state, tables = world.open_day()
    first = tmp_path / "events" / str(config.first_date) / "world.parquet"
    assert pl.read_parquet(first).equals(tables["events"])
    assert len(lines) == 3
    written = [path for path in tmp_path.rglob("*.parquet") if path.parent.name != "truth"]
    assert sum(pl.read_parquet(path).height for path in written) == n_rows
    assert read_programme(tmp_path / "programme.json") == config.programme
    truth = pl.read_parquet(tmp_path / "truth" / f"{config.first_date}.parquet")
    expected = compute_truth(world, state)
    assert truth["value.email_ad"].to_numpy() == pytest.approx(expected.value[:, 1])
    assert truth.schema["cost.text_coupon_5"] == pl.Float32
