"""Draw the simulated worlds for docs/worlds.md: python -m benchmarks.studies.draw_worlds."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.simulate.config import TIERS
from ml.simulate.dynamics import chances_of, draw_day, eligible_actions, live_day
from ml.simulate.media import MediaHistory, saturate
from ml.simulate.purchase_world import (
    PURCHASE_WORLDS,
    PurchaseHistory,
    PurchaseTruth,
    compute_purchase_truth,
    simulate_purchases,
)
from ml.simulate.truth import compute_truth
from ml.simulate.world import World, WorldState
from ml.simulate.worlds import BAKERY

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_BLUE, _ORANGE, _GREY, _GREEN = "#2f6db5", "#d9822b", "#8a8f98", "#3a9d5d"
_TIER_COLOURS = ("#d5d8dc", "#c68e5f", "#9fb3c8", "#e6c34a")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEK, _N_WEEKS, _REPLICATES = 7, 20, 40


def main() -> int:
    """Live the worlds and write the pictures."""
    parser = argparse.ArgumentParser(prog="draw_worlds", description=__doc__)
    parser.add_argument("--out", default=str(PICTURES), help="folder of the pictures")
    out, started = Path(parser.parse_args().out), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    world = World(BAKERY)
    opened, _ = world.open_day()
    state = opened
    while state.day < BAKERY.warm_start_days:
        state, _ = world.step(state, world.randomise(state))
    figures = {
        "effects": plot_effects(world, state),
        "redemptions": plot_redemptions(world, state),
        "memory": plot_memory(world, opened),
        "purchase": plot_purchase_worlds(),
    }
    if world.media is not None:
        figures["media"] = plot_media(world.media)
    for name, figure in figures.items():
        path = out / f"world-{name}.png"
        figure.savefig(path, dpi=95, metadata={"Software": None})
        print(f"  {path.name}: {path.stat().st_size / 1024:.0f} kB")
    print(f"{time.monotonic() - started:.0f} s")
    return 0


def plot_effects(world: World, state: WorldState) -> Figure:
    """Plot one night's true net value effects, per action and by age.

    Parameters
    ----------
    world, state
        Before the day whose due customers are shown, each where the offer's channel is open.

    Returns
    -------
    Figure
        Left, per offer, the 5, 25, 50, 75 and 95 % quantiles and the mean; right, for the
        e-mailed coupon of 2, the mean by age for customers with and without the app.
    """
    truth = compute_truth(world, state)
    people = world.population.people.take(truth.rows)
    is_open = eligible_actions(people, state.customers.take(truth.rows), world.channel_of)
    net = truth.value_effect - truth.cost_effect
    names = world.actions.action_ids
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, action in enumerate(range(len(names) - 1, 0, -1)):
        mine = net[is_open[:, action], action]
        low, first, middle, third, high = np.quantile(mine, [0.05, 0.25, 0.5, 0.75, 0.95])
        left.plot([low, high], [place, place], color=_GREY, lw=1.5)
        left.barh(place, third - first, left=first, height=0.55, color=_BLUE, alpha=0.45)
        left.plot([middle, middle], [place - 0.275, place + 0.275], color=_BLUE, lw=2)
        left.plot(mine.mean(), place, "o", color=_ORANGE, ms=6)
    left.axvline(0, color="black", lw=0.8)
    left.set_yticks(np.arange(len(names) - 1), names[:0:-1])
    left.set_xlabel("true net value effect until the next decision, EUR")
    left.set_title("box: quartiles, line: 5 to 95 %, dot: mean", fontsize=9)
    coupon = names.index("email_coupon_2")
    age = world.population.attributes["age"].to_numpy()[truth.rows]
    edges = np.linspace(18, 80, 9)
    for has_app, colour, label in ((True, _ORANGE, "app"), (False, _BLUE, "no app")):
        rows = is_open[:, coupon] & (people.has_app == has_app)
        middles, means, errors = _average_by(age[rows], net[rows, coupon], edges)
        places = middles + (0.5 if has_app else -0.5)
        right.errorbar(
            places, means, yerr=1.96 * errors, color=colour, marker="o", capsize=3, label=label
        )
    right.legend(frameon=False)
    right.axhline(0, color="black", lw=0.8)
    right.set_xlabel("age")
    right.set_ylabel("mean net value effect, EUR")
    right.set_title("email_coupon_2 by age (95 % interval of the mean)", fontsize=9)
    return _tidy(figure)


def plot_redemptions(world: World, state: WorldState) -> Figure:
    """Plot when coupons are redeemed: lived many times, and by the exact recursion.

    Parameters
    ----------
    world, state
        Before the day on which every due customer gets the coupon.

    Returns
    -------
    Figure
        Share of the coupons that arrived, by day since the decision, until the next one.
    """
    config, day = world.config, state.day
    rows = np.flatnonzero(world.due(state))
    people, stands = world.population.people.take(rows), state.customers.take(rows)
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes = figure.subplots()
    days = np.arange(_WEEK)
    for name, colour in (("email_coupon_2", _BLUE), ("email_coupon_5", _ORANGE)):
        action = world.actions.action_ids.index(name)
        offer, unspent = np.full(len(rows), action), np.ones(len(rows))
        expected = np.empty(_WEEK)
        for age in range(_WEEK):
            visit, purchase, _ = chances_of(
                config,
                people,
                stands,
                world.circumstances(day + age),
                offer=offer,
                offer_age=np.full(len(rows), age),
                is_active=np.ones(len(rows), dtype=bool),
            )
            falls = unspent * visit * purchase * config.response.redemption_probability
            unspent, expected[age] = unspent - falls, falls.mean()
        seen = np.array(
            [
                _redeem_once(world, state, rows, action, replicate)
                for replicate in range(_REPLICATES)
            ]
        )
        error = seen.std(axis=0, ddof=1) / np.sqrt(_REPLICATES)
        places = days + (-0.2 if name == "email_coupon_2" else 0.2)
        axes.bar(
            places,
            100 * expected,
            width=0.38,
            color=colour,
            alpha=0.35,
            label=f"{name}: exact, {100 * expected.sum():.1f} % in all",
        )
        axes.errorbar(
            places,
            100 * seen.mean(axis=0),
            yerr=196 * error,
            fmt="o",
            color=colour,
            ms=4,
            capsize=3,
            label=f"{name}: simulated, {100 * seen.mean(axis=0).sum():.1f} %",
        )
    weekday = world.date_of(day).weekday()
    axes.set_xticks(days, [f"{each}\n{_WEEKDAYS[(weekday + each) % _WEEK]}" for each in days])
    axes.set_xlabel("days since the decision")
    axes.set_ylabel("redeemed that day,\n% of the coupons that arrived")
    axes.legend(frameon=False, fontsize=8)
    return _tidy(figure)


def plot_media(history: MediaHistory, *, weeks_ahead: int = 26) -> Figure:
    """Plot weekly spend, the lift it leads to, the KPI, and every channel's response.

    Parameters
    ----------
    history
        Of the world.
    weeks_ahead
        Weeks from day 0 on.

    Returns
    -------
    Figure
        Left the weeks, right the response to a spend kept up for good.
    """
    media, n = history.media, history.media.history_weeks + weeks_ahead
    weeks = np.arange(n) + history.first_week
    walk_in = history.walk_in.reshape(-1, _WEEK)[:n].mean(axis=1)
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(2, 1))
    spend, lift, kpi = (figure.add_subplot(grid[row, 0]) for row in range(3))
    response = figure.add_subplot(grid[:, 1])
    level = np.linspace(0, 30_000, 301)
    for index, (channel, colour) in enumerate(
        zip(media.channels, (_BLUE, _ORANGE, _GREEN), strict=True)
    ):
        spend.plot(
            weeks, history.spend[:n, index] / 1000, color=colour, lw=1.2, label=channel.channel
        )
        curve = channel.lift * saturate(level, half=channel.half_saturation, slope=channel.slope)
        response.plot(level / 1000, curve, color=colour, label=channel.channel)
        usual = channel.weekly_spend
        there = channel.lift * saturate(
            np.array([usual]), half=channel.half_saturation, slope=channel.slope
        )
        response.plot(usual / 1000, there, "o", color=colour)
    spend.set_ylabel("spend,\nkEUR a week")
    spend.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
    spend.set_ylim(0, 1.3 * history.spend[:n].max() / 1000)
    lift.plot(weeks, history.lift[:n], color="black", lw=1.2)
    lift.axhline(0, color=_GREY, lw=0.8)
    lift.set_ylabel("lift, log-odds\nof a visit")
    kpi.plot(weeks, walk_in / 1000, color="black", lw=1.2)
    kpi.set_ylabel("walk-in sales,\nkEUR a day")
    kpi.set_xlabel("week; day 0 begins week 0")
    for axes in (spend, lift, kpi):
        axes.axvline(0, color=_GREY, lw=0.8, ls=":")
    response.set_xlabel("carried-over spend, kEUR a week")
    response.set_ylabel("uncentred lift, log-odds")
    response.set_title("response; dot: median spend on air", fontsize=9)
    response.legend(frameon=False, fontsize=8)
    return _tidy(figure)


def plot_memory(world: World, opened: WorldState) -> Figure:
    """Plot what decisions leave behind over 20 weeks, under three ways to decide.

    Parameters
    ----------
    world
        Lived once per way, with the same chance.
    opened
        Before day 0; only who had signed up by then is counted.

    Returns
    -------
    Figure
        Above fatigue, opt-outs and dormancy per week, below the tiers.
    """
    ways: dict[str, tuple[str, Callable[[WorldState], pl.DataFrame]]] = {
        "never send": (_GREY, lambda state: world.decide_nothing(state)),
        "experiment": (_BLUE, world.randomise),
        "an offer every week": (_ORANGE, lambda state: _always_send(world, state)),
    }
    present = world.population.people.signup_day < 0
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    axes = figure.subplots(2, 3)
    weeks = np.arange(_N_WEEKS + 1)
    for place, (name, (colour, decide)) in enumerate(ways.items()):
        state, standing = opened, []
        for day in range(_WEEK * _N_WEEKS + 1):
            if day % _WEEK == 0:
                standing.append(state.customers.take(present))
            state, _ = world.step(state, decide(state))
        series = (
            [each.fatigue.mean() for each in standing],
            [100 * (each.closed != 0).mean() for each in standing],
            [100 * each.is_dormant.mean() for each in standing],
        )
        for position, values in enumerate(series):
            axes[0, position].plot(weeks, values, color=colour, label=name)
        shares = 100 * np.array(
            [np.bincount(each.tier, minlength=len(TIERS)) / len(each.tier) for each in standing]
        )
        axes[1, place].stackplot(weeks, shares.T, colors=_TIER_COLOURS, labels=TIERS)
        axes[1, place].set_title(f"tiers: {name}", fontsize=9, color=colour)
        axes[1, place].set_xlabel("week")
        axes[1, place].set_ylim(0, 100)
    for position, label in enumerate(
        ("mean fatigue, messages", "with a closed channel by opt-out, %", "dormant, %")
    ):
        axes[0, position].set_title(label, fontsize=9)
        axes[0, position].set_ylim(bottom=0)
    axes[0, 2].legend(frameon=False, fontsize=8, loc="lower left")
    axes[1, 0].set_ylabel("customers, %")
    handles, labels = axes[1, 2].get_legend_handles_labels()
    axes[1, 2].legend(handles[::-1], labels[::-1], fontsize=8, loc="lower left", framealpha=0.9)
    return _tidy(figure)


def plot_purchase_worlds() -> Figure:
    """Plot the purchase worlds' true effects and how likely the sale is on each weekday.

    Returns
    -------
    Figure
        Effects are of every consumer and day, differences of probabilities.
    """
    lived = {
        name: _live_purchases(name)
        for name in (
            "purchase_world_as_published",
            "purchase_world_identified",
            "purchase_world_identified_25",
            "purchase_world_hidden",
        )
    }
    published, truth = lived["purchase_world_as_published"]
    large = lived["purchase_world_identified_25"][1]
    figure = Figure(figsize=(10.5, 3.8), layout="constrained")
    push, sale, chance = figure.subplots(1, 3, width_ratios=(2, 2, 3))
    for axes, effect, colour, label, bins in (
        (push, truth.push_effect, _BLUE, "push on a visit", np.linspace(0, 0.32, 65)),
        (sale, truth.sale_effect, _BLUE, "sale of 5 %", np.linspace(-0.05, 0.25, 76)),
        (sale, large.sale_effect, _ORANGE, "sale of 25 %", np.linspace(-0.05, 0.25, 76)),
    ):
        heights, _ = np.histogram(effect, bins=bins)
        label = f"{label}: mean {effect.mean():.4f}"
        axes.stairs(100 * heights / effect.size, bins, color=colour, fill=True, alpha=0.4)
        axes.plot([], [], color=colour, lw=6, alpha=0.4, label=label)
        axes.axvline(effect.mean(), ymax=0.78, color=colour, lw=1.2)
    for axes, label in ((push, "of a visit"), (sale, "of a purchase")):
        axes.set_xlabel(f"true effect on the probability\n{label} that day")
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    push.set_ylabel("consumer-days, %")
    weekday = (np.arange(len(published.visits)) + 2) % _WEEK  # 2025 begins on a Wednesday
    for place, (name, colour) in enumerate(
        (("as_published", _GREY), ("identified", _BLUE), ("hidden", _ORANGE))
    ):
        propensity = lived[f"purchase_world_{name}"][0].sale_propensity
        for day in range(_WEEK):
            low, middle, high = np.quantile(propensity[weekday == day], [0, 0.5, 1])
            x = day + 0.25 * (place - 1)
            chance.plot([x, x], [low, high], color=colour, lw=3, alpha=0.5)
            chance.plot(x, middle, "o", color=colour, ms=5, label=name if day == 0 else None)
    chance.set_xticks(np.arange(_WEEK), _WEEKDAYS)
    chance.set_ylim(-0.04, 1.04)
    chance.set_ylabel("propensity of the sale")
    chance.set_title("line: smallest to largest, dot: median", fontsize=9)
    chance.legend(frameon=False, fontsize=8, loc="upper left")
    return _tidy(figure)


def _live_purchases(name: str) -> tuple[PurchaseHistory, PurchaseTruth]:
    """Return a purchase world's history and truth."""
    config = PURCHASE_WORLDS[name]
    history = simulate_purchases(config)
    return history, compute_purchase_truth(config, history)


def _redeem_once(
    world: World, state: WorldState, rows: np.ndarray, action: int, replicate: int
) -> np.ndarray:
    """Live a week after the action; return redemptions per coupon that arrived, shape (7,)."""
    people, customers = world.population.people.take(rows), state.customers.take(rows)
    assigned = np.full(len(rows), action, dtype=np.int8)
    arrived, redeemed = np.zeros(len(rows), dtype=bool), np.empty(_WEEK)
    for offset in range(_WEEK):
        day = state.day + offset
        customers, happened = live_day(
            world.config,
            people,
            customers,
            draw_day(np.random.default_rng([world.config.seed, replicate, offset]), len(rows)),
            world.circumstances(day),
            day=day,
            assigned=assigned,
        )
        if offset == 0:
            arrived = happened.realised > 0
            assigned = np.full(len(rows), -1, dtype=np.int8)
        redeemed[offset] = happened.redeems[arrived].mean()
    return redeemed


def _always_send(world: World, state: WorldState) -> pl.DataFrame:
    """Return decisions that give every due customer an eligible offer, all alike."""
    people = world.population.people
    rows = np.flatnonzero(world.due(state) & ~people.is_holdout)
    policy = eligible_actions(people.take(rows), state.customers.take(rows), world.channel_of)
    policy[:, 0] = ~policy[:, 1:].any(axis=1)
    chances = policy / policy.sum(axis=1, keepdims=True)
    uniforms = np.random.default_rng([world.config.seed, state.day]).random(len(rows))
    taken = world.draw(chances, uniforms)
    return world.log_decisions(state, rows, taken, chances, arm="all", policy_version="all")


def _average_by(
    key: np.ndarray, values: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each bin's middle, mean and standard error."""
    bins = np.clip(np.digitize(key, edges) - 1, 0, len(edges) - 2)
    parts = [values[bins == each] for each in range(len(edges) - 1)]
    errors = [part.std(ddof=1) / np.sqrt(len(part)) for part in parts]
    means = [part.mean() for part in parts]
    return (edges[:-1] + edges[1:]) / 2, np.array(means), np.array(errors)


def _tidy(figure: Figure) -> Figure:
    """Take the frames off."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
