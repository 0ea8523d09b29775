{#
    The lifecycle, in its only place:
    activation    signed up less than activation_days ago;
    resurrection  else, no purchase within inactivity_days (or none known);
    habituation   else.
#}
{% macro assign_lifecycle(tenure_days, days_since_purchase) -%}
    case
        when {{ tenure_days }} < {{ var('activation_days') }} then 'activation'
        when coalesce({{ days_since_purchase }}, {{ var('inactivity_days') }} + 1)
            > {{ var('inactivity_days') }} then 'resurrection'
        else 'habituation'
    end
{%- endmacro %}
