{# What differs between DuckDB and Spark; everything else is one SQL. #}

{# A raw table of the lake: DuckDB's by its external location, Spark's by its folder. #}
{% macro source(source_name, name) -%}
    {%- set relation = builtins.source(source_name, name) -%}
    {%- if target.type == 'spark' -%}
        {{ return('parquet.`' ~ env_var('LIFTLOOP_LAKE', 'lake') ~ '/raw_' ~ name ~ '`') }}
    {%- endif -%}
    {{ return(relation) }}
{%- endmacro %}

{# Texts of a group, in order, with commas between. #}
{% macro join_texts(column) -%}
    {%- if target.type == 'spark' -%}
        array_join(sort_array(collect_list({{ column }})), ',')
    {%- else -%}
        string_agg({{ column }}, ',' order by {{ column }})
    {%- endif -%}
{%- endmacro %}

{# The sum of a list of numbers. #}
{% macro sum_list(column) -%}
    {%- if target.type == 'spark' -%}
        aggregate({{ column }}, cast(0 as double), (total, each) -> total + each)
    {%- else -%}
        list_sum({{ column }})
    {%- endif -%}
{%- endmacro %}
