"""The media mix fitted by NUTS, with diagnostics; an older posterior may stand for the prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS

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
        Called with a line before and after.

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
    runner = _make_runner(settings, is_updating=False)
    draws, found = _run(runner, settings, design, None)
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
    runner = _make_runner(settings, is_updating=True)
    draws, found = _run(runner, settings, design, prior)
    return MediaMix(series, last.scales, settings, (*last.tests, *tests), draws, found)


def fit_designs(
    designs: Sequence[Design], settings: MediaMixSettings
) -> list[tuple[Draws, Diagnostics]]:
    """Fit several designs of one shape, compiling once: for studies of coverage."""
    runner = _make_runner(settings, is_updating=False)
    return [_run(runner, settings, design, None) for design in designs]


def _make_runner(settings: MediaMixSettings, *, is_updating: bool) -> MCMC:
    """Return a sampler whose model takes a design, and the prior's mean and root when updating."""

    def anew(design: Design, prior: None) -> None:
        drawn = model.derive_beta(design, model.draw_priors(design, settings.preset))
        numpyro.deterministic("parameters", drawn)
        model.observe(design, drawn)

    def updating(design: Design, prior: tuple[Array, Array]) -> None:
        mean, root = prior
        white = numpyro.sample("white", dist.Normal(0, 1).expand(mean.shape).to_event(1))
        drawn = _unflatten(mean + root @ white, design, settings.preset)
        numpyro.deterministic("parameters", drawn)
        model.observe(design, drawn)

    kernel = NUTS(updating if is_updating else anew, target_accept_prob=settings.target_accept)
    return MCMC(
        kernel,
        num_warmup=settings.n_warmup,
        num_samples=settings.n_draws,
        num_chains=settings.n_chains,
        chain_method="vectorized",
        progress_bar=False,
        jit_model_args=True,
    )


def _run(
    runner: MCMC,
    settings: MediaMixSettings,
    design: Design,
    prior: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Draws, Diagnostics]:
    """Sample; return the draws of all chains and their diagnostics."""
    arrays = Design(*(jnp.asarray(each) for each in design))
    runner.run(jax.random.PRNGKey(settings.seed), arrays, prior, extra_fields=("diverging",))
    chains = {
        name: np.asarray(each, dtype=float)
        for name, each in runner.get_samples(group_by_chain=True)["parameters"].items()
    }
    draws = {name: each.reshape(-1, *each.shape[2:]) for name, each in chains.items()}
    worst = [float(np.max(split_gelman_rubin(each))) for each in chains.values() if each.size]
    least = [float(np.min(effective_sample_size(each))) for each in chains.values() if each.size]
    diverging = np.asarray(runner.get_extra_fields()["diverging"])
    found = Diagnostics(
        largest_r_hat=max(worst),
        least_ess=min(least),
        divergent_share=float(diverging.mean()),
        share_within=_check_predictions(design, draws, settings.seed),
    )
    return draws, found


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
    if series.n_weeks < _LEAST_WEEKS:
        raise ContractError(
            f"a media mix needs at least {_LEAST_WEEKS} whole weeks of media_spend and media_kpi, "
            f"there are {series.n_weeks}"
        )
    for channel, spent in zip(series.channels, series.spend.sum(axis=0), strict=True):
        if not spent > 0:
            raise ContractError(f"channel '{channel}' never spent anything: leave it out")
