"""What drives effects as one HTML file, readable without any server."""

import base64
from collections.abc import Mapping, Sequence

import polars as pl
from jinja2 import Environment

from ml.plots.drawing import render_png
from orchestration.page import STYLE, Panel

_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style }}
div { overflow-x: auto }
</style>
<h1>{{ title }}</h1>
{% for line in standing %}
<p>{{ line }}</p>
{% endfor %}
{% for panel in panels %}
<h2>{{ panel.title }}</h2>
<img alt="{{ panel.title }}" src="data:image/png;base64,{{ panel.image }}">
{% endfor %}
{% for name, table in tables.items() %}
<h2>{{ name }}</h2>
<div><table>
<tr>{% for column in table.columns %}<th>{{ column.replace("_", " ") }}{% endfor %}

{% for row in table.rows() %}
<tr>{% for cell in row %}<td{% if cell is number %} class="number"{% endif %}>
{%- if cell is float %}{{ "%.3f" | format(cell) }}{% elif cell is not none %}{{ cell }}{% endif %}
{% endfor %}

{% endfor %}
</table></div>
{% endfor %}
</html>
""")


def render_interactors(
    *,
    title: str,
    standing: Sequence[str],
    panels: Sequence[Panel],
    tables: Mapping[str, pl.DataFrame | None],
) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Heading.
    standing
        What was done and may be said, a line each.
    panels
        Figures, embedded.
    tables
        By heading; empty ones are left out.

    Returns
    -------
    str
        HTML with everything in it.
    """
    return _TEMPLATE.render(
        title=title,
        style=STYLE,
        standing=standing,
        panels=[
            {"title": each.title, "image": base64.b64encode(render_png(each.figure)).decode()}
            for each in panels
        ],
        tables={
            name: table for name, table in tables.items() if table is not None and table.height
        },
    )
