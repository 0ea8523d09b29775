"""Casting a delivered column to its contract type, row by row failures kept apart."""

import polars as pl

_TRUE, _FALSE = ("true", "1", "t", "yes"), ("false", "0", "f", "no")
_UNITS = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_YEARS_1_TO_9999 = (-62_135_596_800, 253_402_300_799)
_NUMBER = r"\s*-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\s*"
_TEXT = r'\s*"([^"\\]|\\.)*"\s*'


def cast_column(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return the column in its contract type, null where a value does not fit.

    A value that was present and is null afterwards could not be cast; the caller compares.

    Parameters
    ----------
    column : shape (n,)
        As read from the file.
    dtype
        The contract's Polars type.

    Returns
    -------
    pl.Series
        Shape (n,), of ``dtype``.
    """
    try:
        return _cast(column, dtype)
    # A few types and values make the cast itself fail, or panic, which is not an Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return _all_null(column, dtype)


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if column.dtype == pl.Binary:
        column = _decode(column)
    if isinstance(dtype, pl.String):
        return _to_text(column)
    if column.dtype.is_nested() and not isinstance(dtype, pl.List):
        return _all_null(column, dtype)
    if isinstance(dtype, pl.Boolean):
        return _to_bool(column)
    if isinstance(dtype, pl.Datetime):
        return _to_timestamp(column)
    if isinstance(dtype, pl.Date):
        if column.dtype == pl.String:
            return column.str.to_date("%Y-%m-%d", strict=False)
        return column if column.dtype == pl.Date else _all_null(column, dtype)
    if isinstance(dtype, pl.List):
        return _to_list(column, dtype)
    if column.dtype == pl.String:
        return column.str.strip_chars().cast(dtype, strict=False)
    return (
        column.cast(dtype, strict=False) if column.dtype.is_numeric() else _all_null(column, dtype)
    )


def describe_type(dtype: pl.DataType) -> str:
    """Return what a delivered value must look like, for people."""
    if isinstance(dtype, pl.Datetime):
        return "a timestamp with its time zone, such as 2026-01-05T01:30:00Z"
    if isinstance(dtype, pl.Date):
        return "a date such as 2026-01-05"
    if isinstance(dtype, pl.List):
        return "a list (in CSV a JSON list)"
    if isinstance(dtype, pl.Boolean):
        return "true or false"
    return "text" if isinstance(dtype, pl.String) else "a number"


def _all_null(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(column.name, [None], dtype=dtype).new_from_index(0, len(column))


def _decode(column: pl.Series) -> pl.Series:
    """Return bytes as text, as some writers store it; null if a value is not UTF-8."""
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        return _all_null(column, pl.String())


def _to_text(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Struct):
        return column.struct.json_encode()
    if column.dtype.is_nested():
        return _all_null(column, pl.String())
    return column.cast(pl.String)


def _to_bool(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    text = column.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
    return text.replace_strict(
        {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)},
        default=None,
        return_dtype=pl.Boolean,
    )


def _to_timestamp(column: pl.Series) -> pl.Series:
    """Accept only timestamps that carry a time zone: a naive one can mean any hour."""
    target = pl.Datetime("us", "UTC")
    if column.dtype == pl.String:
        return column.str.to_datetime("%+", strict=False, time_zone="UTC", time_unit="us")
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        per_second = _UNITS[column.dtype.time_unit]
        seconds = column.to_physical() // per_second
        # Beyond these years are markers such as infinity, and what arithmetic overflows on.
        sound = column.to_frame("at").select(
            pl.when(seconds.is_between(*_YEARS_1_TO_9999)).then("at")
        )
        return sound["at"].dt.convert_time_zone("UTC").cast(target)
    return _all_null(column, target)


def _to_list(column: pl.Series, dtype: pl.List) -> pl.Series:
    if isinstance(column.dtype, pl.List):
        inner = column.dtype.inner
        is_number = isinstance(dtype.inner, pl.Float64)
        fits = inner.is_numeric() if is_number else inner == pl.String
        is_castable = fits or inner == pl.Null
        return column.cast(dtype, strict=False) if is_castable else _all_null(column, dtype)
    if column.dtype != pl.String:
        return _all_null(column, dtype)
    entry = _TEXT if dtype.inner == pl.String else _NUMBER
    is_list = column.str.contains(rf"^\s*\[({entry}(,{entry})*)?\s*\]\s*$")
    texts = column.to_frame("text").select(pl.when(is_list).then("text")).to_series()
    return texts.str.json_decode(dtype)
