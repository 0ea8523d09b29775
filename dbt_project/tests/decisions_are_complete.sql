{{ config(meta={'dagster': {'ref': {'name': 'realised_outcomes'}}}) }}

-- Every logged decision has its outcome row.
select decisions.decision_id
from {{ ref('logged_decisions') }} as decisions
left join {{ ref('realised_outcomes') }} as outcomes
    on decisions.decision_id = outcomes.decision_id
where outcomes.decision_id is null
