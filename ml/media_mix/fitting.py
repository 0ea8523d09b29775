"""The media mix fitted by NUTS, with diagnostics; an older posterior may stand for the prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.distributions import constraints
from numpyro.infer import NUTS
from numpyro.infer.hmc import HMCState

from ml.core.errors import ContractError
from ml.media_mix import model
from ml.media_mix.model import Design, Parameters, Preset, Scales
from ml.media_mix.series import LiftTest, MediaSeries

Draws = dict[str, np.ndarray]

_LEAST_WEEKS = 26
_NUGGET = 1e-6


@dataclass(frozen=True, kw_only=True)
class MediaMixSettings:
    """How the mix is fitted; ``preset`` names the priors, draws and warm-up count per chain."""

    preset: Preset = "ours"
    n_harmonics: int = 2
    n_chains: int = 4
    n_warmup: int = 800
    n_draws: int = 800
    target_accept: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Diagnostics:
    """Whether the chains, and the model, may be believed.

    ``largest_r_hat`` and ``least_ess`` (of all chains together) over all parameters;
    ``divergent_share`` of the kept draws; ``share_within`` of the weeks whose KPI lies in its
    90 % posterior predictive interval.
    """

    largest_r_hat: float
    least_ess: float
    divergent_share: float
    share_within: float

    @property
    def has_converged(self) -> bool:
        """Whether R-hat < 1.01, more than 400 draws are effective, at most .1 % diverged."""
        return self.largest_r_hat < 1.01 and self.least_ess > 400 and self.divergent_share <= 0.001

    @property
    def predicts(self) -> bool:
        """Whether at least 80 % of the weeks lie within their 90 % predictive interval."""
        return self.share_within >= 0.8


@dataclass(frozen=True)
class MediaMix:
    """A fitted media mix of C channels.

    ``draws`` holds S draws of each site, chain after chain: intercept and sigma (S,), base (S, R),
    kept, half, slope and beta (S, C), in the units of ``scales``.
    """

    series: MediaSeries
    scales: Scales
    settings: MediaMixSettings
    tests: tuple[LiftTest, ...]
    draws: Draws
    diagnostics: Diagnostics

    @property
    def design(self) -> Design:
        """The series as the model sees it."""
        return model.make_design(
            self.series, self.scales, tests=self.tests, n_harmonics=self.settings.n_harmonics
        )


def fit_media_mix(
    series: MediaSeries,
    *,
    tests: Sequence[LiftTest] = (),
    settings: MediaMixSettings | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> MediaMix:
    """Fit the media mix by NUTS, all chains at once.

    Parameters
    ----------
    series
        At least 26 weeks.
    tests
        Lift tests; each adds a likelihood N(measured | modelled, standard error).
    settings
        Default: ``MediaMixSettings()``.
    progress
        Called with a line before.

    Returns
    -------
    MediaMix
        The same for the same series, tests, settings and library versions.

    Raises
    ------
    ContractError
        If the series is too short, or a channel never spent anything.
    """
    settings = settings or MediaMixSettings()
    _refuse_unusable(series)
    scales = model.choose_scales(series, preset=settings.preset)
    design = model.make_design(series, scales, tests=tests, n_harmonics=settings.n_harmonics)
    progress(
        f"Fit {len(series.channels)} channels over {series.n_weeks} weeks, {len(tests)} lift tests"
    )
    draws, found = _fit(settings, design, None)
    return MediaMix(series, scales, settings, tuple(tests), draws, found)


def update_media_mix(
    last: MediaMix,
    series: MediaSeries,
    *,
    tests: Sequence[LiftTest] = (),
    weight: float = 0.98,
    settings: MediaMixSettings | None = None,
) -> MediaMix:
    """Fit the weeks since the last fit, with its posterior as prior.

    The posterior is taken as normal in unconstrained parameters; raised to the power ``weight`` it
    forgets, as media change (a power prior, Ibrahim and Chen 2000).

    Parameters
    ----------
    last
        Fitted before, on the first weeks of ``series``.
    series
        The old weeks and the new ones.
    tests
        Lift tests that the last fit didn't have.
    weight
        In (0, 1]; 1 forgets nothing.
    settings
        Default: those of the last fit.

    Raises
    ------
    ContractError
        If the series doesn't go on from the last one, with the same channels and controls.
    """
    settings = settings or last.settings
    known = last.series.n_weeks
    if (
        (series.channels, series.control_names) != (last.series.channels, last.series.control_names)
        or series.weeks[:known] != last.series.weeks
        or series.n_weeks <= known
        or settings.preset != last.settings.preset
    ):
        raise ContractError(
            "the series doesn't go on from the last fit: the same channels, controls, preset and "
            f"weeks to {last.series.weeks[-1]}, and at least one more; fit it anew"
        )
    if not 0 < weight <= 1:
        raise ContractError(f"weight must lie in (0, 1], not {weight}")
    design = model.make_design(
        series, last.scales, tests=tests, n_harmonics=settings.n_harmonics, seen_from=known
    )
    flat = _flatten(last.draws, settings.preset)  # (S, D)
    spread = np.cov(flat, rowvar=False) / weight + _NUGGET * np.eye(flat.shape[1])
    prior = (flat.mean(axis=0), np.linalg.cholesky(spread))
    draws, found = _fit(settings, design, prior)
    return MediaMix(series, last.scales, settings, (*last.tests, *tests), draws, found)


def fit_designs(
    designs: Sequence[Design], settings: MediaMixSettings
) -> list[tuple[Draws, Diagnostics]]:
    """Fit designs of one shape, which is compiled once: for studies of coverage."""
    return [_fit(settings, design, None) for design in designs]


def _fit(
    settings: MediaMixSettings, design: Design, prior: tuple[np.ndarray, np.ndarray] | None
) -> tuple[Draws, Diagnostics]:
    """Sample; return the draws of all chains and their diagnostics."""
    arrays = Design(*(jnp.asarray(each) for each in design))
    keys = jax.random.split(jax.random.PRNGKey(settings.seed), settings.n_chains)
    parameters, diverging = _sample(keys, arrays, prior, replace(settings, seed=0))
    chains = {name: np.asarray(each, dtype=float) for name, each in parameters.items()}
    draws = {name: each.reshape(-1, *each.shape[2:]) for name, each in chains.items()}
    worst = [float(np.max(split_gelman_rubin(each))) for each in chains.values() if each.size]
    least = [float(np.min(effective_sample_size(each))) for each in chains.values() if each.size]
    found = Diagnostics(
        largest_r_hat=max(worst),
        least_ess=min(least),
        divergent_share=float(np.asarray(diverging).mean()),
        share_within=_check_predictions(design, draws, settings.seed),
    )
    return draws, found


@partial(jax.jit, static_argnames="settings")
def _sample(
    keys: Array, design: Design, prior: tuple[Array, Array] | None, settings: MediaMixSettings
) -> tuple[Parameters, Array]:
    """Return parameters (n_chains, n_draws, ...) and divergences (n_chains, n_draws).

    NumPyro's MCMC class would compile anew for every series; this is compiled once for a shape.
    """

    def propose(design: Design, prior: tuple[Array, Array] | None) -> None:
        if prior is None:
            drawn = model.derive_beta(design, model.draw_priors(design, settings.preset))
        else:
            mean, root = prior
            white = numpyro.sample("white", dist.Normal(0, 1).expand(mean.shape).to_event(1))
            drawn = _unflatten(mean + root @ white, design, settings.preset)
        numpyro.deterministic("parameters", drawn)
        model.observe(design, drawn)

    def run_chain(key: Array) -> tuple[Parameters, Array]:
        kernel = NUTS(propose, target_accept_prob=settings.target_accept)
        state = kernel.init(key, settings.n_warmup, None, (design, prior), {})

        def step(state: HMCState, _: None) -> tuple[HMCState, tuple[Parameters, Array]]:
            state = kernel.sample(state, (design, prior), {})
            return state, (state.z, state.diverging)

        # One loop for both, since each holds a compiled tree of its own.
        n_steps = settings.n_warmup + settings.n_draws
        _, (sites, diverging) = jax.lax.scan(step, state, None, n_steps)
        kept = {name: each[settings.n_warmup :] for name, each in sites.items()}
        read = kernel.postprocess_fn((design, prior), {})
        parameters = jax.lax.map(lambda one: read(one)["parameters"], kept)
        return parameters, diverging[settings.n_warmup :]

    return jax.vmap(run_chain)(keys)


def _check_predictions(design: Design, draws: Draws, seed: int) -> float:
    """Return the share of the weeks seen whose KPI lies in its 90 % predictive interval."""
    expected = model.over_draws(model.expect_kpi, design, draws)  # (S, T)
    noise = np.random.default_rng(seed).standard_normal(expected.shape) * draws["sigma"][:, None]
    low, high = np.quantile(expected + noise, [0.05, 0.95], axis=0)
    is_within = (low <= design.kpi) & (design.kpi <= high)
    return float(is_within[design.is_seen].mean())


def _supports(preset: Preset) -> dict[str, constraints.Constraint]:
    """Return each site's range."""
    is_paper = preset == "paper"
    return {
        "intercept": constraints.real,
        "base": constraints.real,
        "sigma": constraints.positive,
        "kept": constraints.unit_interval,
        "half": constraints.unit_interval if is_paper else constraints.interval(0.1, 10.0),
        "slope": constraints.positive,
        "beta": constraints.real if is_paper else constraints.positive,
    }


def _flatten(draws: Draws, preset: Preset) -> np.ndarray:
    """Return draws as unconstrained vectors, shape (S, D)."""
    free = {
        name: dist.biject_to(support).inv(jnp.asarray(draws[name]))
        for name, support in _supports(preset).items()
    }
    return np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(free), dtype=float)


def _unflatten(vector: Array, design: Design, preset: Preset) -> Parameters:
    """Return parameters of one unconstrained vector."""
    n_channels, n_base = design.lagged.shape[2], design.base.shape[1]
    sizes = {"intercept": (), "base": (n_base,), "sigma": ()}
    shapes = {name: jnp.zeros(sizes.get(name, (n_channels,))) for name in _supports(preset)}
    free = ravel_pytree(shapes)[1](vector)
    return {
        name: dist.biject_to(support)(free[name]) for name, support in _supports(preset).items()
    }


def _refuse_unusable(series: MediaSeries) -> None:
    if not series.channels:
        raise ContractError("no channel spent anything: deliver media_spend, or send messages")
    if series.n_weeks < _LEAST_WEEKS:
        raise ContractError(
            f"a media mix needs at least {_LEAST_WEEKS} whole weeks of media_spend and media_kpi, "
            f"there are {series.n_weeks}"
        )
    for channel, spent in zip(series.channels, series.spend.sum(axis=0), strict=True):
        if not spent > 0:
            raise ContractError(f"channel '{channel}' never spent anything: leave it out")
