"""The bakery's planted quantities are found again in what it delivers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from oracles.world import chances
from scipy import stats

from ml.contract.tables import CONTRACT
from ml.simulate import world as world_module
from ml.simulate.config import CHANNELS, OTHER_ACTION, OTHER_SURFACE, WorldConfig
from ml.simulate.dynamics import Customers, chances_of, close_day, draw_day, live_day
from ml.simulate.world import World, WorldState

CONFIG = WorldConfig()
WEEKS = 5


@pytest.fixture(scope="module")
def world():
    return World(CONFIG)


@pytest.fixture(scope="module")
def lived(world):
    """Return the opening, then per day: state before it, decisions, delivered tables."""
    state, opened = world.open_day()
    days = []
    for _ in range(7 * WEEKS):
        decisions = world.randomise(state)
        after, tables = world.step(state, decisions)
        days.append((state, decisions, tables))
        state = after
    return opened, days, state


def _within(successes, trials, probability, errors=3.5):
    """Assert that a frequency lies within some standard errors of its probability."""
    error = np.sqrt(probability * (1 - probability) / trials)
    assert abs(successes / trials - probability) <= errors * error, (successes / trials, error)


def _joined(lived, table):
    return pl.concat([tables[table] for _, _, tables in lived[1]])


def test_same_seed_same_bytes_and_another_seed_another():
    small = replace(CONFIG, n_customers=2_000)
    first, tables = World(small).open_day()
    again, same = World(small).open_day()
    assert first.to_frame().equals(again.to_frame())
    assert all(tables[name].equals(same[name]) for name in tables)
    _, other = World(replace(small, seed=8)).open_day()
    assert not tables["events"].equals(other["events"])
    assert not tables["media_spend"].equals(other["media_spend"])


def test_threads_and_blocks_change_nothing(monkeypatch):
    big = World(replace(CONFIG, n_customers=world_module.BLOCK + 1_000, burn_in_days=1))
    state, _ = big.open_day()
    decisions = big.randomise(state)
    two = big.step(state, decisions)[1]["events"]
    monkeypatch.setattr(world_module, "_THREADS", 1)
    assert two.equals(big.step(state, decisions)[1]["events"])


def test_a_kept_state_goes_on_the_same(world, lived):
    state, decisions, tables = lived[1][3]
    kept = WorldState.from_frame(state.day, state.to_frame(), state.pending)
    assert world.step(kept, decisions)[1]["events"].equals(tables["events"])


def test_every_delivered_row_keeps_the_contract(world, lived):
    opened, days, _ = lived
    delivered = {**opened}
    delivered["assignments"] = pl.concat([opened["assignments"], days[0][1]])
    delivered["deliveries"] = pl.concat([opened["deliveries"], days[0][2]["deliveries"]])
    for name, rows in delivered.items():
        traced = rows.with_columns(
            source_file=pl.lit("x"), row_number=pl.int_range(pl.len(), dtype=pl.Int64)
        )
        valid, failure = CONTRACT[name].filter(traced, cast=True)
        assert valid.height == rows.height, (name, failure.counts())


def test_everything_is_delivered_once_and_in_time(world, lived):
    opened, days, last = lived
    events = pl.concat([opened["events"], _joined(lived, "events"), last.pending])
    assert (events["available_at"] >= events["occurred_at"]).all()
    for state, _, tables in days[:3]:
        midnight = pl.lit(world.date_of(state.day + 1)).cast(pl.Datetime("us", "UTC"))
        assert tables["events"].select((pl.col("available_at") < midnight).all()).item()
    delay = (events["available_at"] - events["occurred_at"]).dt.total_days()
    _within((delay >= 1).sum(), len(delay), CONFIG.late_share)
    assert delay.max() <= 3


def test_assignments_follow_their_propensities(lived):
    rows = pl.concat([decisions for _, decisions, _ in lived[1]])
    vectors = rows.explode("eligible_actions", "eligible_propensities")
    expected = vectors.group_by("eligible_actions").agg(pl.col("eligible_propensities").sum())
    seen = dict(rows["action_id"].value_counts().iter_rows())
    names = expected["eligible_actions"].to_list()
    chi = stats.chisquare([seen[name] for name in names], expected["eligible_propensities"])
    assert chi.pvalue > 0.001
    assert rows["eligible_propensities"].list.sum().to_list() == pytest.approx([1] * rows.height)


def test_nobody_is_written_to_on_a_closed_channel(world, lived):
    reach = world.population.people.reach
    for state, decisions, _ in lived[1][::9]:
        rows = decisions["customer_id"].cast(pl.Int64).to_numpy()
        channel = world.channel_of[world.actions.index_of(decisions["action_id"])]
        is_open = reach[rows] & ((state.customers.closed[rows, None] >> np.arange(3)) & 1 == 0)
        sent = channel >= 0
        assert is_open[sent, channel[sent]].all()


def test_one_customer_at_a_time_has_the_same_chances(world, lived):
    state = lived[1][10][0]
    rows = np.flatnonzero(state.customers.offer > 0)[:60]
    people, customers = world.population.people.take(rows), state.customers.take(rows)
    is_active = np.arange(len(rows)) % 4 > 0
    for today in (
        world.circumstances(state.day),
        replace(world.circumstances(state.day), is_tastes_turned=True),
    ):
        fast = chances_of(
            CONFIG,
            people,
            customers,
            today,
            offer=customers.offer,
            offer_age=customers.offer_age,
            is_active=is_active,
        )
        for i in range(len(rows)):
            person = {name: getattr(people, name)[i] for name in people.__dataclass_fields__}
            stands = {name: getattr(customers, name)[i] for name in customers.__dataclass_fields__}
            slow = chances(
                CONFIG,
                today,
                person,
                stands,
                int(customers.offer[i]),
                int(customers.offer_age[i]),
                bool(is_active[i]),
            )
            assert [each[i] for each in fast] == pytest.approx(slow, rel=2e-5)


def test_a_days_visits_purchases_and_tickets_follow_the_chances(world, lived):
    state, _, _ = lived[1][20]
    people, day = world.population.people, state.day
    today = world.circumstances(day)
    customers, active = state.customers, state.customers.offer > 0
    active = active & (customers.offer_age < CONFIG.response.validity_days) & ~customers.is_redeemed
    visit, purchase, ticket = chances_of(
        CONFIG,
        people,
        customers,
        today,
        offer=customers.offer,
        offer_age=customers.offer_age,
        is_active=active,
    )
    n = people.n_customers
    nobody = np.full(n, -1, dtype=np.int8)
    visits = buys = redeems = redeemable = 0
    logs = []
    for replicate in range(20):
        draws = draw_day(np.random.default_rng(replicate), n)
        _, happened = live_day(CONFIG, people, customers, draws, today, day=day, assigned=nobody)
        visits += happened.visits.sum()
        buys += happened.buys.sum()
        ratio = np.log(happened.spend[happened.buys]) - ticket[happened.buys]
        logs.append(ratio)
        can = happened.buys & active & (today.face_value[customers.offer] > 0)
        redeems, redeemable = redeems + happened.redeems.sum(), redeemable + can.sum()
    present = people.signup_day < day
    expected = np.where(present, visit, 0), np.where(present, visit * purchase, 0)
    for seen, each in zip((visits, buys), expected, strict=True):
        error = np.sqrt(20 * (each * (1 - each)).sum())
        assert abs(seen - 20 * each.sum()) <= 3.5 * error
    _within(redeems, redeemable, CONFIG.response.redemption_probability)
    logs = np.concatenate(logs)
    demand = CONFIG.demand
    mean = demand.large_order_share * np.log(demand.large_order_factor)
    assert abs(logs.mean() - mean) <= 3.5 * logs.std() / np.sqrt(len(logs))


def test_redemptions_are_delayed_as_the_hazard_says(world, lived):
    """Coupons of one day: redemptions by age against the recursion, added up by customer."""
    day = 7
    state, decisions, _ = lived[1][day]
    after, _ = world.step(state, decisions)
    own = decisions.filter(pl.col("action_id").str.contains("coupon"))
    redeemed = _joined(lived, "events").filter(pl.col("type") == "redemption")
    redeemed = redeemed.join(own.select("decision_id"), on="decision_id", how="semi")
    ages = (redeemed["occurred_at"].dt.date() - world.date_of(day)).dt.total_days().to_numpy()
    rows = own["customer_id"].cast(pl.Int64).to_numpy()
    arrived = rows[after.customers.offer_age[rows] == 1]
    people = world.population.people.take(arrived)
    stands = state.customers.take(arrived)
    offer = after.customers.offer[arrived]
    unspent = np.ones(len(arrived))
    for age in range(7):
        visit, purchase, _ = chances_of(
            CONFIG,
            people,
            stands,
            world.circumstances(day + age),
            offer=offer,
            offer_age=np.full(len(arrived), age),
            is_active=np.ones(len(arrived), dtype=bool),
        )
        chance = unspent * visit * purchase * CONFIG.response.redemption_probability
        unspent = unspent - chance
        assert abs((ages == age).sum() - chance.sum()) <= 3.5 * np.sqrt(chance.sum())
    assert ages.max() < CONFIG.response.validity_days


def test_tiers_move_with_purchases(world, lived):
    opened_state = lived[1][0][0]
    people, life = world.population.people, CONFIG.lifecycle
    n = people.n_customers
    tier = np.arange(n) % 4
    bought = (np.arange(n) // 4) % 4
    customers = replace(
        opened_state.customers, tier=tier.astype(np.int8), bought=bought.astype(np.int8)
    )
    ups, downs, trials = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))
    for day in range(21):
        draws = draw_day(np.random.default_rng([5, day]), n)
        after, moved = close_day(CONFIG, people, customers, draws, day=day)
        due = (people.cohort == (day + 1) % 7) & (people.signup_day <= day)
        assert not moved.moves_tier[~due].any()
        np.add.at(trials, (tier[due], bought[due]), 1)
        np.add.at(ups, (tier[due], bought[due]), after.tier[due] > tier[due])
        np.add.at(downs, (tier[due], bought[due]), after.tier[due] < tier[due])
    for t in range(4):
        for b in range(4):
            up = 1 - (1 - life.tier_up[t]) ** b
            _within(ups[t, b], trials[t, b], up)
            _within(downs[t, b], trials[t, b], life.tier_down[t] if b == 0 else 0.0)


def test_delivered_tiers_are_the_customers_tiers(world, lived):
    opened, _, last = lived
    versions = pl.concat([opened["customers"], _joined(lived, "customers")])
    newest = versions.sort("valid_from").unique("customer_id", keep="last")
    tiers = newest["attributes"].str.json_path_match("$['tier']")
    rows = newest["customer_id"].cast(pl.Int64).to_numpy()
    names = np.array(["none", "bronze", "silver", "gold"])
    assert (names[last.customers.tier[rows]] == tiers.to_numpy()).all()


def test_dormancy_fatigue_and_the_other_programme(world, lived):
    state = lived[1][14][0]
    people, customers = world.population.people, state.customers
    n, day = people.n_customers, state.day
    draws = draw_day(np.random.default_rng(3), n)
    after, moved = close_day(CONFIG, people, customers, draws, day=day)
    due = (people.cohort == (day + 1) % 7) & (people.signup_day <= day)
    assert not after.is_dormant[due & (customers.bought > 0)].any()
    slept = due & (customers.bought == 0)
    assert after.is_dormant[slept & customers.is_dormant].all()
    awake = slept & ~customers.is_dormant
    _within(after.is_dormant[awake].sum(), awake.sum(), CONFIG.lifecycle.falls_dormant)
    grown = 0.6 * customers.fatigue + np.where(customers.was_messaged, people.annoyance, 0)
    assert after.fatigue[due] == pytest.approx(grown[due], rel=1e-5)
    assert (after.fatigue[~due] == customers.fatigue[~due]).all()
    app = due & people.has_app
    _within(moved.is_offered_other[app].sum(), app.sum(), CONFIG.other_programme.share)
    assert not moved.is_offered_other[~app].any()


def test_the_other_programme_is_logged_the_evening_before(world, lived):
    others = _joined(lived, "assignments").filter(pl.col("surface") == OTHER_SURFACE)
    given = others["action_id"] == OTHER_ACTION
    _within(given.sum(), others.height, CONFIG.other_programme.share)
    assert set(others["decided_at"].dt.hour()) == {20}
    state, _, tables = lived[1][5]
    tonight = tables["assignments"].filter(pl.col("action_id") == OTHER_ACTION)
    after = lived[1][6][0]
    rows = tonight["customer_id"].cast(pl.Int64).to_numpy()
    due = world.due(after)
    assert after.customers.has_other_offer[rows].all()
    assert after.customers.has_other_offer[due].sum() == len(rows)
    assert state.day + 1 == after.day


def test_failures_opt_outs_and_returns(world, lived):
    receipts = _joined(lived, "deliveries")
    sent = pl.concat([decisions for _, decisions, _ in lived[1]]).filter(
        pl.col("action_id") != "no_offer"
    )
    tried = receipts.join(sent.select("decision_id"), on="decision_id", how="semi")
    failed = (tried["status"] == "failed").sum()
    _within(failed, tried.height, CONFIG.response.delivery_failure)
    contact = _joined(lived, "contactability")
    left = contact.filter(~pl.col("is_allowed") & (pl.col("valid_from").dt.hour() == 12))
    back = contact.filter(pl.col("is_allowed") & (pl.col("valid_from").dt.hour() == 23))
    expected = variance = 0.0
    for state, decisions, tables in lived[1]:
        names = tables["deliveries"].filter(pl.col("realised_action_id") != "no_offer")
        got = decisions.join(names.select("decision_id"), on="decision_id", how="semi")
        rows = got["customer_id"].cast(pl.Int64).to_numpy()
        logit = CONFIG.response.opt_out_log_odds + np.log(world.population.people.annoyance[rows])
        logit += CONFIG.response.opt_out_fatigue * state.customers.fatigue[rows]
        chance = 1 / (1 + np.exp(-logit))
        expected, variance = expected + chance.sum(), variance + (chance * (1 - chance)).sum()
    assert abs(left.height - expected) <= 3.5 * np.sqrt(variance)
    assert 0 < back.height < left.height
    assert set(left["channel"]) <= set(CHANNELS)
    assert (lived[2].customers.closed > 0).sum() > 0


def test_the_targeting_rule_is_confounded_and_says_so(world, lived):
    log = lived[0]["assignments"].filter(pl.col("arm") == "targeting_rule")
    assert (log["propensity"] == 1).all()
    assert log["eligible_propensities"].null_count() == log.height
    assert set(log["action_id"]) == {"email_coupon_5", "push_ad"}
    assert log["eligible_actions"].list.first().unique().to_list() == ["no_offer"]
    spend = (
        lived[0]["events"]
        .filter(pl.col("type") == "purchase")
        .group_by("customer_id")
        .agg(pl.col("amount").sum())
    )
    customers = lived[0]["customers"].select("customer_id").unique()
    spend = customers.join(spend, on="customer_id", how="left").fill_null(0.0)
    targeted = log.filter(pl.col("action_id") == "email_coupon_5")["customer_id"].unique()
    is_targeted = spend["customer_id"].is_in(targeted.implode())
    naive = spend.filter(is_targeted)["amount"].mean() - spend.filter(~is_targeted)["amount"].mean()
    assert naive < -5


def test_two_policies_meet_the_same_luck(world, lived):
    state, decisions, tables = lived[1][3]
    nothing = world.step(state, decisions.head(0))[1]
    untouched = set(tables["events"]["customer_id"]) - set(decisions["customer_id"])
    is_untouched = pl.col("customer_id").is_in(list(untouched))
    mine, theirs = (
        each["events"].filter(is_untouched).drop("decision_id") for each in (tables, nothing)
    )
    assert mine.equals(theirs)


def test_customers_survive_a_round_trip(lived):
    customers = lived[2].customers
    again = Customers.from_frame(customers.to_frame())
    assert all(
        (getattr(again, name) == getattr(customers, name)).all()
        for name in customers.__dataclass_fields__
    )


def test_who_does_not_visit_reads_and_clicks_at_home_where_the_world_has_it():
    demand = replace(CONFIG.demand, browsing_at_home=0.2)
    world = World(replace(CONFIG, n_customers=4_000, demand=demand, burn_in_days=7))
    state, opened = world.open_day()
    signed_up = int((world.population.people.signup_day < state.day).sum())
    after, tables = world.step(state, world.randomise(state))
    events = tables["events"].filter(pl.col("occurred_at").dt.date() == world.date_of(state.day))
    kinds = {kind: events.filter(pl.col("type") == kind) for kind in ("visit", "read", "click")}
    # The few late ones apart; who visits browses by the visits' own share.
    at_home = signed_up - kinds["visit"].height
    _within(kinds["read"].height, at_home, 0.1, errors=5)
    _within(kinds["click"].height, at_home, 0.1, errors=5)
    browsed = pl.concat([kinds["read"], kinds["click"]])
    assert browsed["item"].null_count() == 0
    assert browsed["customer_id"].n_unique() == browsed.height
    joined = set(
        world.population.customer_id.filter(
            pl.Series(world.population.people.signup_day < state.day)
        )
    )
    assert set(browsed["customer_id"]) <= joined
    # Nobody's visits, purchases or tickets change by it.
    usual = World(replace(CONFIG, n_customers=4_000, burn_in_days=7))
    state, without = usual.open_day()
    bought = [
        tables["events"].filter(pl.col("type") == "purchase").drop("available_at")
        for tables in (opened, without)
    ]
    assert bought[0].equals(bought[1])
    assert after.day == 1
