"""Descriptions, figures and small tables as the Dagster UI shows them."""

import base64
from inspect import cleandoc

import dagster as dg
import dataframely as dy
import polars as pl
from matplotlib.figure import Figure

from ml.plots.drawing import render_png


def explain(schema: type[dy.Schema]) -> str:
    """Return what a table holds, as Markdown, from its schema's docstring."""
    return cleandoc(schema.__doc__ or "").replace("``", "`")


def embed_figure(figure: Figure) -> dg.MarkdownMetadataValue:
    """Return a figure as an image that the Dagster UI shows."""
    encoded = base64.b64encode(render_png(figure)).decode()
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{encoded})")


def tabulate(frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Return a small table as Markdown, floats to three digits, nothing where nothing is known."""
    shown = frame.with_columns(pl.selectors.float().round(3))
    header = " | ".join(shown.columns)
    ruler = " | ".join("---" for _ in shown.columns)
    rows = [
        " | ".join("" if cell is None else str(cell) for cell in row) for row in shown.iter_rows()
    ]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in [header, ruler, *rows]))
