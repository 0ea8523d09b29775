"""The visible layer: one-hot groups, flags and standardised numbers, in this order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch

from ml.core.errors import ModelError
from ml.world_model.chance import Chance

Kind = Literal["one_hot", "flag", "number"]
_ORDER: tuple[Kind, ...] = ("one_hot", "flag", "number")
_WIDE = 60.0
_SMALLEST_SHARE = 1e-4


@dataclass(frozen=True)
class Group:
    """Units that stand for one feature; ``labels`` name a one-hot's categories."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.labels) if self.kind == "one_hot" else 1


@dataclass(frozen=True)
class Layout:
    """The groups of a visible layer of V units.

    Raises
    ------
    ModelError
        If one-hots don't come before flags, or flags before numbers.
    """

    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        kinds = [_ORDER.index(group.kind) for group in self.groups]
        if kinds != sorted(kinds):
            raise ModelError("a visible layer has one-hot groups first, then flags, then numbers")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Unit names, a one-hot's 'group=label'."""
        return tuple(
            f"{group.name}={label}" if label else group.name
            for group in self.groups
            for label in (group.labels or ("",))
        )

    @property
    def n_units(self) -> int:
        """V."""
        return len(self.names)

    @cached_property
    def one_hots(self) -> tuple[slice, ...]:
        """Columns of each one-hot group."""
        found, start = [], 0
        for group in self.groups:
            if group.kind == "one_hot":
                found.append(slice(start, start + group.size))
            start += group.size
        return tuple(found)

    @cached_property
    def flags(self) -> slice:
        """Columns of flags."""
        start = self.one_hots[-1].stop if self.one_hots else 0
        return slice(start, start + sum(group.kind == "flag" for group in self.groups))

    @property
    def numbers(self) -> slice:
        """Columns of numbers."""
        return slice(self.flags.stop, self.n_units)

    def columns(self, name: str) -> slice:
        """Return the columns of a group.

        Raises
        ------
        ModelError
            If there is none of that name.
        """
        start = 0
        for group in self.groups:
            if group.name == name:
                return slice(start, start + group.size)
            start += group.size
        raise ModelError(f"the visible layer has no group {name!r}")

    def as_flags(self) -> "Layout":
        """Return the layout with every one-hot's unit a flag of its own, as published."""
        flags = [
            Group(f"{group.name}={label}", "flag")
            for group in self.groups
            if group.kind == "one_hot"
            for label in group.labels
        ]
        rest = [group for group in self.groups if group.kind != "one_hot"]
        return Layout((*flags, *rest))

    def to_json(self) -> list[dict[str, Any]]:
        """Return what ``read_layout`` reads."""
        return [
            {"name": group.name, "kind": group.kind, "labels": list(group.labels)}
            for group in self.groups
        ]


def read_layout(groups: Sequence[Mapping[str, Any]]) -> Layout:
    """Return the layout that ``Layout.to_json`` wrote.

    Parameters
    ----------
    groups
        One mapping per group.

    Returns
    -------
    Layout
        The same.
    """
    return Layout(
        tuple(Group(each["name"], each["kind"], tuple(each["labels"])) for each in groups)
    )


def expect_visible(layout: Layout, field: torch.Tensor) -> torch.Tensor:
    """Return the means of visible units given their fields.

    Parameters
    ----------
    layout
        Of V units.
    field : shape (n, V)
        Bias plus what the first hidden layer adds.

    Returns
    -------
    torch.Tensor
        Shape (n, V): softmax in a one-hot, sigmoid of a flag, the field itself of a number.
    """
    mean = torch.empty_like(field)
    for columns in layout.one_hots:
        mean[:, columns] = torch.softmax(field[:, columns], dim=1)
    torch.sigmoid(field[:, layout.flags], out=mean[:, layout.flags])
    mean[:, layout.numbers] = field[:, layout.numbers]
    return mean


def sum_out_visible(layout: Layout, field: torch.Tensor) -> torch.Tensor:
    """Return the log of the sum over all visible states of exp(v'field - |numbers|^2 / 2).

    Parameters
    ----------
    layout
        Of V units.
    field : shape (n, V)
        Natural parameters.

    Returns
    -------
    torch.Tensor
        Shape (n,), nats.
    """
    total = torch.nn.functional.softplus(field[:, layout.flags]).sum(dim=1)
    for columns in layout.one_hots:
        total += torch.logsumexp(field[:, columns], dim=1)
    numbers = field[:, layout.numbers]
    n_numbers = numbers.shape[1]
    return total + 0.5 * (numbers**2).sum(dim=1) + 0.5 * n_numbers * math.log(2 * math.pi)


def fit_biases(layout: Layout, mean: torch.Tensor) -> torch.Tensor:
    """Return the biases of units that depend on nothing, given their means.

    Parameters
    ----------
    layout
        Of V units.
    mean : shape (V,)
        Of the data; shares below 1e-4 or above 1 - 1e-4 are moved there.

    Returns
    -------
    torch.Tensor
        Shape (V,): log shares, log-odds, means.
    """
    bias = mean.clone()
    for columns in layout.one_hots:
        share = mean[columns].clamp_min(_SMALLEST_SHARE)
        bias[columns] = torch.log(share / share.sum())
    bias[layout.flags] = torch.logit(mean[layout.flags], eps=_SMALLEST_SHARE)
    return bias


def draw_visible(layout: Layout, field: torch.Tensor, chance: Chance) -> torch.Tensor:
    """Draw visible units given their fields.

    Parameters
    ----------
    layout
        Of V units.
    field : shape (n, V)
        Natural parameters.
    chance
        Of the draws.

    Returns
    -------
    torch.Tensor
        Shape (n, V).
    """
    drawn = torch.zeros_like(field)
    if layout.one_hots:
        _draw_one_hots(layout, field, drawn, chance)
    flags = field[:, layout.flags]
    if flags.shape[1]:
        drawn[:, layout.flags] = draw_flags(flags, chance)
    numbers = field[:, layout.numbers]
    if numbers.shape[1]:
        drawn[:, layout.numbers] = numbers + torch.randn(
            numbers.shape, generator=chance.generator, dtype=field.dtype, device=field.device
        )
    return drawn


def draw_flags(field: torch.Tensor, chance: Chance) -> torch.Tensor:
    """Draw binary units given their fields, shape (n, units); as floating-point 0 and 1."""
    uniform = chance.uniforms(len(field), field.shape[1], field)
    return torch.lt(uniform, torch.sigmoid(field), out=uniform)


def _draw_one_hots(
    layout: Layout, field: torch.Tensor, drawn: torch.Tensor, chance: Chance
) -> None:
    """Write one category per group, by the inverse distribution function of all groups at once."""
    running, ends, group_of, start, last = _list_groups(layout, field.dtype, field.device)
    fields = field[:, : layout.flags.start]
    least, most = torch.aminmax(fields)
    if float(most - least) < _WIDE:
        weight = torch.exp(fields - most)
    else:
        # A shared scale would let whole groups vanish.
        weight = torch.cat([torch.softmax(field[:, each], 1) for each in layout.one_hots], dim=1)
    summed = weight @ running
    threshold = chance.uniforms(len(field), len(start), field)
    threshold = threshold.mul_(summed.index_select(1, last)).index_select(1, group_of)
    is_passed = torch.le(summed, threshold, out=threshold)
    passed = (is_passed @ ends).to(torch.int64)
    drawn.scatter_(1, torch.minimum(passed.add_(start), last), 1.0)


@cache
def _list_groups(
    layout: Layout, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Return what draws of one-hots need.

    The matrix of running sums within groups, its columns of whole groups; each column's group; the
    groups' first and last columns.
    """
    running = torch.zeros(layout.flags.start, layout.flags.start, dtype=dtype)
    for columns in layout.one_hots:
        size = columns.stop - columns.start
        running[columns, columns] = torch.ones(size, size, dtype=dtype).triu()
    start = torch.tensor([each.start for each in layout.one_hots])
    last = torch.tensor([each.stop - 1 for each in layout.one_hots])
    group_of = torch.repeat_interleave(torch.arange(len(start)), last - start + 1)
    found = (running, running[:, last].contiguous(), group_of, start, last)
    return tuple(each.to(device) for each in found)
