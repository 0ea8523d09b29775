{# The dates from start to end, one row each, as portable SQL. #}
{% macro list_dates(start_date, end_date) -%}
    {%- set first = modules.datetime.date.fromisoformat(start_date) -%}
    {%- set last = modules.datetime.date.fromisoformat(end_date) -%}
    {%- for offset in range((last - first).days + 1) -%}
        {%- set day = first + modules.datetime.timedelta(days=offset) -%}
        select cast('{{ day }}' as date) as decision_date
        {%- if not loop.last %} union all {% endif -%}
    {%- endfor -%}
{%- endmacro %}

{# A date literal some days before another. #}
{% macro days_before(day, n_days) -%}
    {%- set earlier = (
        modules.datetime.date.fromisoformat(day) - modules.datetime.timedelta(days=n_days)
    ) -%}
    cast('{{ earlier }}' as date)
{%- endmacro %}
