"""A file is assigned as its rows in memory would be, whatever the blocks and the bracket."""

import numpy as np
import polars as pl
import pytest

from ml.allocation import streaming
from ml.allocation.budget import assign_actions
from ml.allocation.streaming import assign_parquet
from ml.core.errors import BudgetError

ACTIONS = ("none", "a", "b", "c")


def _draw(n, seed):
    random = np.random.default_rng(seed)
    cost = random.exponential(1, (n, 4)).astype(np.float32)
    reward = ((random.lognormal(0, 0.7, (n, 4)) - 0.3) * cost).astype(np.float32)
    reward[random.random((n, 4)) < 0.2] = -np.inf
    reward[:, 0] = cost[:, 0] = 0
    return reward, cost


def _write(path, reward, cost, **options):
    columns = {f"reward.{name}": reward[:, place] for place, name in enumerate(ACTIONS)}
    columns |= {f"cost.{name}": cost[:, place] for place, name in enumerate(ACTIONS)}
    pl.DataFrame(columns).with_columns(
        pl.when(pl.col(f"reward.{name}").is_finite()).then(f"reward.{name}") for name in ACTIONS
    ).write_parquet(path, row_group_size=3_000, **options)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 2.0])
def test_it_is_the_assignment_in_memory(share, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "ROWS_AT_ONCE", 4_096)
    reward, cost = _draw(40_000, 3)
    free = cost[np.arange(len(cost)), reward.argmax(axis=1)].sum(dtype=float)
    _write(tmp_path / "rows.parquet", reward, cost)
    seen = []
    found = assign_parquet(
        tmp_path / "rows.parquet",
        ACTIONS,
        budget=share * free,
        progress=lambda done, total: seen.append((done, total)),
    )
    expected = assign_actions(reward, cost, None, budget=share * free)
    # What is left of the budget goes to other customers, as far as they are in reach.
    assert (found.chosen != expected.chosen).sum() <= 10
    assert found.cut.shadow_price == pytest.approx(expected.cut.shadow_price, abs=1e-9)
    assert found.bound == pytest.approx(expected.bound)
    rows = np.arange(len(cost))
    assert found.cost == pytest.approx(cost[rows, found.chosen].sum(dtype=float))
    assert found.reward == pytest.approx(reward[rows, found.chosen].sum(dtype=float))
    assert found.cost <= share * free
    assert found.bound - found.reward <= reward.max()
    assert seen[-1] == (40_000, 40_000)
    assert found.n_scans == 1
    assert found.n_kept < 40_000


def test_a_sample_that_misleads_costs_another_scan_and_nothing_else(tmp_path, monkeypatch):
    reward, cost = _draw(20_000, 4)
    budget = 0.4 * cost[np.arange(len(cost)), reward.argmax(axis=1)].sum(dtype=float)
    _write(tmp_path / "rows.parquet", reward, cost)
    expected = assign_actions(reward, cost, None, budget=budget)
    price = expected.cut.shadow_price
    for bracket in ((price * 1.2, price * 1.3), (price * 0.5, price * 0.6), (0.0, price * 0.1)):
        monkeypatch.setattr(streaming, "guess_prices", lambda *_, answer=bracket, **__: answer)
        found = assign_parquet(tmp_path / "rows.parquet", ACTIONS, budget=budget)
        assert found.n_scans > 1
        assert (found.chosen != expected.chosen).sum() <= 10
        assert found.cost <= budget


def test_what_cannot_be_assigned_is_refused(tmp_path):
    reward, cost = _draw(5_000, 5)
    file = tmp_path / "rows.parquet"
    _write(file, reward, cost + np.float32(1))
    with pytest.raises(BudgetError, match="even the cheapest"):
        assign_parquet(file, ACTIONS, budget=10.0)
    with pytest.raises(BudgetError, match="lacks the columns"):
        assign_parquet(file, (*ACTIONS, "d"), budget=10.0)
    _write(file, reward[:0], cost[:0])
    with pytest.raises(BudgetError, match="no rows"):
        assign_parquet(file, ACTIONS, budget=10.0)
    cost[7, 1], reward[7, 1] = np.nan, 1.0
    _write(file, reward, cost)
    with pytest.raises(BudgetError, match="must be finite"):
        assign_parquet(file, ACTIONS, budget=10.0)
