"""What the document claims and nobody measured: few labels, traits in beliefs, lags or recurrence.

On the world as published, by more consumers than one seed of the main table has.
"""

import numpy as np
import polars as pl
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict

from benchmarks.studies.three_in_one.features import list_visible
from benchmarks.studies.three_in_one.seeds import (
    OUR_TRAINING,
    PREDICTION,
    PUBLISHED,
    QUICK_TRAINING,
    Row,
    measure_area,
    tabulate,
)
from benchmarks.studies.three_in_one.states import TEST, Seen, flatten, see_world
from ml.world_model.chance import seed_generator
from ml.world_model.prediction import PredictionConfig, fit_prediction

LABELS = (500, 2_000, 10_000, 100_000)
LAGS = (0, 4, 14)
_ALPHAS = np.logspace(-1, 4, 11)
_MOST_BATCH, _LEAST_BATCH, _BATCHES = 1024, 32, 16
_GRU_HIDDEN, _GRU_EPOCHS, _GRU_CONSUMERS, _GRU_RATE = 32, 40, 64, 3e-3


def run_history(seed: int, n_customers: int, is_quick: bool) -> pl.DataFrame:
    """Return one seed's figures.

    Parameters
    ----------
    seed, n_customers
        Of the world as published.
    is_quick
        A smaller network, trained less.

    Returns
    -------
    pl.DataFrame
        Part 'labels': test areas by outcome, contender 'state at n labels'; 'r2' of latent traits
        by state; 'memory': test areas by lags, and of a recurrent network.
    """
    torch.set_num_threads(1)
    seen = see_world(PUBLISHED, seed, n_customers, QUICK_TRAINING if is_quick else OUR_TRAINING)
    labels = LABELS[:2] if is_quick else LABELS
    rows: list[Row] = [("labels", *each) for each in _use_few_labels(seen, seed, labels)]
    rows += [("r2", *each) for each in _explain_traits(seen)]
    n_epochs = 2 if is_quick else _GRU_EPOCHS
    rows += [("memory", *each) for each in _compare_memories(seen, seed, n_epochs)]
    return tabulate(rows, seed)


def _use_few_labels(seen: Seen, seed: int, labels: tuple[int, ...]) -> list[tuple[str, str, float]]:
    """Return test areas of adapters that were fitted on so many random rows."""
    days, found = slice(0, TEST.start), []
    outcomes = {"visit": seen.history.visits, "purchase": seen.history.purchases}
    n_rows = TEST.start * seen.config.n_customers
    order = np.random.default_rng(seed).permutation(n_rows)
    for n in labels:
        rows = order[:n]
        batch = int(np.clip(n // _BATCHES, _LEAST_BATCH, _MOST_BATCH))
        config = PredictionConfig(batch_size=batch, n_epochs=60, patience=6)
        for label, state in seen.states.items():
            adapter = fit_prediction(
                flatten(state, days)[rows],
                flatten(seen.actions, days)[rows],
                {name: flatten(values, days)[rows] for name, values in outcomes.items()},
                flatten(seen.customer, days)[rows],
                config,
            )
            predicted = adapter.predict(flatten(state, TEST), flatten(seen.actions, TEST))
            found += [
                (name, f"{label} at {n}", measure_area(flatten(values, TEST), predicted[name]))
                for name, values in outcomes.items()
            ]
    return found


def _explain_traits(seen: Seen) -> list[tuple[str, str, float]]:
    """Return the ridge R2 of every latent trait, of consumers that the ridge didn't see."""
    found = []
    for label, state in seen.states.items():
        inputs = state[-1].astype(float)
        for trait in ("alpha", "beta", "gamma"):
            true = getattr(seen.history.traits, trait)
            predicted = cross_val_predict(RidgeCV(_ALPHAS), inputs, true, cv=5)
            found.append((trait, label, float(r2_score(true, predicted))))
    return found


def _compare_memories(seen: Seen, seed: int, n_epochs: int) -> list[tuple[str, str, float]]:
    """Return test areas of plain networks by lags, and of a recurrent one of the same units."""
    days, found = slice(0, TEST.start), []
    outcomes = {"visit": seen.history.visits, "purchase": seen.history.purchases}
    without_lags = list_visible(seen.config, seen.history, 0).astype(np.float32)
    recurrent = _fit_recurrent(seen, without_lags, seed, n_epochs)
    for n_lags in LAGS:
        visible = list_visible(seen.config, seen.history, n_lags).astype(np.float32)
        adapter = fit_prediction(
            flatten(visible, days),
            flatten(seen.actions, days),
            {name: flatten(values, days) for name, values in outcomes.items()},
            flatten(seen.customer, days),
            PREDICTION,
        )
        predicted = adapter.predict(flatten(visible, TEST), flatten(seen.actions, TEST))
        found += [
            (name, f"{n_lags} lags", measure_area(flatten(values, TEST), predicted[name]))
            for name, values in outcomes.items()
        ]
    return found + [
        (name, "GRU", measure_area(flatten(values, TEST), recurrent[..., place].ravel()))
        for place, (name, values) in enumerate(outcomes.items())
    ]


class _Recurrent(torch.nn.Module):
    """A GRU over what happened on the days before, read with the day's own units and actions."""

    def __init__(self, n_happened: int, n_own: int):
        super().__init__()
        self.memory = torch.nn.GRU(n_happened, _GRU_HIDDEN, batch_first=True)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(_GRU_HIDDEN + n_own, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)
        )

    def forward(self, happened: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Return log-odds of visit and purchase, shape (consumers, days, 2)."""
        return self.head(torch.cat([self.memory(happened)[0], own], dim=2))


def _fit_recurrent(seen: Seen, visible: np.ndarray, seed: int, n_epochs: int) -> np.ndarray:
    """Return a recurrent network's log-odds on test days, shape (days, n, 2).

    Trained on whole sequences of nine tenths of the consumers; the epoch is the best by the loss of
    the others.
    """
    history = seen.history
    happened = np.stack(
        [history.visits, history.purchases, history.coupon, history.campaign, history.push], axis=2
    )
    before = np.zeros_like(happened)
    before[1:] = happened[:-1]
    inputs, own, target = (
        torch.from_numpy(np.ascontiguousarray(each.transpose(1, 0, 2))).float()
        for each in (
            before,
            np.concatenate([visible, seen.actions], axis=2),
            np.stack([history.visits, history.purchases], axis=2),
        )
    )
    generator = seed_generator(seed, 0, 0, torch.device("cpu"))
    order = torch.randperm(len(inputs), generator=generator)
    held, rest = order[: len(order) // 10], order[len(order) // 10 :]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Recurrent(inputs.shape[2], own.shape[2])
    optimiser = torch.optim.Adam(network.parameters(), lr=_GRU_RATE)
    known = slice(0, TEST.start)

    def measure_loss(rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            network(inputs[rows, known], own[rows, known]), target[rows, known]
        )

    best, least = None, np.inf
    for _ in range(n_epochs):
        for rows in torch.split(
            rest[torch.randperm(len(rest), generator=generator)], _GRU_CONSUMERS
        ):
            with torch.enable_grad():
                optimiser.zero_grad()
                torch.autograd.backward(measure_loss(rows))
            optimiser.step()
        with torch.no_grad():
            loss = float(measure_loss(held))
            if loss < least:
                least, best = loss, network(inputs, own)[:, TEST].numpy().transpose(1, 0, 2)
    assert best is not None
    return best
