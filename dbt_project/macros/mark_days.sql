{# Days on which something happened, as bits: the lowest is the day before the decision. #}
{% macro mark_days(happened_at, decision_at, n_days) -%}
    bit_or(
        cast(1 as bigint) << cast(
            greatest(
                0,
                least({{ n_days - 1 }}, {{ dbt.datediff(happened_at, decision_at, 'day') }} - 1)
            ) as integer
        )
    )
{%- endmacro %}
