"""The published simulations of the interactor search, written anew from their equations."""

import numpy as np

from ml.interactors.randomisation import Trial


def make_leaky(
    seed: int,
    *,
    n: int,
    m: int = 500,
    effect: float = 1.0,
    is_older: bool = False,
) -> tuple[Trial, np.ndarray]:
    """Make a trial whose effect depends on two latents, and candidates that all know of them.

    Candidates 0 and 1 load on a latent each, the others leak: normal loadings, clipped. The newer
    published simulation: principal 3.0, leakage .22, clipped at 2.0, noise .7, effect .4 + eta
    (w1 - w2). The older: 1.5, .35, 1.0, 1.0, and eta (w1 + w2) / sqrt 2.

    Parameters
    ----------
    seed, n, m
        Of the trial; decisions; candidates.
    effect
        eta, 1 is the full effect.
    is_older
        Which simulation.

    Returns
    -------
    tuple
        The trial, and candidates, shape (n, m).
    """
    principal, leakage, most, noise = (1.5, 0.35, 1.0, 1.0) if is_older else (3.0, 0.22, 2.0, 0.7)
    random = np.random.default_rng([seed, n])
    latent = random.normal(size=(n, 2))
    loading = np.clip(random.normal(0, leakage, (m, 2)), -most, most)
    loading[0, 0] = loading[1, 1] = principal
    candidates = latent @ loading.T + noise * random.normal(size=(n, m))
    offered = random.random(n) < 0.5
    first, second = latent.T
    if is_older:
        without = 0.5 * first - 0.5 * second + 0.25 * first * second
        added = effect * (first + second) / np.sqrt(2)
    else:
        without = 0.7 * first - 0.5 * second
        added = 0.4 + effect * (first - second)
    outcome = without + offered * added + random.normal(size=n)
    return Trial(outcome, offered, np.full(n, 0.5), np.arange(n)), candidates
