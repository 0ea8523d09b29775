select
    action_id,
    family,
    channel,
    face_value,
    message_cost,
    is_control,
    surface,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'actions') }}
