"""Consistency beside the truth: the model's log-odds of blocks of units, and the simulator's.

Two scores on the same clamped rows: ours, differences of free energies; and the one published, the
mean field's expected energy with couplings between hidden layers counted twice and no entropy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from benchmarks.studies.three_in_one.simulator_truth import (
    draw_particles,
    list_cells,
    measure_evidence,
)
from benchmarks.studies.three_in_one.states import Seen
from benchmarks.studies.three_in_one.windows import Windows, open_windows
from ml.world_model.consistency import measure_free_energy
from ml.world_model.network import Network, energy, infer_means

_DAYS = (335, 341, 347, 353, 359)
_ROWS, _TRAJECTORIES = 300, 400
_EVERY_LAG = (1, 2, 3, 4)
_LEAST_PARTICLES = 20.0
_LARGE = 0.3
PROMOTIONS = ("campaign", "coupon", "push")

Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Contrasts:
    """Log-odds of blocks in nats: the truth, and each score's, all of shape (n,)."""

    truth: np.ndarray
    scores: dict[str, np.ndarray]

    def keep(self, chosen: np.ndarray) -> "Contrasts":
        """Return some of them."""
        return Contrasts(
            self.truth[chosen], {name: each[chosen] for name, each in self.scores.items()}
        )


def score_published(network: Network, rows: np.ndarray) -> np.ndarray:
    """Return what was published as a free energy, shape (n,): every layer's terms, no entropy."""
    visible = torch.from_numpy(np.ascontiguousarray(rows)).to(network.biases[0].dtype)
    states = (visible, *infer_means(network, visible, tolerance=1e-4, most_sweeps=50).hidden)
    total = energy(network, states)
    for layer in range(1, network.n_layers):
        # A coupling of two hidden layers is in the sums of both.
        total = total - ((states[layer] @ network.weights[layer]) * states[layer + 1]).sum(dim=1)
    return total.double().numpy()


def compare_plausibility(seen: Seen, network: Network, seed: int) -> list[tuple[str, str, float]]:
    """Return consistency's figures: subject, contender and value.

    Parameters
    ----------
    seen
        The world; rows are mornings of its test days.
    network
        Trained on earlier days.
    seed
        Of the choice of rows.

    Returns
    -------
    list
        Subjects: 'spearman', 'sign', 'sign_large', 'majority' of differences in differences pooled
        over outcomes and promotions of yesterday, 'within' a pair; 'trajectory_spearman',
        'trajectory_sign'; 'penalty_high', 'penalty_low' of four days' purchases that were none, by
        the consumer's base preference; contenders ours, published, truth.
    """
    random = np.random.default_rng(seed)
    particles = draw_particles(seen.config, _DAYS)
    scores: dict[str, Score] = {
        "ours": lambda rows: measure_free_energy(network, rows),
        "published": lambda rows: score_published(network, rows),
    }
    visible = seen.states["raw"]

    def choose(mask: np.ndarray, most: int) -> Windows:
        day, customer = np.nonzero(mask)
        rows = random.permutation(len(day))[:most]
        return open_windows(seen.history, visible, np.array(_DAYS)[day[rows]], customer[rows])

    def measure(on: Windows, off: Windows) -> tuple[Contrasts, np.ndarray]:
        cell = list_cells(seen.history.traits)[on.customer]
        (above, first), (below, second) = (
            measure_evidence(seen.config, each, cell, particles) for each in (on, off)
        )
        contrasts = Contrasts(
            above - below, {name: each(off.rows) - each(on.rows) for name, each in scores.items()}
        )
        return contrasts, np.minimum(first, second) >= _LEAST_PARTICLES

    anyone = np.ones((len(_DAYS), seen.config.n_customers), dtype=bool)
    found = _compare_yesterday(choose(anyone, _ROWS), measure)
    bought = np.stack([seen.history.purchases[day - 4 : day].any(axis=0) for day in _DAYS])
    windows = choose(~bought, _TRAJECTORIES)
    on, off = (windows.with_lags("purchase", _EVERY_LAG, value) for value in (True, False))
    trajectories, is_known = measure(on, off)
    beta = seen.history.traits.beta
    is_high = (beta > np.median(beta))[windows.customer]
    return found + _compare_trajectories(trajectories, is_known, is_high)


def _compare_yesterday(
    windows: Windows, measure: Callable[[Windows, Windows], tuple[Contrasts, np.ndarray]]
) -> list[tuple[str, str, float]]:
    """Return the figures of differences in differences: an outcome and a promotion of yesterday."""
    parts, pairs = [], []
    for outcome in ("visit", "purchase"):
        for promotion in PROMOTIONS:
            sides, known = [], np.ones(len(windows.day), dtype=bool)
            for given in (True, False):
                base = windows.with_lags(promotion, (1,), given)
                side, is_known = measure(
                    *(base.with_lags(outcome, (1,), value) for value in (True, False))
                )
                sides.append(side)
                known &= is_known
            parts.append(
                Contrasts(
                    sides[0].truth - sides[1].truth,
                    {n: sides[0].scores[n] - sides[1].scores[n] for n in sides[0].scores},
                ).keep(known)
            )
            pairs.append(f"{outcome}_{promotion}")
    truth = np.concatenate([each.truth for each in parts])
    is_large = np.abs(truth) >= _LARGE
    found = [("majority", "truth", max((truth > 0).mean(), (truth <= 0).mean()))]
    named = dict(zip(pairs, parts, strict=True))
    found += [(f"mean_{pair}", "truth", each.truth.mean()) for pair, each in named.items()]
    for name in parts[0].scores:
        score = np.concatenate([each.scores[name] for each in parts])
        within = [_rank(each.truth, each.scores[name]) for each in parts]
        found += [
            ("spearman", name, _rank(truth, score)),
            ("sign", name, ((score > 0) == (truth > 0)).mean()),
            ("sign_large", name, ((score > 0) == (truth > 0))[is_large].mean()),
            ("within", name, float(np.mean(within))),
        ]
        found += [(f"mean_{pair}", name, each.scores[name].mean()) for pair, each in named.items()]
    return [(subject, name, float(value)) for subject, name, value in found]


def _compare_trajectories(
    trajectories: Contrasts, is_known: np.ndarray, is_high: np.ndarray
) -> list[tuple[str, str, float]]:
    """Return the figures of four purchases in a row where there was none."""
    known, is_high = trajectories.keep(is_known), is_high[is_known]
    found = [("trajectory_known", "truth", float(is_known.mean()))]
    for name, odds in {"truth": known.truth, **known.scores}.items():
        found += [
            ("penalty", name, float(-odds.mean())),
            ("penalty_high", name, float(-odds[is_high].mean())),
            ("penalty_low", name, float(-odds[~is_high].mean())),
            ("trajectory_spearman", name, _rank(known.truth, odds)),
            ("trajectory_sign", name, float(((odds > 0) == (known.truth > 0)).mean())),
        ]
    return found


def _rank(truth: np.ndarray, score: np.ndarray) -> float:
    return float(stats.spearmanr(truth, score).statistic)
