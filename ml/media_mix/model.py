"""The media-mix model: geometric carry-over, Hill saturation, trend, season, controls.

kpi_t = base_t + sum_c beta_c Hill(carry-over(spend_c)_t) + e_t, with

    carry-over(x)_t = sum_l kept^l x_{t-l} / sum_l kept^l,  l = 0 .. 13 weeks
    Hill(z)         = z^slope / (z^slope + half^slope)

(Jin et al. 2017; return-on-investment priors as in Google's Meridian). Spend is divided by the
channel's median non-zero week, the KPI centred and divided by its standard deviation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.nn import sigmoid

from ml.media_mix.series import LiftTest, MediaSeries

Preset = Literal["ours", "paper"]
Parameters = dict[str, Array]
AnyArray = Array | np.ndarray

CHANNEL_SITES = ("kept", "half", "slope", "beta")
_LAGS = 14
_YEAR = 365.25 / 7
_LEAST = 1e-9


@dataclass(frozen=True)
class Scales:
    """What series are measured in.

    ``kpi_mean`` and ``kpi_sd``, currency; ``spend``, shape (C,), currency; ``control_mean`` and
    ``control_sd``, shape (R,).
    """

    kpi_mean: float
    kpi_sd: float
    spend: np.ndarray
    control_mean: np.ndarray
    control_sd: np.ndarray


class Design(NamedTuple):
    """A series as the model sees it.

    ``lagged``, shape (T, L, C), is scaled spend l weeks before; ``base``, shape (T, R), trend,
    season and controls; ``kpi``, shape (T,), scaled; ``is_seen``, shape (T,), which weeks'
    KPI counts; ``total``, shape (C,), the channel's spend over all weeks in units of the KPI's
    standard deviation. Of J lift tests: ``test_channel``
    (J,), ``test_without`` (J, T, L), the channel's lagged spend without the test's share,
    ``test_measured`` (J, T), ``test_lift`` and ``test_error`` (J,), in the KPI's standard
    deviations.
    """

    lagged: AnyArray
    base: AnyArray
    kpi: AnyArray
    is_seen: AnyArray
    total: AnyArray
    test_channel: AnyArray
    test_without: AnyArray
    test_measured: AnyArray
    test_lift: AnyArray
    test_error: AnyArray


def choose_scales(series: MediaSeries, *, preset: Preset) -> Scales:
    """Return a series' scales; the paper's preset takes the largest week as a spend's unit."""
    spent = np.where(series.spend > 0, series.spend, np.nan)
    largest, median = np.nanmax(spent, axis=0), np.nanmedian(spent, axis=0)
    return Scales(
        float(series.kpi.mean()),
        float(series.kpi.std()) or 1.0,
        largest if preset == "paper" else median,
        series.controls.mean(axis=0),
        np.where(series.controls.std(axis=0) > 0, series.controls.std(axis=0), 1.0),
    )


def make_design(
    series: MediaSeries,
    scales: Scales,
    *,
    tests: Sequence[LiftTest] = (),
    n_harmonics: int,
    seen_from: int = 0,
) -> Design:
    """Return the model's arrays.

    Parameters
    ----------
    series, scales
        Of the company.
    tests
        Lift tests; their weeks are the series'.
    n_harmonics
        Pairs of sine and cosine of the year.
    seen_from
        The KPI of earlier weeks doesn't count, their spend is carried over.

    Returns
    -------
    Design
        Float64; JAX makes single precision of it.
    """
    scaled = series.spend / scales.spend
    time = np.arange(series.n_weeks) / _YEAR
    angle = 2 * np.pi * np.arange(1, n_harmonics + 1) * _fraction_of_year(series)[:, None]
    controls = (series.controls - scales.control_mean) / scales.control_sd
    channels = [series.channels.index(each.channel) for each in tests]
    without = [
        lag_weeks(scaled[:, [channel]] * (1 - test.share * test.weeks[:, None]))[:, :, 0]
        for channel, test in zip(channels, tests, strict=True)
    ]
    return Design(
        lagged=lag_weeks(scaled),
        base=np.column_stack([time, np.sin(angle), np.cos(angle), controls]),
        kpi=(series.kpi - scales.kpi_mean) / scales.kpi_sd,
        is_seen=np.arange(series.n_weeks) >= seen_from,
        total=series.spend.sum(axis=0) / scales.kpi_sd,
        test_channel=np.array(channels, dtype=int),
        test_without=np.array(without).reshape(len(tests), series.n_weeks, _LAGS),
        test_measured=np.array([each.measured for each in tests], dtype=float).reshape(
            len(tests), series.n_weeks
        ),
        test_lift=np.array([each.lift for each in tests]) / scales.kpi_sd,
        test_error=np.array([each.standard_error for each in tests]) / scales.kpi_sd,
    )


def lag_weeks(spend: np.ndarray) -> np.ndarray:
    """Return spend l weeks before, 0 before the first: (T, C) to (T, L, C)."""
    return np.stack(
        [np.pad(spend, ((lag, 0), (0, 0)))[: len(spend)] for lag in range(_LAGS)], axis=1
    )


def saturate(lagged: AnyArray, kept: AnyArray, half: AnyArray, slope: AnyArray) -> Array:
    """Return Hill of the carry-over: (T, L, C) lagged spend and (C,) parameters to (T, C)."""
    weight = kept ** jnp.arange(_LAGS)[:, None]  # (L, C)
    stock = jnp.einsum("tlc,lc->tc", lagged, weight / weight.sum(axis=0))
    return sigmoid(slope * (jnp.log(stock + _LEAST) - jnp.log(half)))


def draw_priors(design: Design, preset: Preset) -> Parameters:
    """Draw parameters from the preset's priors, as NumPyro's sites.

    'ours': kept ~ Beta(2, 2), half ~ Normal(.8, .8) in [.1, 10], slope ~ LogNormal(.3, .4),
    return on investment ~ LogNormal(.2, .9), which beta is derived from.
    'paper': (a, b) ~ Gamma(3, 2), Beta(2, 2) read as slope and half-saturation at spend in
    [0, 1], beta ~ Normal(5, 3), which permits harm, kept ~ Beta(2, 2).
    """
    n_channels, n_base = design.lagged.shape[2], design.base.shape[1]
    drawn = {
        "intercept": numpyro.sample("intercept", dist.Normal(0, 2)),
        "base": numpyro.sample("base", dist.Normal(0, 1).expand([n_base]).to_event(1)),
        "sigma": numpyro.sample("sigma", dist.HalfNormal(1)),
    }

    def sample(name: str, prior: dist.Distribution) -> Array:
        return numpyro.sample(name, prior.expand([n_channels]).to_event(1))

    drawn["kept"] = sample("kept", dist.Beta(2, 2))
    if preset == "paper":
        drawn["slope"] = sample("slope", dist.Gamma(3, 2))
        drawn["half"] = sample("half", dist.Beta(2, 2))
        drawn["beta"] = sample("beta", dist.Normal(5, 3))
        return drawn
    drawn["half"] = sample("half", dist.TruncatedNormal(0.8, 0.8, low=0.1, high=10))
    drawn["slope"] = sample("slope", dist.LogNormal(0.3, 0.4))
    drawn["roi"] = sample("roi", dist.LogNormal(0.2, 0.9))
    return drawn


def derive_beta(design: Design, drawn: Parameters) -> Parameters:
    """Return parameters with beta = return x spend / summed saturation, if returns were drawn."""
    if "beta" in drawn:
        return drawn
    shape = saturate(design.lagged, drawn["kept"], drawn["half"], drawn["slope"])
    return {**drawn, "beta": drawn["roi"] * design.total / (shape.sum(axis=0) + _LEAST)}


def observe(design: Design, parameters: Parameters) -> None:
    """Condition on the seen weeks' KPI and on the lift tests, as NumPyro's sites."""
    expected = expect_kpi(design, parameters)
    with numpyro.handlers.mask(mask=design.is_seen):
        numpyro.sample("kpi", dist.Normal(expected, parameters["sigma"]), obs=design.kpi)
    if len(design.test_lift):
        lift = expect_lifts(design, parameters)
        numpyro.sample("lift", dist.Normal(lift, design.test_error), obs=design.test_lift)


def expect_contributions(design: Design, parameters: Parameters) -> Array:
    """Return what each channel adds, shape (T, C), in the KPI's standard deviations."""
    shape = saturate(design.lagged, parameters["kept"], parameters["half"], parameters["slope"])
    return shape * parameters["beta"]


def expect_base(design: Design, parameters: Parameters) -> Array:
    """Return the KPI without any spend, shape (T,), scaled."""
    return parameters["intercept"] + design.base @ parameters["base"]


def expect_kpi(design: Design, parameters: Parameters) -> Array:
    """Return the expected KPI, shape (T,), scaled."""
    contributions = expect_contributions(design, parameters)
    return expect_base(design, parameters) + contributions.sum(axis=1)


def expect_lifts(design: Design, parameters: Parameters) -> Array:
    """Return each lift test's expected result, shape (J,), in the KPI's standard deviations."""
    of = {name: parameters[name][design.test_channel] for name in CHANNEL_SITES}  # (J,)
    with_spend, without = (
        saturate(each, of["kept"], of["half"], of["slope"]) * of["beta"]
        for each in (
            jnp.asarray(design.lagged)[:, :, design.test_channel],
            jnp.moveaxis(jnp.asarray(design.test_without), 0, 2),
        )
    )  # (T, J)
    return jnp.einsum("tj,jt->j", with_spend - without, design.test_measured)


OfDesign = Callable[[Design, Parameters], Array]


def over_draws(compute: OfDesign, design: Design, draws: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return ``compute`` of the design for every draw, float64; compiled once for each shape."""
    arrays = Design(*(jnp.asarray(each) for each in design))
    one_by_one = {name: jnp.asarray(each) for name, each in draws.items()}
    return np.asarray(_map_draws(compute, arrays, one_by_one), dtype=float)


@partial(jax.jit, static_argnames="compute")
def _map_draws(compute: OfDesign, design: Design, draws: Parameters) -> Array:
    return jax.lax.map(lambda one: compute(design, one), draws, batch_size=400)


def _fraction_of_year(series: MediaSeries) -> np.ndarray:
    return np.array([each.timetuple().tm_yday / 365.25 for each in series.weeks])
