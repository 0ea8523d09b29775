select
    customer_id,
    channel,
    cast(valid_from as timestamp) as valid_from,
    is_allowed,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'contactability') }}
