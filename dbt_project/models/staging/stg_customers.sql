select
    customer_id,
    cast(valid_from as timestamp) as valid_from,
    cast(signed_up_at as timestamp) as signed_up_at,
    cast(available_at as timestamp) as available_at,
    attributes,
    decision_cohort,
    is_holdout,
    is_evaluation,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'customers') }}
