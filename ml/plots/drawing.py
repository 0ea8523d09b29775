"""What all figures share: colours, and the way to bytes."""

import io

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")

BLUE, ORANGE, GREY = "#2f6db5", "#d9822b", "#8a8f98"


def render_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
