{# Whether a decision or action is this programme's; without a declared surface all are. #}
{% macro is_own_surface(column) -%}
    {%- if var('surface') -%}
        coalesce({{ column }} = '{{ var("surface") }}', false)
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
