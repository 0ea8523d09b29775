select
    customer_id,
    cast(occurred_at as timestamp) as occurred_at,
    cast(available_at as timestamp) as available_at,
    type as event_type,
    amount,
    decision_id,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'events') }}
