"""What offers do to groups of protected attributes, as one HTML file.

Reads: nothing. Writes: nothing; it returns text.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl
from jinja2 import Environment
from matplotlib.figure import Figure

from ml.core.programme import Programme
from ml.pipeline.groups import LEAST_CUSTOMERS
from orchestration.page import HEAD, STYLE, Panel

_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    HEAD
    + """\
{% if not protected %}
<p>programme.json declares no attribute protected (<code>is_protected</code>), so there is nothing
to compare.</p>
{% else %}
<p>Protected: {{ protected | join(", ") }}. No model, tree or search sees a protected attribute;
what correlates with one, they do see. So offers may still differ between groups: here is by how
much, and what comes of it.</p>
<p>Decisions of customers that no training saw, valued as each policy would decide them, over no
offer, {{ currency }} per decision, with 95 % intervals clustered by customer. An interval that
holds another group's value proves no difference; many groups are compared, so one of twenty stands
apart by chance.</p>
<img alt="Offers and net value by group" src="data:image/png;base64,{{ panel.image }}">
{% for attribute, rows in tables %}
<h2>{{ attribute }}</h2>
<div><table>
<tr><th>group<th>policy<th>decisions<th>get an offer<th>cost<th>value<th>net value
{% for row in rows %}
<tr><td>{{ row.group }}<td>{{ row.policy }}{{ versions[row.policy] }}
<td class="number">{{ "{:,}".format(row.n_decisions) }}
<td class="number">{{ "%.1f %%" | format(100 * row.offer_share) }}
{% for name in ("cost", "value", "net_value") %}
<td class="number">{{ "%.3f" | format(row[name]) }}
[{{ "%.3f" | format(row[name + "_low"]) }}, {{ "%.3f" | format(row[name + "_high"]) }}]
{% endfor %}
{% endfor %}
</table></div>
{% endfor %}
<h2>Left out</h2>
{% if left_out %}
<p>Groups of fewer than {{ least }} customers: their intervals would be too wide, and their
customers too few to hide among.</p>
<div><table>
<tr><th>attribute<th>group<th>customers
{% for row in left_out %}
<tr><td>{{ row.attribute }}<td>{{ row.group }}<td class="number">{{ row.n_customers }}
{% endfor %}
</table></div>
{% else %}
<p>No group: each has at least {{ least }} customers.</p>
{% endif %}
{% endif %}
</html>
"""
)


def render_fairness(
    values: pl.DataFrame,
    *,
    left_out: pl.DataFrame,
    figure: Figure,
    programme: Programme,
    versions: Mapping[str, str | None],
    day: date,
) -> str:
    """Return the page.

    Parameters
    ----------
    values
        GroupValues rows.
    left_out
        Groups too small to be valued: attribute, group, n_customers.
    figure
        Offers and net value by group.
    programme
        Says what is protected, and the currency.
    versions
        Policy to its registered version.
    day
        Of the evaluation.

    Returns
    -------
    str
        HTML with everything in it.
    """
    ordered = values.sort("attribute", "group", pl.col("policy") != "champion")
    return _TEMPLATE.render(
        title=f"{programme.name}: protected groups, evaluation of {day}",
        style=STYLE,
        protected=[each.name for each in programme.attributes if each.is_protected],
        currency=programme.currency,
        panel=Panel("By group", figure),
        tables=[
            (name, rows.to_dicts())
            for (name,), rows in ordered.group_by("attribute", maintain_order=True)
        ],
        versions={name: f" v{each}" if each else "" for name, each in versions.items()},
        left_out=left_out.to_dicts(),
        least=LEAST_CUSTOMERS,
    )
