select
    customer_id,
    cast(occurred_at as timestamp) as occurred_at,
    cast(available_at as timestamp) as available_at,
    type as event_type,
    -- Exact sums whatever the order of the rows: binary fractions would differ between runs.
    cast(amount as decimal(18, 4)) as amount,
    decision_id,
    item,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'events') }}
