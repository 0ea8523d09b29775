"""False findings of whole searches where the effect is the same for everybody."""

import numpy as np
import polars as pl

from ml.core.errors import SupportError
from ml.interactors.published import regress_candidates, search_as_published
from ml.interactors.randomisation import Trial
from ml.interactors.search import SearchSettings, search_interactors

_CANDIDATES, _PREVALENCE, _LEAST_ACTIVE = 200, 0.01, 5
SIZES = (2_000, 10_000)
_PER_BATCH = 50
NULLS = ("constant", "sharp", "clustered")
_VISITS = 2
"""Decisions of a customer where they're clustered."""


def run_null(batch: int, n: int, n_searches: int = _PER_BATCH) -> pl.DataFrame:
    """Search some trials in which nothing modifies the effect.

    200 codes, 1 % of customers each. 'constant': the offer adds the same probability of a purchase
    to everybody, who buys without one depends on codes, tickets are skewed and depend on neither.
    'sharp': the offer adds the same amount to everybody. 'clustered': as 'constant', of customers
    who are decided for twice and whose tickets keep their size, more often offered where they buy
    more often anyway.

    Parameters
    ----------
    batch
        Seeds are ``n_searches`` x batch and on.
    n
        Decisions.
    n_searches
        Trials of each kind.

    Returns
    -------
    pl.DataFrame
        null, n, seed, tested (share of the candidates), and whether each way found anything: ours,
        published, marginal (t-tests, Bonferroni), robust (HC1).
    """
    rows = []
    for seed in range(n_searches * batch, n_searches * (batch + 1)):
        for null in NULLS:
            trial, codes = make_null(seed, n, null)
            settings = SearchSettings(least_active=_LEAST_ACTIVE, seed=seed)
            try:
                found = search_interactors(trial, codes, settings=settings)
                is_found, tested = bool(found.selected), float(found.tested.mean())
            except SupportError:
                is_found, tested = False, 0.0
            _, p_value = regress_candidates(trial, codes, [])
            _, robust = regress_candidates(trial, codes, [], is_robust=True)
            level = 0.05 / _CANDIDATES
            rows.append(
                {
                    "null": null,
                    "n": n,
                    "seed": seed,
                    "tested": tested,
                    "ours": is_found,
                    "published": bool(search_as_published(trial, codes)),
                    "marginal": bool(p_value.min() <= level),
                    "robust": bool(robust.min() <= level),
                }
            )
    return pl.DataFrame(rows)


def make_null(seed: int, n: int, null: str) -> tuple[Trial, np.ndarray]:
    """Make a trial and its codes, shape (n, 200)."""
    random = np.random.default_rng([seed, n, 71])
    if null == "clustered":
        return _make_clustered(random, n)
    codes = (random.random((n, _CANDIDATES)) < _PREVALENCE).astype(float)
    offered = random.random(n) < 0.5
    often = _buy_anyway(codes)
    luck, ticket = random.random(n), np.exp(random.normal(2.5, 1.0, n))
    if null == "sharp":
        outcome = (luck < often) * ticket + 2.0 * offered
    else:
        outcome = (luck < np.clip(often + 0.1 * offered, 0, 1)) * ticket
    return Trial(outcome, offered, np.full(n, 0.5), np.arange(n)), codes


def _make_clustered(random: np.random.Generator, n: int) -> tuple[Trial, np.ndarray]:
    """Make a trial of customers who return, with propensities that follow what they do anyway."""
    n_customers = n // _VISITS
    customer = np.repeat(np.arange(n_customers), _VISITS)
    codes = (random.random((n_customers, _CANDIDATES)) < _PREVALENCE).astype(float)[customer]
    often = _buy_anyway(codes)
    propensity = 0.35 + 0.25 * (often > 0.10) + 0.05 * random.random(n)
    offered = random.random(n) < propensity
    usual = np.exp(random.normal(0.0, 0.8, n_customers))[customer]
    ticket = usual * np.exp(random.normal(2.5, 0.6, n))
    outcome = (random.random(n) < np.clip(often + 0.1 * offered, 0, 1)) * ticket
    return Trial(outcome, offered, propensity, customer), codes


def _buy_anyway(codes: np.ndarray) -> np.ndarray:
    """Return probabilities of a purchase without the offer, by codes."""
    some, each = codes[:, :20].sum(axis=1) > 0, codes[:, 20:60].sum(axis=1)
    return 0.10 + 0.15 * some + 0.05 * each


def report_null(lived: pl.DataFrame) -> dict[str, float]:
    """Print rates of searches that found something; return the line's figures."""
    figures = {}
    ways = ("ours", "published", "marginal", "robust")
    print("\nsearches that find something where nothing modifies the effect")
    print(f"{'null':<10}{'n':>8}{'searches':>10}{'tested':>8}" + "".join(f"{w:>11}" for w in ways))
    for (null, n), own in lived.group_by("null", "n", maintain_order=True):
        rates = [float(own[way].to_numpy().mean()) for way in ways]
        tested = float(own["tested"].to_numpy().mean())
        print(
            f"{null:<10}{n:>8}{own.height:>10}{tested:>8.3f}"
            + "".join(f"{r:>11.3f}" for r in rates)
        )
        suffix = "" if null == "constant" else f"_{null}"
        figures[f"null_fwer_{n}{suffix}"] = rates[0]
        figures[f"null_fwer_{n}{suffix}_published"] = rates[1]
    return figures
