"""Figures of the world model: how it learned, what units hold, what its chains dream of."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ml.plots.drawing import BLUE, GREY, ORANGE

_SHOWN_UNITS = 40


def plot_learning(curve: pl.DataFrame) -> Figure:
    """Plot free energies and the chains' error by epoch.

    Parameters
    ----------
    curve
        epoch, training_free_energy, validation_free_energy (nats a row), moment_error.

    Returns
    -------
    Figure
        Left: free energy of training and of other customers, whose gap is overfitting. Right: how
        far the chains' means are from the data's.
    """
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = curve["epoch"].to_numpy()
    left.plot(epochs, curve["training_free_energy"], color=BLUE, label="customers trained on")
    left.plot(epochs, curve["validation_free_energy"], color=ORANGE, label="other customers")
    left.set_ylabel("free energy, nats a row")
    left.legend(frameon=False, fontsize=8)
    right.plot(epochs, curve["moment_error"], color=GREY)
    right.set_ylabel("error of the chains' means (rms)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_weights(weight: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot the lowest couplings: which visible units each hidden unit moves.

    Parameters
    ----------
    weight : shape (V, H)
        Couplings, nats.
    names
        Of the V units.

    Returns
    -------
    Figure
        A map of the visible units with the largest couplings; hidden units in order of strength.
    """
    rows = np.argsort(-np.abs(weight).max(axis=1))[:_SHOWN_UNITS]
    rows = np.sort(rows)
    columns = np.argsort(-np.abs(weight).sum(axis=0))
    shown = weight[np.ix_(rows, columns)]
    top = float(np.abs(shown).max()) or 1.0
    figure = Figure(figsize=(10, 0.17 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shown, aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top)
    axes.set_yticks(range(len(rows)), [names[row] for row in rows], fontsize=6)
    axes.set_xlabel("hidden unit, strongest first")
    figure.colorbar(image, ax=axes, label="coupling, nats")
    return figure


def plot_beliefs(belief: np.ndarray) -> Figure:
    """Plot how much each unit of the belief differs from customer to customer.

    Parameters
    ----------
    belief : shape (n, B)
        Means of hidden units.

    Returns
    -------
    Figure
        Left: each unit's standard deviation, sorted. Right: its mean against it; units at either
        end of the scale say nothing.
    """
    spread, mean = belief.std(axis=0), belief.mean(axis=0)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(np.arange(len(spread)), np.sort(spread)[::-1], color=BLUE)
    left.axhline(0.1, color=ORANGE, lw=1, ls="--", label="least median of a layer that is used")
    left.legend(frameon=False, fontsize=8)
    left.set_xlabel("unit, most varied first")
    left.set_ylabel("standard deviation of its mean")
    right.scatter(mean, spread, s=12, color=BLUE)
    right.set_xlim(0, 1)
    right.set_ylim(bottom=0)
    right.set_xlabel("mean over customer-days")
    right.set_ylabel("standard deviation")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_plausibility(customers: pl.DataFrame, *, least: float) -> Figure:
    """Plot how many customers of each lifecycle are how plausible to the world model.

    Parameters
    ----------
    customers
        lifecycle, plausibility.
    least
        Below it customers are left to exploration, marked.

    Returns
    -------
    Figure
        Shares per twentieth; where the world model is right, each holds a twentieth.
    """
    edges = np.linspace(0, 1, 21)
    figure = Figure(figsize=(8.5, 3), layout="constrained")
    axes = figure.subplots()
    for (name,), rows in customers.sort("lifecycle").group_by("lifecycle", maintain_order=True):
        counts, _ = np.histogram(rows["plausibility"].to_numpy(), bins=edges)
        label = f"{name} ({rows.height:,})"
        axes.stairs(counts / rows.height, edges, label=label, lw=1.4)
    axes.axhline(1 / 20, color="black", lw=0.8, ls=":", label="expected")
    axes.axvline(least, color=ORANGE, lw=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("plausibility: share of the lifecycle's customer-days at least as odd")
    axes.set_ylabel("share of customers")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_chains(data_mean: np.ndarray, chain_mean: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot the visible means of the model's own chains against the data's.

    Parameters
    ----------
    data_mean, chain_mean : shape (V,)
        Means of visible units.
    names
        Of the V units.

    Returns
    -------
    Figure
        On the diagonal the model dreams of what it saw; the five farthest units are named.
    """
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    top = 1.05 * float(max(data_mean.max(), chain_mean.max()))
    axes.plot([0, top], [0, top], color=GREY, lw=1)
    axes.scatter(data_mean, chain_mean, s=12, color=BLUE)
    farthest = np.argsort(-np.abs(chain_mean - data_mean))[:5]
    for place, unit in enumerate(farthest[np.argsort(chain_mean[farthest])]):
        # In the empty corner, in order of height, so that names don't lie on each other.
        axes.annotate(
            names[unit],
            (data_mean[unit], chain_mean[unit]),
            xytext=(0.55 * top, (0.04 + 0.07 * place) * top),
            arrowprops={"arrowstyle": "-", "color": ORANGE, "lw": 0.5},
            fontsize=7,
            color=ORANGE,
        )
    axes.set_xlabel("share in the data")
    axes.set_ylabel("share in the model's chains")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
