"""What all figures share: colours, and the way to bytes."""

import io

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")

BLUE, ORANGE, GREY = "#2f6db5", "#d9822b", "#8a8f98"


def draw_note(text: str) -> Figure:
    """Return a line of text where there is nothing to draw yet."""
    figure = Figure(figsize=(7.5, 0.4))
    figure.text(0.02, 0.4, text, fontsize=9, color=GREY)
    return figure


def render_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
