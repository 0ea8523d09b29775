"""Two programmes at once: four cells by hand, coverage of the interaction, refusal to add."""

import numpy as np
import pytest

from ml.core.errors import InterferenceError, SupportError
from ml.ope.factorial import add_effects, estimate_factorial

EFFECTS = {"own": 0.5, "other": 0.3, "interaction": -0.4}


def _draw(random, *, n=1_500, interaction=-0.4, own_share=0.6, other_share=0.25, skew=0.0):
    """Return a factorial log: three decisions a customer, propensities that depend on x."""
    customer = np.arange(n) // 3
    x = random.normal(size=n // 3 + 1)[customer]
    own_chance = np.clip(own_share + skew * np.tanh(x), 0.05, 0.95)
    is_own = random.random(n) < own_chance
    is_other = random.random(n) < other_share
    noise = random.normal(size=n // 3 + 1)[customer] + random.standard_exponential(n)
    outcome = 2 + x + 0.5 * is_own + 0.3 * is_other + interaction * is_own * is_other + noise
    return {
        "outcome": outcome,
        "is_own": is_own,
        "is_other": is_other,
        "own_propensity": np.where(is_own, own_chance, 1 - own_chance),
        "other_propensity": np.where(is_other, other_share, 1 - other_share),
        "customer": customer,
    }


def _estimate(log):
    return estimate_factorial(log.pop("outcome"), **log)


def test_with_constant_propensities_it_is_the_cells_means():
    log = _draw(np.random.default_rng(1))
    cell = log["is_own"] + 2 * log["is_other"]
    means = [log["outcome"][cell == each].mean() for each in range(4)]
    found = _estimate(log)
    assert found.own.value == pytest.approx(means[1] - means[0])
    assert found.other.value == pytest.approx(means[2] - means[0])
    assert found.both.value == pytest.approx(means[3] - means[0])
    assert found.interaction.value == pytest.approx(means[3] - means[1] - means[2] + means[0])
    assert found.added.value == pytest.approx(found.own.value + found.other.value)
    assert found.n_cell == tuple(np.bincount(cell))


def _cover(n_logs, seed, **kind):
    random = np.random.default_rng(seed)
    covered = []
    for _ in range(n_logs):
        try:
            found = _estimate(_draw(random, **kind))
        except SupportError:
            # Tails too heavy for an interval: refused, not reported.
            continue
        truth = kind.get("interaction", -0.4)
        covered.append(found.interaction.low <= truth <= found.interaction.high)
    assert len(covered) > 0.8 * n_logs
    return float(np.mean(covered))


KINDS = (
    {},
    {"interaction": 0.0},
    {"skew": 0.25, "n": 6_000},
    {"own_share": 0.75, "other_share": 0.2, "n": 3_000},
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_interactions_interval_covers(kind):
    assert _cover(150, 7, **kind) >= 0.90


@pytest.mark.slow
def test_the_interactions_interval_covers_by_the_rule():
    covered = [_cover(2_000, 11 + place, **kind) for place, kind in enumerate(KINDS)]
    assert 0.94 <= np.mean(covered) <= 0.96
    assert min(covered) >= 0.92


def test_effects_that_act_on_each_other_are_not_added():
    random = np.random.default_rng(4)
    found = _estimate(_draw(random, n=30_000))
    with pytest.raises(InterferenceError, match=r"don't add up.*beyond their sum"):
        add_effects(found)
    nil = _estimate(_draw(random, n=30_000, interaction=0.0))
    assert add_effects(nil) == nil.added
    assert nil.added.low <= 0.8 <= nil.added.high


def test_a_cell_that_is_hardly_filled_is_refused():
    log = _draw(np.random.default_rng(2), other_share=0.02)
    with pytest.raises(SupportError, match="at least 75 are needed"):
        _estimate(log)
