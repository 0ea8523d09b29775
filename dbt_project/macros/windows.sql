{# Delete what a run is about to write again, in the same transaction. #}
{% macro replace_rows(condition) -%}
    {%- if is_incremental() -%}
        delete from {{ this }} where {{ condition }}
    {%- else -%}
        select 1
    {%- endif -%}
{%- endmacro %}

{# Days after a decision at which its books are closed: later arrivals change nothing. #}
{% macro closing_days() -%}
    {{ return(var('accounting_horizon_days') + 7) }}
{%- endmacro %}

{# Rows whose delivery or outcomes this run may change. #}
{% macro touched_decisions() -%}
    delivered_date between cast('{{ var("start_date") }}' as date)
        and cast('{{ var("end_date") }}' as date)
    or decision_date between {{ days_before(var("start_date"), closing_days() + 1) }}
        and cast('{{ var("end_date") }}' as date)
{%- endmacro %}
