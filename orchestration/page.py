"""The night as one HTML file, readable without any server."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from jinja2 import Environment
from matplotlib.figure import Figure

from ml.plots.drawing import render_png

STYLE = """\
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
h3 { font-size: .95rem; font-weight: 600; margin: 1.4rem 0 .3rem }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .85rem; margin: 1rem 0 }
pre { background: #f6f7f9; padding: 1rem; overflow-x: auto; font-size: .8rem }
table { border-collapse: collapse; font-size: .85rem }
td, th { padding: .15rem .8rem .15rem 0; text-align: left } td.number { text-align: right }
.alarm { color: #b3261e; font-weight: 600 } .calm { color: #2e7d32; font-weight: 600 }
img { max-width: 100%; height: auto } div { overflow-x: auto }
@media (max-width: 40rem) { div > img { max-width: none; width: 40rem } }
"""
HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style }}
</style>
<h1>{{ title }}</h1>
"""
"""What every page begins with: ``title`` and ``style`` go in."""

_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    HEAD
    + """\
{% if alarms %}
<p class="alarm">{{ alarms | length }} of {{ signals | length }} signals alarm</p>
{% else %}
<p class="calm">None of {{ signals | length }} signals alarms</p>
{% endif %}
{% for line in standing %}
<p>{{ line }}</p>
{% endfor %}
<nav>
{% for section in sections %}
<a href="#{{ section.anchor }}">{{ section.title }}</a>
{% endfor %}
<a href="#signals">Signals</a> <a href="#words">In words</a>
</nav>
{% for section in sections %}
<h2 id="{{ section.anchor }}">{{ section.title }}</h2>
{% if section.note %}
<p>{{ section.note }}</p>
{% endif %}
{% for panel in section.panels %}
<h3>{{ panel.title }}</h3>
<div><img alt="{{ panel.title }}" src="data:image/png;base64,{{ panel.image }}"></div>
{% endfor %}
{% if section.link %}
<p><a href="{{ section.link[0] }}">{{ section.link[1] }}</a></p>
{% endif %}
{% endfor %}
<h2 id="signals">Signals</h2>
<div><table>
<tr><th>signal<th>of<th>statistic<th>limit<th>rows
{% for row in alarms + calm %}
<tr{% if row.is_alarm %} class="alarm"{% endif %}><td>{{ row.signal }}<td>{{ row.subject }}
<td class="number">{{ "%.3f" | format(row.statistic) }}
<td class="number">{{ "%.3f" | format(row.limit) }}
<td class="number">{{ "{:,}".format(row.n_rows) }}
{% endfor %}
</table></div>
<h2 id="words">In words</h2>
<pre>{{ summary }}</pre>
</html>
"""
)


@dataclass(frozen=True)
class Panel:
    """A titled figure."""

    title: str
    figure: Figure

    @property
    def image(self) -> str:
        """The figure as base64 of a PNG."""
        return base64.b64encode(render_png(self.figure)).decode()


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures on one question, a sentence before them and a link behind."""

    title: str
    panels: Sequence[Panel]
    note: str = ""
    link: tuple[str, str] | None = None

    @property
    def anchor(self) -> str:
        """What the page's list of sections leads to."""
        return self.title.lower().replace(" ", "-")


def render_page(
    *,
    title: str,
    standing: Sequence[str],
    summary: str,
    signals: pl.DataFrame,
    sections: Sequence[Section],
) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Heading.
    standing
        Who decides, a line each.
    summary
        The night in words.
    signals
        Monitoring rows; alarms are shown first.
    sections
        Figures, embedded.

    Returns
    -------
    str
        HTML with everything in it.
    """
    rows = signals.to_dicts()
    return _TEMPLATE.render(
        title=title,
        style=STYLE,
        standing=standing,
        summary=summary,
        signals=rows,
        alarms=[row for row in rows if row["is_alarm"]],
        calm=[row for row in rows if not row["is_alarm"]],
        sections=sections,
    )
