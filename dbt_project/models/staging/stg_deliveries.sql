select
    decision_id,
    status,
    realised_action_id,
    cast(delivered_at as timestamp) as delivered_at,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'deliveries') }}
