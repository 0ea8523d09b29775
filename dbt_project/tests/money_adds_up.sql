{{ config(meta={'dagster': {'ref': {'name': 'realised_outcomes'}}}) }}

-- Cost is redemptions plus messages, value is margin times spend, and what was not sent costs no message.
select
    outcomes.decision_id,
    outcomes.cost,
    outcomes.value
from {{ ref('realised_outcomes') }} as outcomes
inner join {{ ref('logged_decisions') }} as decisions
    on outcomes.decision_id = decisions.decision_id
inner join {{ ref('action_catalogue') }} as actions
    on decisions.realised_action_id = actions.action_id
where
    abs(outcomes.cost - outcomes.redemption_cost - outcomes.message_cost) > 1e-9
    or abs(outcomes.value - outcomes.spend * {{ var('margin') }}) > 1e-6
    or (actions.is_control and outcomes.message_cost > 0)
    or outcomes.accounting_spend < outcomes.spend - 1e-9
