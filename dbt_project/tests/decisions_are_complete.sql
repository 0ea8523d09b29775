{{ config(meta={'dagster': {'ref': {'name': 'realised_outcomes'}}}) }}

-- Every logged decision has its outcome row and its features.
select decisions.decision_id
from {{ ref('logged_decisions') }} as decisions
left join {{ ref('realised_outcomes') }} as outcomes
    on decisions.decision_id = outcomes.decision_id
left join {{ ref('customer_features') }} as features
    on
        decisions.customer_id = features.customer_id
        and decisions.decision_date = features.decision_date
where outcomes.decision_id is null or features.customer_id is null
