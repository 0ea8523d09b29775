"""What drives effects as one HTML file, readable without any server."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from jinja2 import Environment

from orchestration.page import HEAD, STYLE, Panel

_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    HEAD
    + """\
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
"""
)


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
        panels=panels,
        tables={
            name: table for name, table in tables.items() if table is not None and table.height
        },
    )


def name_unit(outcome: str, currency: str) -> str:
    """Return the unit of effects on an outcome, per decision."""
    return {"visits": "visits", "purchase": "purchases"}.get(outcome, currency)


def describe_interactors(found: pl.DataFrame) -> Iterator[str]:
    """Say what was found, a line each: ``Interactors`` rows."""
    for row in found.filter("is_selected").iter_rows(named=True):
        effect = "too few customers to measure it"
        if row["difference"] is not None:
            low, high = row["difference_low"], row["difference_high"]
            effect = f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        yield f"  {row['outcome']:<9} {row['name']:<40} {effect}"
    if found.is_empty():
        yield "  nothing was found: the effect may be the same for everybody"
