select
    cast(day as date) as day,
    kpi,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'media_kpi') }}
