with spine as (

    select * from {{ ref('int_decision_spine') }}

),

events as (

    select * from {{ ref('stg_events') }}

),

-- Both clocks: it had happened, and we knew, strictly before the decision date.
past_events as (

    select
        spine.customer_id,
        spine.decision_date,
        spine.decision_at,
        events.event_type,
        events.occurred_at,
        events.amount
    from spine
    inner join events
        on
            spine.customer_id = events.customer_id
            and events.occurred_at < spine.decision_at
            and events.available_at < spine.decision_at
            and events.delivered_date <= spine.decision_date
            and events.occurred_at
            >= {{ dbt.dateadd('day', -1 * var('feature_lookback_days'), 'spine.decision_at') }}

)

select
    customer_id,
    decision_date,
    max(occurred_at) filter (where event_type = 'visit') as last_visit_at,
    max(occurred_at) filter (where event_type = 'purchase') as last_purchase_at,
    {%- for days in (7, 28, 90) %}
    {%- set in_window = 'occurred_at >= ' ~ dbt.dateadd('day', -days, 'decision_at') %}
    count(*) filter (where event_type = 'visit' and {{ in_window }}) as visits_{{ days }}d,
    count(*) filter (where event_type = 'purchase' and {{ in_window }}) as purchases_{{ days }}d,
    sum(amount) filter (where event_type = 'purchase' and {{ in_window }}) as spend_{{ days }}d,
    {%- endfor %}
    count(*) filter (
        where event_type = 'redemption'
        and occurred_at >= {{ dbt.dateadd('day', -28, 'decision_at') }}
    ) as redemptions_28d,
    {%- for event_type in ('visit', 'purchase', 'redemption') %}
    {{ mark_days('occurred_at', 'decision_at', 49) }} filter (
        where event_type = '{{ event_type }}'
        and occurred_at >= {{ dbt.dateadd('day', -49, 'decision_at') }}
    ) as {{ event_type }}_days{{ ',' if not loop.last }}
    {%- endfor %}
from past_events
group by customer_id, decision_date
