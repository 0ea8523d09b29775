from dataclasses import fields, replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from scipy import integrate, special, stats

from ml.contract.screening import NOTHING_KNOWN, screen_table
from ml.contract.tables import CONTRACT
from ml.simulate.purchase_tables import deliver_purchases
from ml.simulate.purchase_world import (
    NEVER,
    PURCHASE_WORLDS,
    compute_purchase_truth,
    live_day,
    simulate_purchases,
)
from ml.simulate.stream import stream_purchases

PUBLISHED = PURCHASE_WORLDS["purchase_world_as_published"]
IDENTIFIED = PURCHASE_WORLDS["purchase_world_identified_25"]
HIDDEN = PURCHASE_WORLDS["purchase_world_hidden_25"]
TEST_DAYS = slice(335, 365)


@pytest.fixture(scope="module")
def published():
    history = simulate_purchases(PUBLISHED)
    return history, compute_purchase_truth(PUBLISHED, history)


@pytest.fixture(scope="module")
def identified():
    history = simulate_purchases(IDENTIFIED)
    return history, compute_purchase_truth(IDENTIFIED, history)


@pytest.fixture(scope="module")
def hidden():
    return simulate_purchases(HIDDEN)


def at_taken(truth, history):
    """Probabilities of visit and purchase under what was in force, each (n_days, n)."""
    visit = np.where(history.push, truth.visit[..., 1], truth.visit[..., 0])
    return visit, np.where(history.sale1, truth.purchase[..., 1], truth.purchase[..., 0])


def area_under_curve(happens, score):
    happens, ranks = happens.ravel(), stats.rankdata(score)
    n_yes, n_no = happens.sum(), (~happens).sum()
    return (ranks.ravel()[happens].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no)


def clustered(errors):
    """Mean over all consumer-days and its standard error by consumer; errors (n_days, n)."""
    per_customer = errors.mean(axis=0)
    return per_customer.mean(), per_customer.std(ddof=1) / np.sqrt(len(per_customer))


def cells_of(history):
    """Day of the week x age decade x income quintile, (n_days, n), from 0."""
    traits, days = history.traits, np.arange(len(history.visits))
    weekday = (PUBLISHED.first_date.weekday() + days) % 7
    bins = 5 * (traits.age_decade // 10 - 2) + traits.income_quintile - 1
    return 25 * weekday[:, None] + bins


def arrays_of(history):
    rows = [getattr(history, each.name) for each in fields(history) if each.name != "traits"]
    return rows + [getattr(history.traits, each.name) for each in fields(history.traits)]


def test_the_six_worlds_go_by_their_names():
    assert list(PURCHASE_WORLDS) == [
        "purchase_world_as_published",
        "purchase_world_as_published_25",
        "purchase_world_identified",
        "purchase_world_identified_25",
        "purchase_world_hidden",
        "purchase_world_hidden_25",
    ]
    assert all(config.name == name for name, config in PURCHASE_WORLDS.items())
    assert [config.discount for config in PURCHASE_WORLDS.values()] == [0.05, 0.25] * 3
    assert replace(PUBLISHED, discount=0.125).name == "purchase_world_as_published_12.5"


def test_same_seed_same_bytes_and_another_seed_another_world():
    small = replace(HIDDEN, n_customers=50, n_days=20)
    first, again = simulate_purchases(small), simulate_purchases(small)
    other = simulate_purchases(replace(small, seed=43))
    pairs = zip(arrays_of(first), arrays_of(again), strict=True)
    assert all(one.tobytes() == two.tobytes() for one, two in pairs)
    assert not np.array_equal(first.visits, other.visits)
    assert not np.array_equal(first.traits.income, other.traits.income)


def test_worlds_share_consumers_and_luck(published, hidden):
    history, _ = published
    for each in fields(history.traits):
        one, two = getattr(history.traits, each.name), getattr(hidden.traits, each.name)
        assert np.array_equal(one, two)
    assert np.array_equal(history.push, hidden.push)
    assert np.array_equal(history.coupon, hidden.coupon)
    # The sale acts on purchases alone.
    assert np.array_equal(history.visits, hidden.visits)
    assert not np.array_equal(history.purchases, hidden.purchases)


def test_mean_effects_are_the_published_ones(published):
    _, truth = published
    assert truth.push_effect.mean() == pytest.approx(0.146, abs=0.005)
    assert truth.sale_effect.mean() == pytest.approx(0.0147, abs=0.001)
    assert truth.visit.dtype == truth.purchase.dtype == np.float32
    assert truth.visit.shape == (365, 1024, 2)


@pytest.mark.parametrize("seed", [42, 0, 1, 2, 3])
def test_the_oracle_ranks_test_days_as_well_as_the_published_one(seed):
    config = replace(PUBLISHED, seed=seed)
    history = simulate_purchases(config)
    visit, purchase = at_taken(compute_purchase_truth(config, history), history)
    auc_visit = area_under_curve(history.visits[TEST_DAYS], visit[TEST_DAYS])
    auc_purchase = area_under_curve(history.purchases[TEST_DAYS], purchase[TEST_DAYS])
    assert 0.712 - 0.006 <= auc_visit <= 0.735 + 0.006
    assert 0.685 - 0.006 <= auc_purchase <= 0.716 + 0.006


@pytest.mark.parametrize(("day", "row"), [(0, 3), (66, 40), (130, 700), (300, 1023)])
def test_truth_is_the_written_equation_integrated(identified, day, row):
    """A second implementation, for one consumer-day: scipy integrates over the Gumbel density."""
    history, truth = identified
    traits = history.traits
    alpha, beta, gamma = traits.alpha[row], traits.beta[row], traits.gamma[row]
    loyal = int(traits.loyalty[row])
    month = (np.datetime64("2025-01-01") + day).item().month
    for arm in (0, 1):
        promotion = 1.2 * history.campaign[day, row] + 0.8 * history.coupon[day, row] + 0.6 * arm
        visit = -0.3 + beta + gamma * promotion + 0.1 * loyal
        visit -= 0.3 * (1 - min(history.days_since_visit[day, row], 30) / 30)
        price = 1 - 0.25 * arm - 0.03 * (month in (3, 6, 9, 12)) - 0.05 * history.campaign[day, row]
        price -= history.coupon[day, row] * (0.01 if loyal else 0.025)
        purchase = -1.0 + beta - alpha * (price - 1) + 0.30 * loyal
        purchase -= 0.8 * (1 - min(history.days_since_purchase[day, row], 60) / 60)
        if arm == history.sale1[day, row]:
            assert history.price[day, row] == pytest.approx(100 * price)
        for table, utility in ((truth.visit, visit), (truth.purchase, purchase)):
            expected, _ = integrate.quad(
                lambda g, u=utility: special.expit(u + 0.1 * g) * np.exp(-g - np.exp(-g)), -5, 40
            )
            assert table[day, row, arm] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("day", [0, 100, 361])
def test_truth_equals_a_brute_force_re_simulation(identified, day):
    """200 replays of the day with both arms; consumers' mean within 3 standard errors."""
    history, truth = identified
    pushed, sold = [], []
    for replicate in range(1, 201):
        visits, purchases = live_day(
            IDENTIFIED, history, day, push=True, sale1=True, replicate=replicate
        )
        no_visits, no_purchases = live_day(
            IDENTIFIED, history, day, push=False, sale1=False, replicate=replicate
        )
        pushed.append(visits.mean() - no_visits.mean())
        sold.append(purchases.mean() - no_purchases.mean())
    for seen, effect in ((pushed, truth.push_effect[day]), (sold, truth.sale_effect[day])):
        error = np.std(seen, ddof=1) / np.sqrt(len(seen))
        assert abs(np.mean(seen) - effect.mean()) <= 3 * error
        assert error < 0.05 * effect.mean()


def test_a_day_relived_unchanged_is_the_day_as_it_was(identified):
    history, _ = identified
    for day in (0, 200, 364):
        visits, purchases = live_day(IDENTIFIED, history, day)
        assert np.array_equal(visits, history.visits[day])
        assert np.array_equal(purchases, history.purchases[day])
        # Push acts on visits alone, upwards only.
        more, same = live_day(IDENTIFIED, history, day, push=True)
        assert np.array_equal(same, purchases)
        assert (more >= visits).all()


def test_outcomes_happen_with_their_true_probabilities(published, identified):
    for history, truth in (published, identified):
        visit, purchase = at_taken(truth, history)
        for happens, probability in ((history.visits, visit), (history.purchases, purchase)):
            mean, error = clustered(happens - probability)
            assert abs(mean) <= 3 * error


def test_days_since_are_of_the_days_before(published):
    history, _ = published
    for happens, since in (
        (history.visits, history.days_since_visit),
        (history.purchases, history.days_since_purchase),
    ):
        assert (since[0] == NEVER).all()
        for day in (1, 40, 364):
            # Days from the last occurrence to the eve; argmax finds the first True.
            back = happens[:day][::-1]
            expected = np.where(back.any(axis=0), back.argmax(axis=0), NEVER + day)
            assert np.array_equal(since[day], expected)


def test_push_and_coupon_follow_their_probabilities(published):
    history, _ = published
    loyal = history.traits.loyalty
    for given, probability in (
        (history.push, 0.25),
        (history.coupon[:, loyal], 0.18),
        (history.coupon[:, ~loyal], 0.12),
    ):
        error = np.sqrt(probability * (1 - probability) / given.size)
        assert abs(given.mean() - probability) <= 3 * error


def test_campaigns_last_three_days_in_at_most_three_stores(published):
    history, _ = published
    stores = [np.flatnonzero(history.traits.store == store)[0] for store in range(10)]
    by_store = history.campaign[:, stores]
    assert np.array_equal(by_store[:, history.traits.store], history.campaign)
    assert by_store.sum(axis=1).max() <= 3
    edges = np.diff(np.pad(by_store.astype(int), ((1, 1), (0, 0))), axis=0).T  # (stores, 366)
    starts, ends = np.nonzero(edges == 1)[1], np.nonzero(edges == -1)[1]
    # A store may be drawn again on the day after; the last campaigns outlast the world.
    assert ((ends - starts)[ends < 365] % 3 == 0).all()
    assert (edges == 1).sum(axis=0).max() == 1
    assert 0.1 < len(starts) / 365 < 0.2


def test_the_published_sale_has_no_overlap(published):
    history, _ = published
    is_sunday = cells_of(history) // 25 == 6
    assert np.array_equal(history.sale_propensity, is_sunday)
    assert np.array_equal(history.sale1, is_sunday)


def test_the_identified_sale_follows_its_propensity_cell_by_cell(identified):
    history, _ = identified
    cells, propensity = cells_of(history).ravel(), history.sale_propensity.ravel()
    sizes = np.bincount(cells, minlength=175)
    expected = np.bincount(cells, propensity)
    mean = expected / sizes
    assert np.allclose(propensity, mean[cells], atol=1e-12)
    assert 0.1 <= propensity.min() < 0.15
    assert 0.8 < propensity.max() <= 0.9
    seen = np.bincount(cells, history.sale1.ravel())
    chi_square = ((seen - expected) ** 2 / (sizes * mean * (1 - mean))).sum()
    assert 0.001 < stats.chi2.sf(chi_square, 175) < 0.999
    by_day = mean.reshape(7, 5, 5)
    assert (by_day[6] > by_day[:6].max(axis=0)).all()
    assert (np.diff(by_day, axis=1) > 0).all()
    assert (np.diff(by_day, axis=2) > 0).all()


def test_the_hidden_sale_depends_on_preference_beyond_the_bins(identified, hidden):
    for history, is_hidden in ((identified[0], False), (hidden, True)):
        sunday, beta = history.sale_propensity[4], history.traits.beta
        bins = cells_of(history)[4]
        within = np.zeros((2, len(beta)))
        for cell in np.unique(bins):
            rows = bins == cell
            within[:, rows] = [each[rows] - each[rows].mean() for each in (sunday, beta)]
        if is_hidden:
            assert np.corrcoef(within)[0, 1] > 0.8
        else:
            assert np.abs(within[0]).max() < 1e-12
    assert hidden.sale_propensity.min() > 0.09
    assert hidden.sale_propensity.max() < 0.9
    error = np.sqrt((hidden.sale_propensity * (1 - hidden.sale_propensity)).sum())
    assert abs(hidden.sale1.sum() - hidden.sale_propensity.sum()) <= 3 * error


def test_inverse_propensity_finds_the_sale_effect_and_the_plain_difference_does_not(identified):
    history, truth = identified
    sold, bought, propensity = history.sale1, history.purchases, history.sale_propensity
    pseudo = bought * (sold / propensity - (~sold) / (1 - propensity))
    bias, error = clustered(pseudo - truth.sale_effect)
    assert abs(bias) <= 3 * error
    assert error < 0.004
    plain = bought[sold].mean() - bought[~sold].mean()
    assert plain - truth.sale_effect.mean() > 0.03


@pytest.mark.parametrize("name", ["purchase_world_as_published", "purchase_world_hidden_25"])
def test_every_delivered_row_passes_the_contract(name, tmp_path):
    config = replace(PURCHASE_WORLDS[name], n_customers=60, n_days=35)
    history = simulate_purchases(config)
    tables, known = deliver_purchases(config, history), NOTHING_KNOWN
    for table in CONTRACT:
        if table not in tables:
            continue
        path = tmp_path / f"{table}.parquet"
        tables[table].write_parquet(path)
        screened = screen_table(table, [path], known=known, night=date(2030, 1, 1))
        assert screened.quarantined.height == 0
        assert screened.accepted.height == tables[table].height
        known = known.extend(table, screened.accepted)
    assert tables["actions"]["surface"].to_list() == [None, "push", "coupon", "sale"]
    assert tables["deliveries"].height == 0


@pytest.mark.parametrize("name", ["purchase_world_as_published", "purchase_world_identified"])
def test_delivered_counts_add_up(name):
    config = replace(PURCHASE_WORLDS[name], n_customers=60, n_days=35)
    history = simulate_purchases(config)
    tables = deliver_purchases(config, history)
    events, log = tables["events"], tables["assignments"]
    bought = events.filter(pl.col("type") == "purchase")
    assert events.filter(pl.col("type") == "visit").height == history.visits.sum()
    assert bought.height == history.purchases.sum()
    assert bought["amount"].sum() == pytest.approx(history.price[history.purchases].sum())
    assert log.height == 3 * 60 * 35
    given = log.group_by("surface").agg((pl.col("action_id") == pl.col("surface")).sum())
    assert dict(given.iter_rows()) == {
        "push": history.push.sum(),
        "coupon": history.coupon.sum(),
        "sale": history.sale1.sum(),
    }
    sale = log.filter(pl.col("surface") == "sale")
    if config.sale == "published":
        assert (sale["propensity"] == 1).all()
        assert sale["eligible_propensities"].null_count() == sale.height
    else:
        vectors = np.array(sale["eligible_propensities"].to_list())
        assert vectors[:, 1] == pytest.approx(history.sale_propensity.ravel())
    channels = set(tables["actions"]["channel"].drop_nulls())
    assert set(tables["contactability"]["channel"]) == channels
    attributes = tables["customers"]["attributes"].str.json_path_match("$.age_decade")
    assert attributes.cast(pl.Int64).to_list() == history.traits.age_decade.tolist()


def test_streamed_files_hold_the_whole_world(tmp_path):
    config = replace(IDENTIFIED, n_customers=50, n_days=6)
    n_rows = stream_purchases(config, tmp_path, has_truth=True)
    history = simulate_purchases(config)
    tables = deliver_purchases(config, history)
    assert n_rows == sum(rows.height for rows in tables.values())
    assert (tmp_path / "events" / str(config.first_date) / "world.parquet").exists()
    events = pl.concat(
        [pl.read_parquet(path) for path in sorted((tmp_path / "events").rglob("*.parquet"))]
    )
    assert events.sort(events.columns).equals(tables["events"].sort(events.columns))
    first = pl.read_parquet(tmp_path / "truth" / f"{config.first_date}.parquet")
    truth = compute_purchase_truth(config, history)
    assert (first["purchase.sale"].to_numpy() == truth.purchase[0, :, 1]).all()
