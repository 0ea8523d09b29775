select
    cast(day as date) as day,
    channel,
    spend,
    impressions,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'media_spend') }}
