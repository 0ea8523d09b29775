select
    decision_id,
    customer_id,
    cast(decided_at as timestamp) as decided_at,
    cast(decided_at as date) as decision_date,
    surface,
    {{ is_own_surface('surface') }} as is_own,
    eligible_actions,
    eligible_propensities,
    action_id,
    propensity,
    policy_version,
    arm,
    experiment,
    is_exploration,
    cast(decision_date as date) as delivered_date
from {{ source('raw', 'assignments') }}
