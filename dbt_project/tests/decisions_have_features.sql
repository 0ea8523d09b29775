{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'customer_features'}}}) }}

-- A decision about a customer whom nobody knew yet has no features, and is not learned from.
select decisions.decision_id
from {{ ref('logged_decisions') }} as decisions
left join {{ ref('customer_features') }} as features
    on
        decisions.customer_id = features.customer_id
        and decisions.decision_date = features.decision_date
where features.customer_id is null
