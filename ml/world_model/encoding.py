"""From rows of customer_days to visible units: categories, binned numbers, days that happened."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from ml.core.errors import ModelError
from ml.world_model.visible import Group, Layout

Kind = Literal["category", "number", "days"]
_BINS, _FEWEST = 5, 20
_SINGLE_DAYS, _WEEK = 4, 7
OTHER, UNKNOWN = "other", "unknown"


@dataclass(frozen=True)
class Column:
    """One column of the rows, and how it becomes units.

    A category has its frequent ``levels`` and what is other; a number the bins between its
    ``cuts``, and one for unknown; ``days`` are bits, the lowest yesterday, of which the last four
    and each of ``n_weeks`` weeks become flags.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    cuts: tuple[float, ...] = ()
    n_weeks: int = 0

    def group(self) -> list[Group]:
        """Return the visible groups."""
        if self.kind == "category":
            return [Group(self.name, "one_hot", (*self.levels, OTHER))]
        if self.kind == "number":
            edges = [f"{cut:g}" for cut in self.cuts]
            labels = [f"up to {edge}" for edge in edges]
            labels.append(f"above {edges[-1]}" if edges else "any")
            return [Group(self.name, "one_hot", (*labels, UNKNOWN))]
        days = [Group(f"{self.name}_day_{day}", "flag") for day in range(1, _SINGLE_DAYS + 1)]
        weeks = [Group(f"{self.name}_week_{week}", "flag") for week in range(1, self.n_weeks + 1)]
        return days + weeks

    def encode(self, values: pl.Series) -> np.ndarray:
        """Return the units of each row, shape (n, units), uint8."""
        if self.kind == "days":
            bits = values.fill_null(0).cast(pl.Int64).to_numpy()
            masks = [1 << day for day in range(_SINGLE_DAYS)]
            masks += [((1 << _WEEK) - 1) << (_WEEK * week) for week in range(self.n_weeks)]
            return ((bits[:, None] & np.array(masks, dtype=np.int64)) != 0).astype(np.uint8)
        if self.kind == "number":
            parsed = values.cast(pl.Float64, strict=False).fill_nan(None)
            known = parsed.is_not_null().to_numpy()
            numbers = parsed.fill_null(0.0).to_numpy()
            place = np.searchsorted(np.array(self.cuts), numbers, side="left")
            place = np.where(known, place, len(self.cuts) + 1)
            return np.eye(len(self.cuts) + 2, dtype=np.uint8)[place]
        known_levels = list(self.levels)
        place = (
            values.cast(pl.String)
            .replace_strict(
                known_levels,
                range(len(known_levels)),
                default=len(known_levels),
                return_dtype=pl.Int64,
            )
            .fill_null(len(known_levels))
            .to_numpy()
        )
        return np.eye(len(known_levels) + 1, dtype=np.uint8)[place]


@dataclass(frozen=True)
class Encoder:
    """The columns of a visible layer, one-hots before flags."""

    columns: tuple[Column, ...]

    @cached_property
    def layout(self) -> Layout:
        """The visible layer."""
        return Layout(tuple(group for column in self.columns for group in column.group()))

    def encode(self, rows: pl.DataFrame) -> np.ndarray:
        """Return visible units of rows, shape (n, V), uint8.

        Raises
        ------
        ModelError
            If a column is missing.
        """
        missing = [each.name for each in self.columns if each.name not in rows.columns]
        if missing:
            raise ModelError(f"customer_days lack {missing}, which the world model was trained on")
        return np.concatenate([column.encode(rows[column.name]) for column in self.columns], axis=1)

    def to_json(self) -> list[dict[str, Any]]:
        """Return what ``read_encoder`` reads."""
        return [asdict(column) for column in self.columns]


def read_encoder(described: Sequence[Mapping[str, Any]]) -> Encoder:
    """Return the encoder that ``Encoder.to_json`` described."""
    return Encoder(
        tuple(
            Column(
                each["name"],
                each["kind"],
                tuple(each["levels"]),
                tuple(each["cuts"]),
                each["n_weeks"],
            )
            for each in described
        )
    )


def fit_encoder(
    rows: pl.DataFrame,
    *,
    categories: Sequence[str],
    numbers: Sequence[str],
    days: Mapping[str, int],
) -> Encoder:
    """Fit levels and cuts to rows.

    Parameters
    ----------
    rows
        To train on.
    categories, numbers
        Column names. A level with fewer than 20 rows counts as other; a number is cut at its
        fifths, at fewer places where many rows are alike.
    days
        Columns of bits to the weeks that they reach back.

    Returns
    -------
    Encoder
        Columns that never vary are left out.

    Raises
    ------
    ModelError
        If nothing varies.
    """
    columns = []
    for name in categories:
        counts = (
            rows[name]
            .cast(pl.String)
            .drop_nulls()
            .value_counts()
            .filter(pl.col("count") >= _FEWEST)
        )
        levels = tuple(sorted(counts[name]))
        if len(levels) > 1 or (levels and counts["count"].sum() < rows.height):
            columns.append(Column(name, "category", levels=levels))
    for name in numbers:
        known = rows[name].cast(pl.Float64, strict=False).fill_nan(None).drop_nulls()
        if known.is_empty():
            continue
        shares = [part / _BINS for part in range(1, _BINS)]
        cuts = sorted({float(known.quantile(share) or 0.0) for share in shares})
        top = float(known.to_numpy().max())
        cuts = [cut for cut in cuts if cut < top]
        if cuts or len(known) < rows.height:
            columns.append(Column(name, "number", cuts=tuple(cuts)))
    columns += [
        Column(name, "days", n_weeks=n_weeks)
        for name, n_weeks in days.items()
        if (rows[name].fill_null(0) != 0).any()
    ]
    if not columns:
        raise ModelError("nothing varies in these customer-days: there is nothing to learn")
    return Encoder(tuple(columns))
